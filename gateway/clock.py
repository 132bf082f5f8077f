"""The clock of the reconnect loop, as an argument, so that tests read waits instead of sleeping them."""

import asyncio
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, and waiting for some."""

    def now(self) -> float:
        """Return seconds since some moment."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""


class LoopClock:
    """The event loop's clock."""

    def now(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)
