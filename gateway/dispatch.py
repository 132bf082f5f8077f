"""One text frame in, its answer out. Nothing that an orchestrator sends ends more than itself."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from gateway.commands import Commands, not_yet
from gateway.connection import Connection
from gateway.faults import report
from gateway.in_flight import InFlight
from gateway.metrics import OK, Metrics
from gateway.open_sessions import OpenSessions
from gateway.reporter import Handler
from gateway.uplink import Uplink
from protos import limits, messages, wire
from protos.errors import Internal, InvalidArgument, NotFound, Refusal, ResourceExhausted, Unavailable
from protos.request_id import REQUEST_ID

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 256
"""Commands under way at one time; more are refused, not queued."""

UNREAD_PROGRESS_BYTES = 128 * 1024
"""Output of one exec sent as progress before we wait until the orchestrator has read it."""

SESSION_HANDLERS: Final[dict[type[wire.Payload], Callable[[OpenSessions, Any], None]]] = {
    wire.TerminalInput: lambda sessions, payload: sessions.terminals.input(payload),
    wire.TerminalResize: lambda sessions, payload: sessions.terminals.resize(payload),
    wire.TerminalAck: lambda sessions, payload: sessions.terminals.ack(payload),
    wire.TerminalClose: lambda sessions, payload: sessions.terminals.close(payload),
    wire.DisplayData: lambda sessions, payload: sessions.displays.input(payload),
    wire.DisplayAck: lambda sessions, payload: sessions.displays.ack(payload),
    wire.DisplayClose: lambda sessions, payload: sessions.displays.close(payload),
}
"""Messages of open sessions: handled in order of arrival, without waiting for anything."""


class Dispatch:
    """Runs commands, each in its own task of a group that outlives connections, so that answers do too."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        commands: Commands,
        uplink: Uplink,
        in_flight: InFlight,
        tenant_id: str | None,
        *,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._tasks = tasks
        self._commands = commands
        self._uplink = uplink
        self._in_flight = in_flight
        self._tenant_id = tenant_id
        self._running = 0
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def receive(self, text: str, connection: Connection, sessions: OpenSessions) -> wire.Registered | None:
        """Act on one text frame; returns what only the connection itself can act on."""
        try:
            message = messages.parse_from_orchestrator(text)
        except messages.BadMessage as bad:
            log.debug("< bad message of %d characters: %s", len(text), bad.refusal.code)
            await _refuse(connection, bad.refusal, bad.request_id, bad.session_id)
            return None
        payload = message.payload
        if isinstance(payload, wire.Registered):
            return payload
        request = REQUEST_ID.set(message.id or "")  # tasks that begin meanwhile keep it
        try:
            log.debug("< %s, %d characters", message.type, len(text))
            session_handler = SESSION_HANDLERS.get(type(payload))
            if session_handler is not None:
                session_handler(sessions, payload)
                if message.id is not None:
                    await connection.send(messages.answer_json(message.id, None))
            else:
                self._begin(message, sessions)
        except Refusal as refusal:
            await _refuse(connection, refusal, message.id, getattr(payload, "session_id", None))
        finally:
            REQUEST_ID.reset(request)
        return None

    def _begin(self, message: messages.Message, sessions: OpenSessions) -> None:
        payload = message.payload
        if isinstance(payload, wire.Cancel):
            if message.id is None:
                raise InvalidArgument("A cancel names the request to stop with its id.")
            if sessions.displays.cancel(message.id):
                return
            self._spawn(self._cancel, message.id, name=f"cancel {message.id}")
        elif self._stopping:
            raise Unavailable("This worker is stopping; send it again when it is back.")
        elif isinstance(payload, wire.TerminalOpen):
            self._metrics.opening(message.type, message.id)
            sessions.terminals.open(message.id, payload)
        elif isinstance(payload, wire.DisplayOpen):
            self._metrics.opening(message.type, message.id)
            sessions.displays.open(message.id, payload)
        else:
            handler = self._commands.handlers.get(type(payload))
            if handler is None:
                raise not_yet(message.type)
            self._spawn(self._run, message, handler, name=f"{message.type} {message.id}")

    def _spawn(self, task: Callable[..., Any], *arguments: object, name: str) -> None:
        if self._running >= MAX_IN_FLIGHT:
            raise ResourceExhausted(f"{MAX_IN_FLIGHT} commands are under way on this worker; send it again later.")
        self._running += 1
        self._idle.clear()
        self._tasks.create_task(task(*arguments), name=name).add_done_callback(self._done)

    def _done(self, _: asyncio.Task[None]) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    async def _run(self, message: messages.Message, handler: Handler) -> None:
        tenant_id = getattr(message.payload, "tenant_id", None)
        reporter = _Reporter(self._uplink, message.id)
        begun, code = time.monotonic(), OK
        try:
            with self._in_flight.track(message.id, tenant_id):
                payload = await handler(message.payload, message.id or "", reporter)
            if message.id is None:
                return  # nobody waits for an answer
            frame = messages.answer_json(message.id, payload)
            if len(frame) > limits.MAX_MESSAGE_BYTES:
                raise ResourceExhausted(  # noqa: TRY301 - answered below like every other refusal
                    f"The answer has {len(frame)} bytes, more than a message holds; ask for less at a time."
                )
            log.debug("> %s answered", message.type)
        except Refusal as refusal:
            log.debug("> %s refused: %s: %s", message.type, refusal.code, refusal.message)
            code, frame = refusal.code, _refusal(refusal, message.id, None)
        except Exception as error:  # noqa: BLE001 - a defect in one command ends that command and nothing else
            report(log, message.type, error)
            broken = Internal("The gateway failed at this; its log on the machine says why.")
            code, frame = broken.code, _refusal(broken, message.id, None)
        finally:
            self._metrics.command(message.type, code, time.monotonic() - begun)
        await self._uplink.deliver(f"answer to {message.type} {message.id}", frame)

    async def _cancel(self, request_id: str) -> None:
        # What is not under way here may have been begun by a gateway before this one, for our own tenant.
        here = self._in_flight.tenants(request_id)
        tenants = here or ({self._tenant_id} if self._tenant_id is not None else frozenset[str]())
        try:
            found = [await self._commands.cancel(tenant, request_id) for tenant in tenants]
            if not here and not any(found):
                raise NotFound(f"Nothing with id {request_id} is under way.")  # noqa: TRY301
        except Refusal as refusal:
            await self._uplink.tell(messages.error_json(refusal))
        except Exception as error:  # noqa: BLE001 - as in _run
            report(log, "cancel", error)

    def stop_intake(self) -> None:
        """Refuse new commands from now on; what is under way goes on."""
        self._stopping = True

    async def wait_idle(self) -> None:
        """Wait until no command is under way."""
        await self._idle.wait()

    @property
    def running(self) -> int:
        """How many commands are under way."""
        return self._running


class _Reporter:
    """Sends the progress of one request; of one without id there is none to send."""

    def __init__(self, uplink: Uplink, request_id: str | None) -> None:
        self._uplink = uplink
        self._request_id = request_id
        self._unread_bytes = 0

    async def step(self, progress: wire.StepProgress) -> None:
        if self._request_id is not None:
            await self._uplink.tell(messages.to_json("progress", progress, self._request_id))

    async def output(self, progress: wire.ExecProgress | wire.LogProgress, size: int) -> None:
        if self._request_id is None:
            return
        frame = messages.to_json("progress", progress, self._request_id)
        self._unread_bytes += size
        if self._unread_bytes < UNREAD_PROGRESS_BYTES:
            await self._uplink.tell(frame)
        else:
            self._unread_bytes = 0
            await self._uplink.tell_and_wait(frame)


async def _refuse(connection: Connection, refusal: Refusal, request_id: str | None, session_id: str | None) -> None:
    await connection.send(_refusal(refusal, request_id, session_id))


def _refusal(refusal: Refusal, request_id: str | None, session_id: str | None) -> bytes:
    if request_id is not None:
        return messages.refusal_json(request_id, refusal)
    return messages.error_json(refusal, session_id=session_id)
