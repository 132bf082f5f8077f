"""Whose turn it is to build: one at a time, first come first served, and everybody knows how many are before them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from protos.errors import ResourceExhausted


class BuildQueue:
    """The line of builds. The first in it builds, the others wait; one that gives up leaves the line."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._line: list[asyncio.Event] = []

    @asynccontextmanager
    async def turn(self, on_wait: Callable[[int], Awaitable[None]]) -> AsyncIterator[None]:
        """Wait for one's turn, telling ``on_wait`` how many come before whenever that changes."""
        if len(self._line) > self._max_waiting:
            raise ResourceExhausted(f"{len(self._line)} builds wait on this worker already; send it again later.")
        moved = asyncio.Event()
        self._line.append(moved)
        try:
            while True:
                moved.clear()
                before = self._line.index(moved)
                if not before:
                    break
                await on_wait(before)
                await moved.wait()
            yield
        finally:
            self._line.remove(moved)
            for other in self._line:
                other.set()
