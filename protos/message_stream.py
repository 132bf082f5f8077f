"""Protobuf messages on a Unix stream socket, each behind its length: how bytes go between gateway and executor.

Terminals and displays have such a connection for each viewer, beside gRPC, which everything else goes over
(docs/decisions/0014-sessions-beside-grpc.md). Both ends are here, so that they cannot disagree.
"""

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar, cast

from google.protobuf.message import DecodeError, Message

from protos import limits
from protos.errors import Internal, InvalidArgument, Refusal, ResourceExhausted

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = limits.MAX_MESSAGE_BYTES + 64 * 1024
"""One message: the longest text message of the WebSocket, and room."""

_UNREAD_BYTES = 256 * 1024
"""Messages that wait to be read; then the socket does."""
_OVERHEAD_BYTES = 128
"""What a waiting message costs besides its bytes, so that empty ones are bounded too."""

_FREE_BYTES = 64 * 1024
"""What each stream holds without asking its budget: an ordinary message is taken even when that is used up."""

_TURN_MESSAGES = 64
"""Handed over at a time; then others have their turn: a read may hold tens of thousands that are next to nothing."""

_NO_MESSAGE = "This is no message of the contract's."
_NO_ROOM = "Too many long messages wait for their rest on this worker: send short ones, or later."
_TOO_SOON = "Too much was sent before the session was open: wait for `opened`."
_LENGTH = struct.Struct("!I")
_READ_BYTES = 256 * 1024
_read_buffer = memoryview(bytearray(_READ_BYTES))
"""Shared by all streams: the loop fills it and hands it over in one step, so no two streams meet in it."""


_In = TypeVar("_In", bound=Message)
_Out = TypeVar("_Out", bound=Message)


class Budget:
    """How much the streams that share it may hold together of what was not read yet, half messages above all, in bytes.

    Bounds what peers can make them hold: each alone may hold a half message of `MAX_MESSAGE_BYTES`.
    """

    def __init__(self, size: int) -> None:
        self.left = size

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count what was read and is kept for a while; raises `ResourceExhausted` where that is too much."""
        size = max(0, size - _FREE_BYTES)
        if size > self.left:
            raise ResourceExhausted(_NO_ROOM)
        self.left -= size
        try:
            yield
        finally:
            self.left += size


class MessageStream(asyncio.BufferedProtocol, Generic[_In, _Out]):
    """One connection: messages of one kind come in, messages of another go out.

    They are read by one task (`read`) or handed over as they come (`deliver`); anyone writes. ``on_connected`` is
    called once it can be written to, ``on_writable`` when there is room again after `is_writable` was false. While too
    much waits to be read the socket rests, and an end is not seen; with ``pauses`` false that breaks the stream.
    What exceeds the ``budget``, if there is one, breaks it too.
    """

    def __init__(self, kind: type[_In], budget: Budget | None = None) -> None:
        self.pauses = True
        self.on_connected: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self._kind = kind
        self._transport: asyncio.Transport | None = None
        self._partial = bytearray()  # less than one message, or what was not parsed because too much waits
        # As bytes: a message can be forty times as large once it is parsed.
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._budget = budget
        self._budgeted = 0  # taken from it
        self._broken: Refusal | None = None
        self._deaf = False  # what still comes is thrown away
        self._over = asyncio.Event()  # nothing more comes
        self._lost = False
        self._receive: Callable[[_In], None] | None = None
        self._paused = False
        self._turn_over = False
        self._full = False
        self._reader: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    # --- reading --------------------------------------------------------------------------------------------

    async def read(self) -> _In | None:
        """Return the next message, None at the end; raises `Refusal` for what is none. One caller at a time."""
        while not self._unread:
            if self._broken is not None:
                raise self._broken
            if self._lost:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self._unread.popleft()
        self._unread_bytes -= len(data) + _OVERHEAD_BYTES
        self._read_on()
        message = self._parsed(data)
        if message is None:
            self._drop()
            raise InvalidArgument(_NO_MESSAGE)
        return message

    def deliver(self, receive: Callable[[_In], None]) -> None:
        """From now on hand each message over as it comes, in place of `read`: no task is woken for it."""
        self._receive = receive
        while self._unread and self._hand_over(self._parsed(self._unread.popleft())):
            pass
        self._unread.clear()
        self._unread_bytes = 0
        self._read_on()

    def _read_on(self) -> None:
        """Go on where too much waited before."""
        self._account()
        if not self._paused or self._unread_bytes > _UNREAD_BYTES // 2:
            return
        self._parse_partial()
        if self._turn_over:
            asyncio.get_running_loop().call_soon(self._read_on)
        elif self._unread_bytes > _UNREAD_BYTES:
            if not self.pauses:
                self.fail(ResourceExhausted(_TOO_SOON))
        elif self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # --- writing --------------------------------------------------------------------------------------------

    @property
    def is_writable(self) -> bool:
        """Whether the peer takes what is written; what is written nevertheless is kept."""
        return self._transport is not None and not self._full and not self._lost

    def write(self, message: _Out) -> None:
        """Send a message, at once where the socket takes it. Whoever writes looks at `is_writable` first."""
        if self._transport is not None and not self._lost:
            data = message.SerializeToString()
            self._transport.write(_LENGTH.pack(len(data)) + data)

    async def send(self, message: _Out) -> None:
        """Send a message and wait until the peer takes more, or is gone. One caller at a time."""
        self.write(message)
        if self._full and not self._lost:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    async def ended(self) -> None:
        """Wait until the connection is over; raises `Refusal` where that is for what came on it."""
        await self._over.wait()
        if self._broken is not None:
            raise self._broken

    async def finish(self) -> None:
        """Say that nothing more is sent and wait until the peer ends the connection; what it sends is thrown away.

        A peer that is writing while the connection is closed forgets what it has not read yet: the last that it was
        told. So it is the peer who closes. No `send` may be waiting.
        """
        self._deaf = True
        self._drop()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._transport.write_eof()
        while not self._lost:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def fail(self, refusal: Refusal) -> None:
        """Take nothing more from this connection: `read` and `ended` raise this. What is written still goes out."""
        self._broken, self._deaf = refusal, True
        self._over.set()
        self._wake(self._reader)

    def close(self) -> None:
        """End the connection; a peer that does not read does not hold it. Safe to repeat."""
        if self._transport is not None and self.is_writable:
            self._transport.close()
        else:
            self.abort()

    def abort(self) -> None:
        """End the connection at once, also one that is not there yet. Safe to repeat."""
        if self._transport is None:
            self._lost = True
        elif not self._lost:  # asyncio's own transport fails at it after some ends
            self._transport.abort()

    # --- asyncio.BufferedProtocol ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit asyncio's class
        self._transport.set_write_buffer_limits(high=0)  # writes at once, and says so when the socket takes no more
        if self._lost:
            self._transport.abort()
        elif self.on_connected is not None:
            self.on_connected()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002, D102
        return _read_buffer

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102
        if self._deaf:
            return
        if self._partial:
            self._partial += _read_buffer[:nbytes]
            self._parse_partial()
        else:
            data = _read_buffer[:nbytes]
            self._partial += data[self._parse(data) :]
            self._account()
        if (self._turn_over or self._unread_bytes > _UNREAD_BYTES) and not self._paused and self._transport is not None:
            self._pause(self._transport)
        self._wake(self._reader)

    def eof_received(self) -> bool:  # noqa: D102
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002, D102
        self._lost = True
        self._account()
        self._over.set()
        self._wake(self._reader)
        self._wake(self._drained)

    def pause_writing(self) -> None:  # noqa: D102
        self._full = True

    def resume_writing(self) -> None:  # noqa: D102
        self._full = False
        self._wake(self._drained)
        if self.on_writable is not None:
            self.on_writable()

    # --- ours -----------------------------------------------------------------------------------------------

    def _pause(self, transport: asyncio.Transport) -> None:
        is_taken = len(self._unread) == 1 and self._reader is not None and not self._reader.done()
        if not (self.pauses or self._turn_over or is_taken):
            self.fail(ResourceExhausted(_TOO_SOON))
            return
        self._paused = True
        transport.pause_reading()
        if self._turn_over:
            asyncio.get_running_loop().call_soon(self._read_on)

    def _parse_partial(self) -> None:
        with memoryview(self._partial) as data:
            done = self._parse(data)
        del self._partial[:done]
        self._account()

    def _parse(self, data: memoryview) -> int:
        """Take whole messages until too much waits or the turn is over; return how many bytes they were."""
        at, have, left = 0, len(data), _TURN_MESSAGES
        self._turn_over = False
        while have - at >= _LENGTH.size and self._unread_bytes <= _UNREAD_BYTES:
            (size,) = _LENGTH.unpack_from(data, at)
            if size > MAX_MESSAGE_BYTES:
                self.fail(ResourceExhausted(f"A message has at most {MAX_MESSAGE_BYTES} bytes; send it in pieces."))
                return have
            end = at + _LENGTH.size + size
            if end > have:
                break
            begin, at = at + _LENGTH.size, end
            if self._receive is None:
                self._unread.append(bytes(data[begin:end]))
                self._unread_bytes += size + _OVERHEAD_BYTES
                continue
            if not self._hand_over(self._parsed(data[begin:end])):
                return have
            left -= 1
            if not left:
                self._turn_over = True
                break
        return at

    def _parsed(self, data: bytes | memoryview) -> _In | None:
        """Return a message; what is none breaks the stream."""
        try:
            # Bytes says its type; any buffer does, and is not copied before it is read.
            return self._kind.FromString(cast("bytes", data))
        except DecodeError:
            self.fail(InvalidArgument(_NO_MESSAGE))
            return None

    def _hand_over(self, message: _In | None) -> bool:
        """Hand a message over, if it is one; return whether the next may follow.

        No view of what was read may be at hand here: an exception that the receiver keeps would keep it too.
        """
        assert self._receive is not None  # noqa: S101 - the caller looked
        if message is None:
            return False
        try:
            self._receive(message)
        except Exception:  # a defect at one message ends this connection and nothing else
            log.exception("A message of %d bytes", message.ByteSize())
            self.fail(Internal("This message could not be handled; the log on the machine says why."))
            return False
        return True

    def _account(self) -> None:
        """Take what is held now from the budget, and give back what no longer is."""
        if self._budget is None:
            return
        # Of a lost connection nothing counts: it is read now, or let go of with the stream.
        held = 0 if self._lost else max(0, len(self._partial) + self._unread_bytes - _FREE_BYTES)
        self._budget.left += self._budgeted - held
        self._budgeted = held
        if self._budget.left < 0:
            self.fail(ResourceExhausted(_NO_ROOM))
            self._drop()

    def _drop(self) -> None:
        """Let go of what was not read."""
        self._partial.clear()
        self._unread.clear()
        self._unread_bytes = 0
        self._account()

    @staticmethod
    def _wake(waiting: "asyncio.Future[None] | None") -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
