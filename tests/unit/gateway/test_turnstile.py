"""Turnstile: one inside, control before data, data in order of arrival, nothing lost by cancellation."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.turnstile import Turnstile


class Gate:
    """Senders that note when they got in, and leave at once."""

    def __init__(self) -> None:
        self.turnstile = Turnstile()
        self.entered: list[str] = []

    async def send(self, name: str, *, control: bool = False) -> None:
        """Pass through once."""
        await self.turnstile.enter(control=control)
        self.entered.append(name)
        self.turnstile.leave()


async def settle(done: Callable[[], bool] = lambda: False) -> None:
    """Let all tasks run that can."""
    for _ in range(20):
        if done():
            return
        await asyncio.sleep(0)


async def test_an_idle_turnstile_lets_in_without_suspending() -> None:
    """Entering an idle turnstile takes no turn of the event loop."""
    turnstile = Turnstile()

    with pytest.raises(StopIteration):
        turnstile.enter(control=False).send(None)


async def test_control_goes_before_data_and_each_in_order() -> None:
    """Whoever waits longest goes first within its class; control overtakes data."""
    gate = Gate()
    await gate.turnstile.enter(control=False)
    async with asyncio.TaskGroup() as tasks:
        for name, control in (("d1", False), ("d2", False), ("c1", True), ("d3", False), ("c2", True)):
            tasks.create_task(gate.send(name, control=control))
        await settle()
        gate.turnstile.leave()

    assert gate.entered == ["c1", "c2", "d1", "d2", "d3"]


async def test_terminals_that_flood_take_turns() -> None:
    """Two senders that always have more alternate: round robin."""
    gate = Gate()

    async def flood(name: str) -> None:
        for _ in range(5):
            await gate.turnstile.enter(control=False)
            gate.entered.append(name)
            await asyncio.sleep(0)  # the socket takes its time
            gate.turnstile.leave()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(flood("a"))
        tasks.create_task(flood("b"))

    assert gate.entered == ["a", "b"] * 5


async def test_a_cancelled_waiter_leaves_no_gap() -> None:
    """A waiter that is cancelled does not hold up those behind it."""
    gate = Gate()
    await gate.turnstile.enter(control=False)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(gate.send("first"))
        tasks.create_task(gate.send("second"))
        await settle()
        first.cancel()
        await settle()
        gate.turnstile.leave()

    assert gate.entered == ["second"]


async def test_a_turn_given_to_a_task_that_is_then_cancelled_is_passed_on() -> None:
    """The turn handed over and the cancellation in the same moment: the next one still gets in."""
    gate = Gate()
    await gate.turnstile.enter(control=False)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(gate.send("first"))
        tasks.create_task(gate.send("second"))
        await settle()
        gate.turnstile.leave()
        first.cancel()

    assert gate.entered == ["second"]


async def test_a_waiter_cancelled_before_its_turn_is_skipped() -> None:
    """The cancellation first and the turn in the same moment: the next one still gets in."""
    gate = Gate()
    await gate.turnstile.enter(control=False)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(gate.send("first"))
        tasks.create_task(gate.send("second"))
        await settle()
        first.cancel()
        gate.turnstile.leave()

    assert gate.entered == ["second"]


async def test_held_data_waits_while_control_passes() -> None:
    """Holding data back stops no control, and admitting it lets it all through in order."""
    gate = Gate()
    gate.turnstile.hold_data()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gate.send("d1"))
        tasks.create_task(gate.send("d2"))
        await settle()
        tasks.create_task(gate.send("c", control=True))
        await settle()
        held = list(gate.entered)
        gate.turnstile.admit_data()

    assert held == ["c"]
    assert gate.entered == ["c", "d1", "d2"]


async def test_admitting_data_twice_or_while_busy_lets_in_only_one() -> None:
    """There is one inside at any time, whatever is admitted meanwhile."""
    gate = Gate()
    gate.turnstile.hold_data()
    await gate.turnstile.enter(control=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gate.send("d"))
        await settle()
        gate.turnstile.admit_data()
        gate.turnstile.admit_data()
        await settle()
        inside = list(gate.entered)
        gate.turnstile.leave()

    assert inside == []
    assert gate.entered == ["d"]
