"""One viewer of a DevBox's display: the bytes of its RFB connection, which a relay in the box carries.

The bytes mean nothing here. Each viewer has a connection to the display's server of its own, so nothing is kept for
the next one. Two rules bound what is held:

* The relay's output is read only as far as ``window_bytes`` beyond what the viewer acknowledged; then the exec's
  stream is paused, and the display's server, which sends only what it is asked for, waits.
* Input that the engine's socket does not take makes the viewer's stream wait, and after a while ends it: RFB has no
  way to leave something out.
"""

import asyncio
from dataclasses import dataclass

from executor.exec_stream import READ_BYTES, Demultiplexer, ExecStream
from protos.errors import InvalidArgument, ResourceExhausted
from protos.limits import MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES, MAX_PENDING_INPUT_BYTES

INPUT_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class DisplayBytes:
    """RFB bytes for the viewer; ``offset`` is that of the first, since the viewer was opened."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class DisplayOver:
    """The viewer is over; last."""

    reason: str


class DisplayViewer:
    """A viewer's state between the relay in the box and the connection. Receives the relay's output as `ExecOutput`.

    Whoever owns the connection calls `next` in turn, and `write` in turn; there is one caller of each.
    """

    def __init__(self, *, session_id: str, tenant: str, devbox_id: str, window_bytes: int) -> None:
        self.session_id = session_id
        self.tenant = tenant
        self.devbox_id = devbox_id
        self.ended_event = asyncio.Event()
        self._window_bytes = window_bytes
        self._stream: ExecStream | None = None
        self._demultiplexer = Demultiplexer()
        self._held = bytearray()  # bounded by the window
        self._sent = 0
        self._acked = 0
        self._over: str | None = None
        self._wake = asyncio.Event()
        self._input_taken = asyncio.Event()

    def connect(self, stream: ExecStream) -> None:
        """Take the relay's stream, once, after it was started."""
        self._stream = stream

    # --- the relay's side: ExecOutput -----------------------------------------------------------------------

    def room(self) -> int:
        """Return how much output may be read now."""
        if self._over is not None:
            return READ_BYTES  # thrown away: the relay must be able to end
        return self._window_bytes - (self._sent + len(self._held) - self._acked)

    def output(self, data: memoryview) -> None:
        """Take output of the relay; what it says on standard error is for nobody."""
        for kind, piece in self._demultiplexer.feed(data):
            if kind == Demultiplexer.STDOUT and self._over is None:
                self._held += piece
        self._wake.set()

    def input_taken(self) -> None:
        """Note that the engine's socket has taken all input."""
        self._input_taken.set()

    def ended(self) -> None:
        """Note that the relay is gone."""
        self.ended_event.set()
        self._input_taken.set()
        self._wake.set()

    # --- the viewer's side ----------------------------------------------------------------------------------

    async def next(self) -> DisplayBytes | DisplayOver:
        """Wait for what the viewer is to be told next."""
        while True:
            if self._over is not None:
                return DisplayOver(self._over)
            if self._held:
                data = bytes(self._held[:MAX_CHUNK_BYTES])
                del self._held[:MAX_CHUNK_BYTES]
                offset, self._sent = self._sent, self._sent + len(data)
                return DisplayBytes(offset, data)
            if self.ended_event.is_set():
                return DisplayOver("The display's server closed the connection; the DevBox may have stopped.")
            self._wake.clear()
            await self._wake.wait()

    def ack(self, offset: int) -> None:
        """Note that the viewer has all bytes below the offset."""
        if offset > self._sent:
            raise InvalidArgument(f"Acknowledged {offset} bytes of a display that has sent {self._sent}.")
        if offset > self._acked:
            self._acked = offset
            if self._stream is not None:
                self._stream.check_room()

    async def write(self, data: bytes) -> None:
        """Send RFB bytes to the display's server, waiting while too many wait; raises `ResourceExhausted`."""
        if len(data) > MAX_MESSAGE_BYTES:
            raise InvalidArgument(f"At most {MAX_MESSAGE_BYTES} bytes at a time; send them in pieces.")
        stream = self._stream
        if stream is None:
            return
        try:
            async with asyncio.timeout(INPUT_TIMEOUT_S):
                while stream.unwritten_bytes > MAX_PENDING_INPUT_BYTES:
                    self._input_taken.clear()
                    await self._input_taken.wait()
        except TimeoutError:
            raise ResourceExhausted("The display's server does not read its input: open the display again.") from None
        stream.write(data)

    # --- the end --------------------------------------------------------------------------------------------

    def finish(self, reason: str) -> None:
        """Tell the viewer that it is over and throw away what still comes. The first reason counts."""
        if self._over is None:
            self._over = reason
            self._held.clear()
        self._wake.set()
        if self._stream is not None:
            self._stream.check_room()
