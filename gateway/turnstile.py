"""Who may write to the socket next: control before data, data in order of arrival.

It stands in for a writer task with queues. Whoever is inside sends by itself, which saves a task switch per frame
and leaves nothing to bound: what waits is the sender, with one frame. Each terminal has one sender, so that order of
arrival is round robin between terminals.
"""

import asyncio
import contextlib
from collections import deque


class Turnstile:
    """Lets in one sender at a time.

    Data can be held back (`hold_data`) while control goes on. Invariant: while nobody is inside, nobody waits who may
    enter. Control could keep data out for ever; it does not, being small and answered by the peer.
    """

    __slots__ = ("_busy", "_control", "_data", "_held")

    def __init__(self) -> None:
        self._busy = False
        self._held = False
        self._control: deque[asyncio.Future[None]] = deque()  # at most one per task that sends
        self._data: deque[asyncio.Future[None]] = deque()  # at most one per terminal

    async def enter(self, *, control: bool) -> None:
        """Wait for the turn; does not suspend when nobody is inside. Whoever entered must `leave`."""
        if not self._busy and (control or not self._held):
            self._busy = True
            return
        queue = self._control if control else self._data
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # already taken out by whoever skipped it
                    queue.remove(turn)
            else:
                self.leave()  # The turn was ours when the cancellation came: pass it on.
            raise

    def leave(self) -> None:
        """Let the next one in."""
        for queue in (self._control,) if self._held else (self._control, self._data):
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._busy = False

    def hold_data(self) -> None:
        """Let no data in until `admit_data`; safe to call twice."""
        self._held = True

    def admit_data(self) -> None:
        """Let data in again; safe to call twice."""
        self._held = False
        if not self._busy:
            self._busy = True
            self.leave()
