"""What takes part: a terminal that echoes and floods, however its bytes travel."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

ECHO_ARGV = ["sh", "-c", "stty raw -echo; printf READY; exec cat"]
"""Gives every byte back."""

FLOOD_PATH = "/tmp/bench-flood"  # noqa: S108 - in the container
FLOOD_ARGV = ["sh", "-c", f"stty raw -echo; printf READY; while read -r _; do cat {FLOOD_PATH}; done"]
"""Writes the file once for each line it gets."""

READY = b"READY"
STALL_S = 60.0
"""A single wait of the bench that takes longer is a failure, not a measurement."""


@dataclass(frozen=True)
class Flood:
    """A flood as it arrived: complete, not yet looked at."""

    seconds: float
    chunks: list[bytes]


class Terminal(Protocol):
    """One open terminal. One caller at a time."""

    async def echo(self, count: int) -> list[float]:
        """Type ``count`` bytes, each after the echo of the one before; return the seconds each took."""

    async def flood(self, size: int) -> Flood:
        """Ask for the flood and take all of it."""


class Contender(Protocol):
    """A way to a terminal in the container."""

    name: str

    async def open(self, argv: list[str]) -> Terminal:
        """Open a terminal whose program says `READY`, and wait until it did."""

    def server_pids(self) -> list[int]:
        """Return the processes between the engine and the client that are this contender's own."""


async def within(waiting: "asyncio.Future[None]", what: str) -> None:
    """Wait for what must come soon; raises `TimeoutError` that says what did not."""
    try:
        async with asyncio.timeout(STALL_S):
            await waiting
    except TimeoutError:
        raise TimeoutError(f"{what} did not come within {STALL_S:.0f} s") from None
