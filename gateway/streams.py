"""One bridge per terminal."""

import asyncio
import contextlib
from typing import Protocol

from gateway.bridge import Bridge
from gateway.connection import Connection
from gateway.session import KnownSession
from gateway.session_streams import TerminalStream, refusal_of
from protos import executor_pb2 as pb
from protos import frames, messages
from protos.errors import (
    REFUSALS,
    ErrorCode,
    FailedPrecondition,
    Refusal,
    ResourceExhausted,
    Unavailable,
)
from protos.frames import FrameKind
from protos.limits import MAX_PENDING_INPUT_BYTES

CLOSE_TIMEOUT_S = 10.0

DRAWN_TIMEOUT_S = 30.0
"""How long an ended session is kept for a viewer that has not acknowledged its last output: it may come back."""


class Owner(Protocol):
    """Who opened the bridge and hears of its turns."""

    async def opened(self, bridge: "TerminalBridge", opened: pb.TerminalOpened) -> bool:
        """Hear that the session is open, before any of its output; return whether it is wanted."""

    def input_taken(self, bridge: "TerminalBridge", offset: int) -> None:
        """Hear that input below ``offset`` reached the program."""

    async def exited(self, bridge: "TerminalBridge", exited: pb.TerminalExited) -> None:
        """Hear that the program ended; returns once the orchestrator has read that, raises `ConnectionClosed`."""

    async def failed(self, bridge: "TerminalBridge", refusal: Refusal) -> None:
        """Hear that the session is no longer here, or never came to be."""

    async def refused(self, bridge: "TerminalBridge", refusal: Refusal) -> None:
        """Hear that something was refused; the session goes on."""

    def ended(self, bridge: "TerminalBridge") -> None:
        """Hear that the bridge is gone."""


class TerminalBridge(Bridge[pb.AttachTerminalRequest, pb.AttachTerminalResponse]):
    """A session on one connection, from ``terminal.open`` to its exit, its detachment or the connection's end.

    ``resuming`` is what is known of a session that the gateway itself takes up again.
    """

    def __init__(
        self,
        owner: Owner,
        connection: Connection,
        stream: TerminalStream,
        open_request: pb.TerminalOpen,
        request_id: str | None,
        resuming: KnownSession | None,
    ) -> None:
        super().__init__(connection, stream, open_request.session_id, request_id)
        self.known: KnownSession | None = None
        self.open_request = open_request
        self.resuming = resuming
        self._owner = owner
        self._size: tuple[int, int] | None = None  # the last one counts
        self._input_end: int | None = None
        self._drawn = 0  # the highest ack
        self._drawn_or_closing = asyncio.Event()
        self._closing = self._close_sent = False

    # --- From the orchestrator: plain calls, in order of arrival, never waiting ---

    def input(self, data: bytes, offset: int | None) -> None:
        """Type; raises `ResourceExhausted`, and then nothing of it is taken."""
        if not self._has_room(len(data)):
            taken = {} if self._input_end is None else {"inputOffset": self._input_end}
            raise ResourceExhausted(
                f"More than {MAX_PENDING_INPUT_BYTES} bytes of input wait for this terminal; "
                "go on at inputOffset once its program has read them.",
                **taken,
            )
        if offset is None:
            message = pb.TerminalInput(data=data)
            if self._input_end is not None:
                self._input_end += len(data)
        else:
            message = pb.TerminalInput(data=data, offset=offset)
            if offset <= (self._input_end or 0):  # else a gap, which the executor refuses
                self._input_end = max(self._input_end or 0, offset + len(data))
        self._enqueue(len(data), pb.AttachTerminalRequest(input=message))

    def resize(self, cols: int, rows: int) -> None:
        """Change the size."""
        if self.known is not None:
            self.known.cols, self.known.rows = cols, rows
        self._size = (cols, rows)
        self._write()

    def ack(self, offset: int) -> None:
        """Open the session's window up to ``offset``."""
        self._drawn = max(self._drawn, offset)
        self._drawn_or_closing.set()
        super().ack(self._drawn)

    def close(self) -> None:
        """End the session and its processes, after the input that waits."""
        self._closing = True
        self._drawn_or_closing.set()
        self._write()

    def _open_message(self) -> pb.AttachTerminalRequest:
        return pb.AttachTerminalRequest(open=self.open_request)

    def _ack_message(self, offset: int) -> pb.AttachTerminalRequest:
        return pb.AttachTerminalRequest(ack=pb.TerminalAck(offset=offset))

    def _urgent_message(self) -> pb.AttachTerminalRequest | None:
        if self._size is None:
            return None
        cols, rows = self._size
        self._size = None
        return pb.AttachTerminalRequest(resize=pb.TerminalResize(cols=cols, rows=rows))

    def _last_message(self) -> pb.AttachTerminalRequest | None:
        if not self._closing or self._close_sent:
            return None
        self._close_sent = True  # acknowledgements of the last output still follow
        return pb.AttachTerminalRequest(close=pb.TerminalClose())

    # --- From the executor ---

    async def _failed(self, refusal: Refusal) -> None:
        await self._owner.failed(self, refusal)

    def _ended(self) -> None:
        self._owner.ended(self)

    async def _carry(self) -> None:
        first = await self._open()
        if first is None or first.WhichOneof("message") != "opened":
            raise Unavailable("The executor did not open the session; try again.")
        self.session_id = first.opened.session_id
        self._input_end = max(self._input_end or 0, first.opened.input_offset)
        self._drawn = max(self._drawn, first.opened.offset)
        if await self._owner.opened(self, first.opened):
            await self._relay()
            return
        self.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                while (told := await self._stream.read()) is not None and told.WhichOneof("message") != "exited":
                    pass  # Its exit says that the close arrived.

    async def _relay(self) -> None:
        """The hot path: one read, one send."""
        read, send = self._stream.read, self._connection.send_output
        session_id, channel, known = self.session_id, self.channel, self.known
        going = True
        while going and (response := await read()) is not None:
            if response.WhichOneof("message") != "output":
                going = await self._hear(response)
                continue
            output = response.output
            data, offset = output.data, output.offset
            end = offset + len(data)
            if channel:
                frame = frames.encode_header(FrameKind.TERMINAL, channel, offset) + data
                await send(self, end, len(data), frame, text=False)
            else:
                frame = messages.terminal_output_json(session_id, offset, data)
                await send(self, end, len(data), frame, text=True)
            if known is not None:
                known.sent = end
        if going and not self._closing:
            raise Unavailable("The executor let go of this session; open it again.")

    async def _all_drawn(self, end: int) -> None:
        while self._drawn < end and not self._closing:
            self._drawn_or_closing.clear()
            await self._drawn_or_closing.wait()

    async def _hear(self, response: pb.AttachTerminalResponse) -> bool:
        """Act on what is not output; return whether more may follow."""
        match response.WhichOneof("message"):
            case "input_ack":
                self._owner.input_taken(self, response.input_ack.offset)
            case "refusal":
                await self._owner.refused(self, _refusal_of(response.refusal))
            case "exited":
                await self._owner.exited(self, response.exited)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAWN_TIMEOUT_S):
                        await self._all_drawn(response.exited.offset)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_TIMEOUT_S):
                        await self._stream.send(pb.AttachTerminalRequest(fetched=pb.TerminalFetched()))
                return False
            case "refused":
                raise refusal_of(response.refused)
            case "detached":
                raise FailedPrecondition(f"{response.detached.reason} Open the session again to go on.")
        return True


def _refusal_of(refusal: pb.TerminalRefusal) -> Refusal:
    code = ErrorCode(refusal.code) if refusal.code in ErrorCode.__members__ else ErrorCode.INTERNAL
    return REFUSALS[code](refusal.message, inputOffset=refusal.input_offset)
