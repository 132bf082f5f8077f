"""A session on one connection: the executor's stream on one side, frames on the other. What all kinds share.

The hot path of the product. A task, `Bridge.run`, carries what the executor sends, from the stream to the WebSocket;
while that or the orchestrator does not take it, nothing more is read, and the executor stops. What the orchestrator
sends is written at once; where the stream does not take it, it waits, bounded, and never holds up the connection's
reader. No pydantic, no `json`, no log line on the way out.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from typing import Generic, TypeVar

from websockets.exceptions import ConnectionClosed

from gateway.connection import Connection
from gateway.faults import report
from gateway.session_streams import SessionStream, refusal_of
from protos import executor_pb2 as pb
from protos.errors import DeadlineExceeded, Internal, Refusal
from protos.limits import MAX_PENDING_INPUT_BYTES

log = logging.getLogger(__name__)

INPUT_OVERHEAD_BYTES = 256
"""What a waiting message costs besides its bytes, so that thousands of single keys are bounded too."""

PENDING_LIMIT_BYTES = MAX_PENDING_INPUT_BYTES + 64 * 1024
"""A little more than what the executor takes, so that it is the executor who refuses while it is alive."""

OPEN_TIMEOUT_S = 60.0  # a first exec in a box on a busy machine

Request = TypeVar("Request", bound=pb.AttachTerminalRequest | pb.AttachDisplayRequest)
Response = TypeVar("Response", bound=pb.AttachTerminalResponse | pb.AttachDisplayResponse)


class Bridge(ABC, Generic[Request, Response]):
    """One session, from its opening to its end or the connection's. Each kind says what its messages are."""

    def __init__(
        self, connection: Connection, stream: SessionStream[Request, Response], session_id: str, request_id: str | None
    ) -> None:
        self.session_id = session_id  # empty until opened, for a new session without an id
        self.request_id = request_id
        self.channel = 0  # 0: as JSON
        self.is_open = False
        self._connection = connection
        self._stream = stream
        # Input in order; bounded by PENDING_LIMIT_BYTES. Of acks the last counts.
        self._inputs: deque[tuple[int, Request]] = deque()
        self._pending_bytes = 0
        self._ack: int | None = None
        self._is_begun = False
        stream.on_writable = self._write

    # --- From the orchestrator: plain calls, in order of arrival, never waiting ---

    def ack(self, offset: int) -> None:
        """Open the session's window up to ``offset``."""
        self._ack = offset if self._ack is None else max(self._ack, offset)
        self._write()

    def confirm(self, offset: int) -> None:
        """Take a pong, as a `Source`: it acknowledges as well as the orchestrator does."""
        self.ack(offset)

    def abandon(self) -> None:
        """End the stream; safe to call twice."""
        self._stream.abort()

    def _has_room(self, size: int) -> bool:
        return self._pending_bytes + size + INPUT_OVERHEAD_BYTES <= PENDING_LIMIT_BYTES

    def _enqueue(self, size: int, request: Request) -> None:
        cost = size + INPUT_OVERHEAD_BYTES
        self._pending_bytes += cost
        self._inputs.append((cost, request))
        self._write()

    def _write(self) -> None:
        """Send what waits, as far as the stream takes it."""
        while self._is_begun and self._stream.is_writable and (message := self._next_message()) is not None:
            self._stream.write(message)

    def _next_message(self) -> Request | None:
        if self._ack is not None:
            offset, self._ack = self._ack, None
            return self._ack_message(offset)
        if (urgent := self._urgent_message()) is not None:
            return urgent
        if self._inputs:
            cost, message = self._inputs.popleft()
            self._pending_bytes -= cost
            return message
        return self._last_message()

    @abstractmethod
    def _open_message(self) -> Request:
        """Return the first message of the stream."""

    @abstractmethod
    def _ack_message(self, offset: int) -> Request:
        """Return an acknowledgement."""

    def _urgent_message(self) -> Request | None:
        """Return what goes before the input that waits, if there is any."""
        return None

    def _last_message(self) -> Request | None:
        """Return what goes after the input that waits, once, if there is any."""
        return None

    # --- From the executor ---

    async def run(self) -> None:
        """Carry what the executor sends until the end, and tell how it ended."""
        try:
            refusal = await self._carry_or_refusal()
            if refusal is not None:
                await self._failed(refusal)
        except ConnectionClosed:
            pass  # What lives on waits in the executor for the next connection.
        finally:
            self._stream.abort()
            self._ended()

    async def _carry_or_refusal(self) -> Refusal | None:
        try:
            await self._carry()
        except ConnectionClosed:
            raise
        except Refusal as refusal:
            return refusal
        except TimeoutError:
            return DeadlineExceeded("The executor did not open the session in time; try again.")
        except Exception as error:  # noqa: BLE001 - a defect in one bridge ends that bridge and nothing else
            report(log, f"Output of session {self.session_id}", error)
            return Internal("The gateway failed at this session; open it again.")
        return None

    async def _open(self) -> Response | None:
        """Send the first message and return the executor's; raises `Refusal` and `TimeoutError`."""
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await self._stream.connect()
            self._stream.write(self._open_message())
            first = await self._stream.read()
        if first is not None and first.WhichOneof("message") == "refused":
            raise refusal_of(first.refused)
        self._is_begun = True  # not before: the executor takes nothing while it opens
        self._write()
        return first

    @abstractmethod
    async def _carry(self) -> None:
        """Carry all that the executor sends; raises `Refusal` where the session did not come to its own end."""

    @abstractmethod
    async def _failed(self, refusal: Refusal) -> None:
        """Tell that the session is no longer here, or never came to be."""

    @abstractmethod
    def _ended(self) -> None:
        """Tell that the bridge is gone."""
