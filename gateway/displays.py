"""The viewers of displays on one connection: opens them, finds the one a message is for, tells how they end."""

import asyncio
import logging
from collections.abc import Iterator

from gateway.bridge import Bridge
from gateway.connection import Connection
from gateway.in_flight import InFlight
from gateway.metrics import Metrics
from gateway.registry import Registry
from gateway.session_streams import DisplayStream, SessionStreams, refusal_of
from gateway.uplink import Uplink
from protos import executor_pb2 as pb
from protos import frames, messages, wire
from protos.errors import Cancelled, InvalidArgument, Refusal, ResourceExhausted, Unavailable
from protos.frames import FrameKind

log = logging.getLogger(__name__)

MAX_DISPLAYS = 256
"""Bridges of one connection; the executor's own limit on viewers is lower."""

CONNECTION_LOST = "The worker's connection was cut; open the display again."


class DisplayBridge(Bridge[pb.AttachDisplayRequest, pb.AttachDisplayResponse]):
    """A viewer's RFB connection, from ``display.open`` to its end or the connection's. Nothing of it outlives that."""

    def __init__(
        self,
        owner: "Displays",
        connection: Connection,
        stream: DisplayStream,
        open_request: pb.DisplayOpen,
        session_id: str,
        request_id: str | None,
    ) -> None:
        super().__init__(connection, stream, session_id, request_id)
        self._owner = owner
        self._open_request = open_request
        self._input_end = 0
        self._failure: Refusal | None = None

    def input(self, data: bytes, offset: int | None) -> None:
        """Send RFB bytes. Where some are missing or too many wait, the viewer fails: RFB cannot leave any out."""
        if offset is not None and offset != self._input_end:
            self.fail(InvalidArgument(f"Bytes from {offset} came where those from {self._input_end} were due."))
        elif not self._has_room(len(data)):
            self.fail(ResourceExhausted("The display did not take its input in time; open it again."))
        else:
            self._input_end += len(data)
            self._enqueue(len(data), pb.AttachDisplayRequest(data=data))

    def fail(self, refusal: Refusal) -> None:
        """End the viewer for this reason."""
        self._failure = self._failure or refusal
        self.abandon()

    def _open_message(self) -> pb.AttachDisplayRequest:
        return pb.AttachDisplayRequest(open=self._open_request)

    def _ack_message(self, offset: int) -> pb.AttachDisplayRequest:
        return pb.AttachDisplayRequest(ack=pb.DisplayAck(offset=offset))

    async def _carry(self) -> None:
        first = await self._open()
        if self._failure is not None:
            raise self._failure
        if first is None or first.WhichOneof("message") != "opened":
            raise Unavailable("The executor did not open the display; try again.")
        self.session_id = self.session_id or first.opened.session_id
        await self._owner.opened(self)
        await self._relay()

    async def _relay(self) -> None:
        read, send, channel = self._stream.read, self._connection.send_output, self.channel
        while (response := await read()) is not None:
            match response.WhichOneof("message"):
                case "ended":
                    raise Unavailable(response.ended.reason)
                case "refused":
                    raise refusal_of(response.refused)
            data, offset = response.data.data, response.data.offset
            end = offset + len(data)
            if channel:
                frame = frames.encode_header(FrameKind.DISPLAY, channel, offset) + data
                await send(self, end, len(data), frame, text=False)
            else:
                await send(self, end, len(data), messages.display_data_json(self.session_id, data), text=True)
        raise self._failure or Unavailable("The executor let go of this display; open it again.")

    async def _failed(self, refusal: Refusal) -> None:
        await self._owner.failed(self, refusal)

    def _ended(self) -> None:
        self._owner.ended(self)


class Displays(Registry[DisplayBridge]):
    """Each viewer ends with its stream and with the connection."""

    def __init__(
        self,
        connection: Connection,
        tasks: asyncio.TaskGroup,
        *,
        streams: SessionStreams,
        uplink: Uplink,
        in_flight: InFlight,
        metrics: Metrics,
        channels: Iterator[int],
        window_bytes: int,
    ) -> None:
        super().__init__(connection, tasks, in_flight, channels, noun="display", most=MAX_DISPLAYS)
        self._streams = streams
        self._uplink = uplink
        self._metrics = metrics
        self._window_bytes = window_bytes
        self._lost: list[str] = []  # bounded by MAX_DISPLAYS: filled when the connection ends

    # --- Messages of the orchestrator, in order of arrival; none of these waits ---

    def open(self, request_id: str | None, payload: wire.DisplayOpen) -> None:
        """Open a viewer; the answer goes out when the executor has it."""
        self._check_room()
        request = pb.DisplayOpen(
            tenant_id=payload.tenant_id,
            devbox_id=payload.devbox_id,
            width=payload.width or 0,
            height=payload.height or 0,
            window_bytes=self._window_bytes,
            request_id=request_id or "",
        )
        stream = self._streams.display()
        session_id = payload.session_id or ""
        if (old := self._sessions.get(session_id)) is not None:
            old.is_open = False  # replaced: its end is not told under an id that lives on
            self.ended(old)
        bridge = DisplayBridge(self, self._connection, stream, request, session_id, request_id)
        self._begin(bridge, payload.tenant_id)

    def cancel(self, request_id: str) -> bool:
        """Stop an opening under way; return whether there was any."""
        for bridge in self._bridges:
            if bridge.request_id == request_id and not bridge.is_open:
                bridge.fail(Cancelled("Stopped on request."))
                return True
        return False

    def input(self, payload: wire.DisplayData) -> None:
        """Send RFB bytes to a display's server."""
        self._find(payload.session_id).input(payload.data, None)

    def ack(self, payload: wire.DisplayAck) -> None:
        """Open a viewer's window."""
        self._find(payload.session_id).ack(payload.offset)

    def close(self, payload: wire.DisplayClose) -> None:
        """End a viewer."""
        bridge = self._find(payload.session_id)
        bridge.is_open = False  # whoever asked need not be told
        self.ended(bridge)

    # --- What a bridge tells ---

    async def opened(self, bridge: DisplayBridge) -> None:
        """Answer the open, ahead of any bytes."""
        self._was_opened(bridge)
        self._give_channel(bridge)
        log.info("Display %s: opened", bridge.session_id)
        if bridge.request_id is not None:
            answer = wire.DisplayOpenAnswer(session_id=bridge.session_id, channel=bridge.channel or None)
            await self._connection.send(messages.answer_json(bridge.request_id, answer))
            self._metrics.opened(bridge.request_id)

    async def failed(self, bridge: DisplayBridge, refusal: Refusal) -> None:
        """Tell why a display could not be opened, or is over."""
        if bridge not in self._bridges:
            return  # closed on request, or replaced
        log.info("Display %s: %s: %s", bridge.session_id or "new", refusal.code, refusal.message)
        was_open, bridge.is_open = bridge.is_open, False
        self.ended(bridge)
        if was_open:
            await self._uplink.deliver(f"end of display {bridge.session_id}", _closed(bridge, refusal.message))
        elif bridge.request_id is not None:
            await self._connection.send(messages.refusal_json(bridge.request_id, refusal))
            self._metrics.opened(bridge.request_id, refusal.code)

    def ended(self, bridge: DisplayBridge) -> None:
        """Forget a bridge and end its task; safe to call twice."""
        if bridge in self._bridges and bridge.is_open:
            self._lost.append(bridge.session_id)
        super().ended(bridge)

    async def tell_lost(self) -> None:
        """Tell, on the next connection, of the viewers that ended with this one."""
        for session_id in self._lost:
            payload = wire.DisplayClosed(session_id=session_id, reason=CONNECTION_LOST)
            await self._uplink.deliver(f"end of display {session_id}", messages.to_json("display.closed", payload))
        self._lost.clear()


def _closed(bridge: DisplayBridge, reason: str) -> bytes:
    return messages.to_json("display.closed", wire.DisplayClosed(session_id=bridge.session_id, reason=reason))
