"""What the handlers of commands have in common: how each is called, and where its progress goes."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from protos import wire


class Reporter(Protocol):
    """Sends the progress of one request."""

    async def step(self, progress: wire.StepProgress) -> None:
        """Tell of a step."""

    async def output(self, progress: wire.ExecProgress | wire.LogProgress, size: int) -> None:
        """Send ``size`` bytes of output, as fast as they are read."""


Handler = Callable[[Any, str, Reporter], Awaitable[wire.Payload]]
"""Takes a payload of its class, the request's id (or "") and where progress goes; returns the answer's payload."""
