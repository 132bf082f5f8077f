"""The line of builds."""

import asyncio

import pytest

from executor.build_queue import BuildQueue
from protos.errors import ResourceExhausted


async def test_builds_take_turns_and_know_their_place() -> None:
    """First come first served; whoever leaves moves the others on, and each is told."""
    queue = BuildQueue(max_waiting=8)
    told: list[tuple[str, int]] = []
    ran: list[str] = []
    gates = {name: asyncio.Event() for name in "abc"}

    async def build(name: str) -> None:
        async def on_wait(before: int) -> None:
            told.append((name, before))

        async with queue.turn(on_wait):
            ran.append(name)
            await gates[name].wait()

    async def settle() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        tasks = {}
        for name in "abc":
            tasks[name] = group.create_task(build(name))
            await settle()
        assert (ran, told) == (["a"], [("b", 1), ("c", 2)])
        tasks["b"].cancel()
        await settle()
        assert told[2:] == [("c", 1)]
        gates["a"].set()
        await settle()
        assert ran == ["a", "c"]
        gates["c"].set()


async def test_the_line_is_bounded() -> None:
    """Beyond it a build is refused instead of waiting."""
    queue = BuildQueue(max_waiting=0)

    async def on_wait(_: int) -> None:
        raise AssertionError

    async with queue.turn(on_wait):
        with pytest.raises(ResourceExhausted, match="wait"):
            async with queue.turn(on_wait):
                pass
    async with queue.turn(on_wait):
        pass
