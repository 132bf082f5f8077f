"""One worker as this console knows it, connected or not, and what can be asked of it."""

import asyncio
import binascii
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json as dump_json

from console.config import TENANT, ConsoleConfig
from console.displays import Display, Displays, DisplayViewer
from console.outbox import Outbox
from console.requests import OnProgress, Request, Requests
from console.sessions import Session, Sessions, Viewer
from protos import frames, limits
from protos.errors import DeadlineExceeded, Internal, InvalidArgument, Refusal, ResourceExhausted, Unavailable
from protos.messages import BadMessage, Message, Progress, parse_from_worker, to_json
from protos.wire import (
    CAPABILITY_ACK,
    COMMANDS,
    Cancel,
    DevBoxEvent,
    DisplayClosed,
    DisplayData,
    DisplayOpenAnswer,
    ErrorMessage,
    Heartbeat,
    Payload,
    Register,
    Registered,
    Response,
    TenantPayload,
    TerminalExit,
    TerminalInputAck,
    TerminalOpenAnswer,
    TerminalOutput,
)

REQUEST_TIMEOUT_S = 3600

_EVENT_IDS = 1024
"""Ids of a worker's last events that are remembered; more than it tells again at once."""

log = logging.getLogger(__name__)


class WorkerLink:
    """One worker, across its connections: what it says of itself, its open sessions and the commands in flight.

    `connected` says whether a connection is there now. Commands in flight when it drops are sent again, under the
    same id, when the worker returns in time: an id runs at most once, so that never runs anything twice.
    """

    def __init__(self, worker_id: str, config: ConsoleConfig, on_change: Callable[["WorkerLink"], None]) -> None:
        self.id = worker_id
        self.register: Register | None = None
        self.heartbeat: Heartbeat | None = None
        self.since = time.time()  # of the present state, connected or not
        self.connections = 0
        self.sessions = Sessions()
        self.displays = Displays()
        self.on_event: Callable[[WorkerLink, DevBoxEvent], None] = lambda _link, _event: None
        self._event_ids: deque[str] = deque(maxlen=_EVENT_IDS)
        self._config = config
        self._on_change = on_change
        self._requests = Requests()
        self._outbox: Outbox | None = None
        self._binary = False
        self._grace: asyncio.TimerHandle | None = None
        self._present = asyncio.Event()
        self._absent = asyncio.Event()
        self._absent.set()

    # --- Asking -------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the worker has a connection now."""
        return self._outbox is not None

    async def request(
        self,
        kind: str,
        payload: dict[str, Any] | None = None,
        *,
        on_progress: OnProgress | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
        request_id: str | None = None,
        stops_with_caller: bool = True,
    ) -> dict[str, Any]:
        """Send a command and return its answer's payload; raises `Refusal`.

        ``tenantId`` is filled in unless the payload has one. Survives a reconnect of the worker. Giving up the wait
        cancels the command, unless ``stops_with_caller`` is off.
        """
        request = Requests.new(on_progress=on_progress, survives=True, stops_with_caller=stops_with_caller)
        return await self._ask(kind, payload or {}, timeout_s, request_id or Requests.new_id(), request)

    def cancel(self, request_id: str) -> None:
        """Ask the worker to stop a command in flight; its answer says what came of it."""
        if self._outbox is not None:
            self._outbox.put_text(to_json("cancel", Cancel(), request_id))

    async def open_terminal(self, payload: dict[str, Any], viewer: Viewer, *, timeout_s: float = 60) -> dict[str, Any]:
        """Open or continue a terminal for a viewer, taking it from another; raises `Refusal`.

        The viewer's ``attached`` is called before any output of the session.
        """
        payload = {
            "sessionId": f"t-{Requests.new_id()[2:]}",
            **payload,
        }  # ours, so that a lost answer loses nothing
        session_id, devbox_id = payload["sessionId"], payload.get("devboxId")
        if not isinstance(session_id, str) or not isinstance(devbox_id, str):
            raise InvalidArgument("terminal.open needs devboxId, and sessionId if given is a string.")
        self.sessions.opening(session_id, viewer)

        def attach(payload: dict[str, Any]) -> None:
            try:
                answer = TerminalOpenAnswer.model_validate(payload)
            except ValidationError:
                raise Internal("The worker's answer to terminal.open is none.") from None
            session = self.sessions.attach(answer.session_id, devbox_id, answer.channel, viewer)
            viewer.attached(session, answer)
            self._on_change(self)

        request = Requests.new(on_answer=attach, survives=False)
        return await self._ask("terminal.open", payload, timeout_s, Requests.new_id(), request)

    async def open_display(
        self, payload: dict[str, Any], viewer: DisplayViewer, *, timeout_s: float = 60
    ) -> dict[str, Any]:
        """Open a viewer of a DevBox's display; raises `Refusal`. ``opened`` is called before any of its bytes."""
        session_id = payload.get("sessionId")
        if not isinstance(session_id, str):
            raise InvalidArgument("display.open needs a sessionId here.")

        def add(payload: dict[str, Any]) -> None:
            try:
                answer = DisplayOpenAnswer.model_validate(payload)
            except ValidationError:
                raise Internal("The worker's answer to display.open is none.") from None
            self.displays.add(Display(answer.session_id, viewer, answer.channel))

        request = Requests.new(on_answer=add, survives=False)
        try:
            return await self._ask("display.open", payload, timeout_s, Requests.new_id(), request)
        except (TimeoutError, DeadlineExceeded, asyncio.CancelledError):
            self.send("display.close", {"sessionId": session_id})  # it may have been opened nevertheless
            raise

    async def _ask(
        self, kind: str, payload: dict[str, Any], timeout_s: float, request_id: str, request: Request
    ) -> dict[str, Any]:
        if self._outbox is None:
            raise Unavailable("This worker is not connected now.")
        request.frame = _command(kind, payload, request_id)
        self._requests.add(request_id, request)
        self._outbox.put_text(request.frame)
        try:
            async with asyncio.timeout(timeout_s):
                return await request.answer
        except TimeoutError:
            raise DeadlineExceeded(f"The worker did not answer within {timeout_s:.0f} seconds.") from None
        finally:
            if self._requests.forget(request_id) and request.stops_with_caller:
                self.cancel(request_id)

    def send(self, kind: str, payload: dict[str, Any]) -> None:
        """Send a message that asks for no answer; it is lost if the worker is not connected."""
        if self._outbox is not None:
            self._outbox.put_text(_command(kind, payload, None))

    def send_raw(self, text: bytes) -> None:
        """Send a text frame as it is, for tests of what a worker does with it."""
        if self._outbox is not None:
            self._outbox.put_text(text)

    def send_input(self, session: Session, offset: int, data: bytes) -> None:
        """Send keystrokes to a session; whoever typed them keeps them until they are acknowledged."""
        if self._outbox is None:
            return
        if self._binary and session.channel is not None:
            self._outbox.put_binary(frames.encode_header(frames.FrameKind.TERMINAL, session.channel, offset) + data)
        else:
            text = binascii.b2a_base64(data, newline=False).decode()
            self.send("terminal.input", {"sessionId": session.session_id, "data": text, "offset": offset})
        if not self._acks and session.viewer is not None:
            session.viewer.input_acked(session, offset + len(data))  # nobody else ever will

    def send_ack(self, session: Session, offset: int) -> None:
        """Tell the worker that output below this offset is drawn."""
        if self._acks:
            self.send("terminal.ack", {"sessionId": session.session_id, "offset": offset})

    def send_display(self, display: Display, data: bytes) -> None:
        """Send RFB bytes to a display's server."""
        if self._outbox is None:
            return
        for start in range(0, len(data), limits.MAX_CHUNK_BYTES):
            piece = data[start : start + limits.MAX_CHUNK_BYTES]
            if self._binary and display.channel is not None:
                header = frames.encode_header(frames.FrameKind.DISPLAY, display.channel, display.sent_bytes)
                self._outbox.put_binary(header + piece)
            else:
                text = binascii.b2a_base64(piece, newline=False).decode()
                self.send("display.data", {"sessionId": display.session_id, "data": text})
            display.sent_bytes += len(piece)

    def ack_display(self, display: Display, offset: int) -> None:
        """Tell the worker that RFB bytes below this offset are drawn."""
        if self._acks:
            self.send("display.ack", {"sessionId": display.session_id, "offset": offset})

    def close_display(self, display: Display) -> None:
        """End a viewer; safe to call twice."""
        if self.displays.drop(display):
            self.send("display.close", {"sessionId": display.session_id})

    def leave(self, viewer: Viewer) -> None:
        """Detach a viewer that is gone; its sessions stay open."""
        if self.sessions.detach(viewer):
            self._on_change(self)

    def ended(self, session_id: str) -> None:
        """Note that a session was closed on request."""
        if self.sessions.end(session_id) is not None:
            self._on_change(self)

    @property
    def _acks(self) -> bool:
        return self._config.dialect == "full"

    async def wait_connected(self, timeout_s: float = 60) -> None:
        """Return once the worker is connected; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            await self._present.wait()

    async def wait_disconnected(self, timeout_s: float = 60) -> None:
        """Return once the worker is not connected; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            await self._absent.wait()

    # --- The worker's connection, called by `console.worker_socket` ------------------------------------------------

    def connection_made(self, outbox: Outbox, register: Register, *, binary: bool) -> None:
        """Take a new connection, replacing the one that may still be there."""
        if self._outbox is not None:
            self.connection_lost(self._outbox)
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self._outbox, self._binary = outbox, binary
        self.connections += 1
        self.since = time.time()
        self._present.set()
        self._absent.clear()
        if self._acks:
            outbox.put_text(to_json("worker.registered", Registered(worker_id=self.id, capabilities=[CAPABILITY_ACK])))
        for frame in self._requests.surviving_frames():
            outbox.put_text(frame)
        self._registered(register)

    def connection_lost(self, outbox: Outbox) -> None:
        """Give up a connection; one that was replaced already changes nothing."""
        if self._outbox is not outbox:
            return
        self._outbox = None
        outbox.close()
        self.since = time.time()
        self._present.clear()
        self._absent.set()
        self.sessions.connection_lost()
        self.displays.connection_lost()
        gone = Unavailable("The worker lost its connection before it answered.")
        self._requests.fail(gone, survivors_too=False)
        if len(self._requests):
            self._grace = asyncio.get_running_loop().call_later(self._config.reconnect_grace_s, self.give_up)
        self._on_change(self)

    def give_up(self) -> None:
        """End every command in flight."""
        self._requests.fail(
            Unavailable("The worker lost its connection and did not return in time; the command may have run."),
            survivors_too=True,
        )

    def receive(self, text: str) -> None:
        """Take one text frame; one that is no message is logged and changes nothing."""
        try:
            message = parse_from_worker(text)
        except BadMessage as error:
            log.warning("worker %s sent what is no message: %s", self.id, error)
            return
        match message:
            case Response():
                self._requests.answered(message)
            case Progress():
                self._requests.progressed(message)
            case ErrorMessage():
                self._refused(message)
            case Message():
                self._told(message.payload)

    def receive_frame(self, frame: bytes) -> None:
        """Take one binary frame; bytes of a session nobody looks at are dropped: a viewer comes back by offset."""
        try:
            kind, channel, offset, data = frames.decode(frame)
        except Refusal as refusal:
            log.warning("worker %s sent a bad frame: %s", self.id, refusal)
            return
        if kind is frames.FrameKind.DISPLAY:
            self.displays.received(channel=channel, data=data)
            return
        session = self.sessions.of_channel(channel)
        if session is not None and session.viewer is not None:
            session.viewer.output(session, offset, data)

    def _told(self, payload: Payload) -> None:
        match payload:
            case Register():
                self._registered(payload)
            case Heartbeat():
                self.heartbeat = payload
                self._on_change(self)
            case DevBoxEvent():
                self._happened(payload)
            case DisplayData() | DisplayClosed():
                self._told_of_display(payload)
            case TerminalExit() | TerminalOutput() | TerminalInputAck():
                self._told_of_terminal(payload)

    def _happened(self, event: DevBoxEvent) -> None:
        if event.event_id is not None:
            if event.event_id in self._event_ids:
                return  # sent again by a worker that could not know that it had arrived
            self._event_ids.append(event.event_id)
        self.on_event(self, event)

    def _told_of_display(self, payload: DisplayData | DisplayClosed) -> None:
        if isinstance(payload, DisplayData):
            self.displays.received(session_id=payload.session_id, data=payload.data)
        else:
            self.displays.closed(payload.session_id, payload.reason)

    def _told_of_terminal(self, payload: TerminalExit | TerminalOutput | TerminalInputAck) -> None:
        match payload:
            case TerminalExit():
                session = self.sessions.end(payload.session_id)
                if session is not None and session.viewer is not None:
                    session.viewer.exited(session, payload.exit_code, payload.offset)
                self._on_change(self)
            case TerminalOutput():
                session = self.sessions.find(payload.session_id)
                if session is not None and session.viewer is not None:
                    session.viewer.output(session, payload.offset, payload.data)
            case TerminalInputAck():
                session = self.sessions.find(payload.session_id)
                if session is not None and session.viewer is not None:
                    session.viewer.input_acked(session, payload.offset)

    def _registered(self, register: Register) -> None:
        self.register = register
        ours = [state for state in register.sessions if state.tenant_id == TENANT]
        # A worker without an engine just now says nothing of sessions that live on.
        self.sessions.registered(ours, complete=bool(register.container_engines))
        self._on_change(self)

    def _refused(self, message: ErrorMessage) -> None:
        session = self.sessions.find(message.session_id) if message.session_id else None
        if session is not None and session.viewer is not None:
            session.viewer.refused(session, message.error)
        else:
            log.info("worker %s: %s", self.id, message.error.message)


def _command(kind: str, payload: dict[str, Any], request_id: str | None) -> bytes:
    """Return the text frame of a command, with the tenant filled in where the command has one."""
    model = COMMANDS.get(kind)
    if model is not None and issubclass(model, TenantPayload):
        payload = {"tenantId": TENANT, **payload}
    message: dict[str, Any] = {"type": kind, "payload": payload}
    if request_id is not None:
        message["id"] = request_id
    frame = dump_json(message, inf_nan_mode="null")
    if len(frame) > limits.MAX_MESSAGE_BYTES:
        raise ResourceExhausted(f"A command is at most {limits.MAX_MESSAGE_BYTES} bytes; this one has {len(frame)}.")
    return frame
