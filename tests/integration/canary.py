"""The canary: a secret of many DevBoxes here. Wherever else it turns up, a secret of somebody's would have."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

CANARY = "canary-value-9c41d0e7"
SECRET_ENV = {"CANARY": CANARY}


def podman_places(run: Callable[..., str]) -> list[str]:
    """Return where a Podman keeps what it knows: its database, its containers' files, its volumes; no layers."""
    store = json.loads(run("info", "--format", "json"))["store"]
    root, runtime = store["graphRoot"], store["runRoot"]
    return [*(f"{root}/{name}" for name in ("libpod", "overlay-containers", "volumes")), runtime, "/run/libpod"]


def files_with_it(places: Iterable[str | Path]) -> set[str]:
    """Return the files that hold the canary, but for the memory of a running DevBox, where its own programs look."""
    found = subprocess.run(
        ["grep", "-rlF", "--exclude-dir=shm", CANARY, *(str(place) for place in places if Path(place).exists())],
        check=False, capture_output=True, text=True, timeout=120,
    ).stdout.splitlines()  # fmt: skip
    return set(found)


def check_files(data: Path, devbox_ids: Iterable[str], places: Iterable[str | Path]) -> None:
    """Assert that the canary is in one file for each of these DevBoxes, closed to others, and in no other."""
    held = files_with_it(places)
    assert held == {str(data / "secrets" / devbox_id) for devbox_id in devbox_ids}
    assert {Path(path).stat().st_mode & 0o777 for path in held} <= {0o600}


class Watch:
    """Looks at the arguments and the environment of every process outside the DevBoxes, again and again."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.looks = 0

    def look(self) -> None:
        self.looks += 1
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                arguments = (process / "cmdline").read_bytes()
                in_box = (process / "ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
                environment = b"" if in_box else (process / "environ").read_bytes()
                if CANARY.encode() in arguments + environment:
                    self.found.add(f"{process.name} {arguments[:200]!r}")


@asynccontextmanager
async def watching(every_s: float = 0.005) -> AsyncIterator[Watch]:
    watch = Watch()

    async def run() -> None:
        while True:
            watch.look()
            await asyncio.sleep(every_s)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(), name="watch")
        yield watch
        task.cancel()
