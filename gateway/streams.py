"""One bridge per terminal: the executor's stream on one side, frames on the other.

The hot path of the product. Output goes from `TerminalStream.read` to the socket in the same task; while the socket
or the orchestrator does not take it, nothing more is read, and the executor stops. No pydantic, no `json`, no log line
on that way.
"""

import asyncio
import contextlib
import logging
from collections import deque
from typing import Protocol

from websockets.exceptions import ConnectionClosed

from gateway.connection import Connection
from gateway.executor_client import TerminalStream
from gateway.faults import report
from gateway.session import KnownSession
from protos import executor_pb2 as pb
from protos import frames, wire
from protos.errors import (
    REFUSALS,
    DeadlineExceeded,
    ErrorCode,
    FailedPrecondition,
    Internal,
    Refusal,
    ResourceExhausted,
    Unavailable,
)
from protos.frames import FrameKind
from protos.limits import MAX_PENDING_INPUT_BYTES

log = logging.getLogger(__name__)

INPUT_OVERHEAD_BYTES = 256
"""What a waiting message costs besides its bytes, so that thousands of single keys are bounded too."""

PENDING_LIMIT_BYTES = MAX_PENDING_INPUT_BYTES + 64 * 1024
"""A little more than what the executor takes, so that it is the executor who refuses while it is alive."""

OPEN_TIMEOUT_S = 60.0  # a first exec in a box on a busy machine
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


class TerminalBridge:
    """A session on one connection, from ``terminal.open`` to its exit, its detachment or the connection's end.

    Two tasks: `run` carries output, `pump` carries input. Input waits, bounded, for a stream that does not take it,
    and never holds up the connection's reader.
    """

    def __init__(
        self, owner: Owner, connection: Connection, stream: TerminalStream, open_request: pb.TerminalOpen
    ) -> None:
        self.session_id = open_request.session_id  # empty until opened, for a new session without an id
        self.channel = 0  # 0: as JSON
        self.known: KnownSession | None = None
        self.open_request = open_request
        self._owner = owner
        self._connection = connection
        self._stream = stream
        # Input in order; bounded by PENDING_LIMIT_BYTES, beyond it is refused. Of acks and sizes the last counts.
        self._inputs: deque[pb.AttachTerminalRequest] = deque()
        self._pending_bytes = 0
        self._ack: int | None = None
        self._drawn = 0  # the highest of them
        self._size: tuple[int, int] | None = None
        self._closing = False
        self._input_end: int | None = None
        self._close_sent = False
        self._wake: asyncio.Future[None] | None = None
        self._drawn_or_closing = asyncio.Event()

    # --- From the orchestrator: plain calls, in order of arrival, never waiting ---

    def input(self, data: bytes, offset: int | None) -> None:
        """Type; raises `ResourceExhausted`, and then nothing of it is taken."""
        cost = len(data) + INPUT_OVERHEAD_BYTES
        if self._pending_bytes + cost > PENDING_LIMIT_BYTES:
            taken = {} if self._input_end is None else {"inputOffset": self._input_end}
            raise ResourceExhausted(
                f"More than {MAX_PENDING_INPUT_BYTES} bytes of input wait for this terminal; "
                "go on at inputOffset once its program has read them.",
                **taken,
            )
        self._pending_bytes += cost
        if offset is None:
            message = pb.TerminalInput(data=data)
            if self._input_end is not None:
                self._input_end += len(data)
        else:
            message = pb.TerminalInput(data=data, offset=offset)
            if offset <= (self._input_end or 0):  # else a gap, which the executor refuses
                self._input_end = max(self._input_end or 0, offset + len(data))
        self._inputs.append(pb.AttachTerminalRequest(input=message))
        self._awake()

    def resize(self, cols: int, rows: int) -> None:
        """Change the size."""
        if self.known is not None:
            self.known.cols, self.known.rows = cols, rows
        self._size = (cols, rows)
        self._awake()

    def ack(self, offset: int) -> None:
        """Open the session's window up to ``offset``."""
        self._ack = self._drawn = max(self._drawn, offset)
        self._drawn_or_closing.set()
        self._awake()

    confirm = ack  # as a `Source`: a pong acknowledges as well as the orchestrator does

    def close(self) -> None:
        """End the session and its processes, after the input that waits."""
        self._closing = True
        self._drawn_or_closing.set()
        self._awake()

    @property
    def closing(self) -> bool:
        """Whether the orchestrator asked for the end."""
        return self._closing

    def abandon(self) -> None:
        """End the stream, which detaches the session; safe to call twice."""
        self._stream.cancel()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def pump(self) -> None:
        """Carry input to the executor until the stream takes no more."""
        write = self._stream.write
        try:
            going = await write(pb.AttachTerminalRequest(open=self.open_request))
            while going:
                if self._ack is not None:
                    request = pb.AttachTerminalRequest(ack=pb.TerminalAck(offset=self._ack))
                    self._ack = None
                elif self._size is not None:
                    cols, rows = self._size
                    request = pb.AttachTerminalRequest(resize=pb.TerminalResize(cols=cols, rows=rows))
                    self._size = None
                elif self._inputs:
                    request = self._inputs.popleft()
                    self._pending_bytes -= len(request.input.data) + INPUT_OVERHEAD_BYTES
                elif self._closing and not self._close_sent:
                    request = pb.AttachTerminalRequest(close=pb.TerminalClose())
                    self._close_sent = True  # acknowledgements of the last output still follow
                else:
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
                    continue
                going = await write(request)
        except Exception as error:  # noqa: BLE001 - a defect in one bridge ends that bridge and nothing else
            report(log, f"Input of session {self.session_id}", error)
            self._stream.cancel()

    # --- From the executor ---

    async def run(self) -> None:
        """Carry output to the orchestrator until the end, and tell how it ended."""
        try:
            refusal = await self._carry_or_refusal()
            if refusal is not None:
                await self._owner.failed(self, refusal)
        except ConnectionClosed:
            pass  # The session waits in the executor for the next connection.
        finally:
            self._stream.cancel()
            self._owner.ended(self)

    async def _carry_or_refusal(self) -> Refusal | None:
        try:
            await self._carry()
        except ConnectionClosed:
            raise
        except Refusal as refusal:
            return refusal
        except TimeoutError:
            return DeadlineExceeded("The executor did not open the session in time; try again.")
        except Exception as error:  # noqa: BLE001 - as in pump
            report(log, f"Output of session {self.session_id}", error)
            return Internal("The gateway failed at this session; open it again.")
        return None

    async def _carry(self) -> None:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            first = await self._stream.read()
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
                while await self._stream.read() is not None:
                    pass  # The end of the stream says that the close arrived.

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
                frame = wire.terminal_output_json(session_id, offset, data)
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
                        await self._stream.finish()
                return False
            case "detached":
                raise FailedPrecondition(f"{response.detached.reason} Open the session again to take it back.")
        return True


def _refusal_of(refusal: pb.TerminalRefusal) -> Refusal:
    code = ErrorCode(refusal.code) if refusal.code in ErrorCode.__members__ else ErrorCode.INTERNAL
    return REFUSALS[code](refusal.message, inputOffset=refusal.input_offset)
