"""The registry of viewers: whom it lets in."""

import asyncio
from types import SimpleNamespace

import pytest

from executor.config import DisplayLimits
from executor.displays import Displays
from executor.requests import OpenDisplay
from protos.errors import ResourceExhausted


async def test_viewers_are_bounded_while_they_open() -> None:
    """However many open at once, one too many is refused, and a place is free again when an opening fails."""
    starting = asyncio.Event()

    class DevBoxes:
        async def get_running(self, *_: str) -> SimpleNamespace:
            return SimpleNamespace(id="b", name="box", image="image", display=True, container="c")

    class Engine:
        async def create_exec(self, *_: object, **__: object) -> str:
            await starting.wait()
            raise ConnectionError

    class SecretEnv:
        async def prefix(self, _: object) -> tuple[str, ...]:
            return ()

    async with asyncio.TaskGroup() as tasks:
        displays = Displays(
            Engine(),
            DevBoxes(),
            SecretEnv(),
            tasks,
            limits=DisplayLimits(max_viewers=2),
            check_quota=lambda _: None,  # type: ignore[arg-type]
        )
        request = OpenDisplay(tenant="t", devbox_id="b")
        opening = [tasks.create_task(displays.open(request)) for _ in range(2)]
        while len(displays) < 2:
            await asyncio.sleep(0)

        with pytest.raises(ResourceExhausted, match="At most 2 viewers"):
            await displays.open(request)
        for task in opening:
            task.cancel()
        await asyncio.wait(opening)
        assert len(displays) == 0
