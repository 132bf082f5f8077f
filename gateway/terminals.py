"""The terminal sessions of one connection: opens bridges, finds the one a message is for, tells how they end."""

import asyncio
import logging
from collections.abc import Iterator, Sequence

from gateway.connection import Connection
from gateway.executor_client import ExecutorClient
from gateway.in_flight import InFlight
from gateway.metrics import Metrics
from gateway.registry import Registry
from gateway.session import KnownSession, SessionMemory
from gateway.session_streams import SessionStreams
from gateway.shell import argv
from gateway.streams import TerminalBridge
from gateway.uplink import Uplink
from protos import executor_pb2 as pb
from protos import messages, wire
from protos.errors import Refusal

log = logging.getLogger(__name__)

MAX_TERMINALS = 1024
"""Bridges of one connection; the executor's own limit on sessions is lower as a rule."""

INPUT_ACK_DELAY_S = 0.02
"""Acknowledgements of input wait this long for more of their kind: a keystroke's echo goes first."""

RESUME_RETRY_S = 1.0


class Terminals(Registry[TerminalBridge]):
    """Each session lives on in the executor when the connection ends."""

    def __init__(
        self,
        connection: Connection,
        tasks: asyncio.TaskGroup,
        *,
        executor: ExecutorClient,
        streams: SessionStreams,
        uplink: Uplink,
        memory: SessionMemory,
        in_flight: InFlight,
        metrics: Metrics,
        channels: Iterator[int],
        window_bytes: int,
    ) -> None:
        super().__init__(connection, tasks, in_flight, channels, noun="terminal", most=MAX_TERMINALS)
        self._executor = executor
        self._streams = streams
        self._uplink = uplink
        self._memory = memory
        self._metrics = metrics
        self._window_bytes = window_bytes
        self._input_acks: dict[TerminalBridge, int] = {}  # the last one of each session counts
        self._input_acked = asyncio.Event()

    # --- Messages of the orchestrator, in order of arrival; none of these waits ---

    def open(self, request_id: str | None, payload: wire.TerminalOpen) -> None:
        """Open a session or continue one; the answer goes out when the executor has it."""
        request = pb.TerminalOpen(
            tenant_id=payload.tenant_id,
            request_id=request_id or "",
            session_id=payload.session_id or "",
            devbox_id=payload.devbox_id,
            cols=payload.cols,
            rows=payload.rows,
            argv=argv(payload.command) if payload.command is not None else (),
            user=payload.user or "",
            workdir=payload.workdir or "",
            env=payload.env,
            from_offset=payload.from_offset,
            window_bytes=self._window_bytes,
            persistent=payload.persistent or "",
        )
        self._start(request, request_id, None)

    def input(self, payload: wire.TerminalInput) -> None:
        """Type into a session."""
        self._find(payload.session_id).input(payload.data, payload.offset)

    def resize(self, payload: wire.TerminalResize) -> None:
        """Change a session's size."""
        self._find(payload.session_id).resize(payload.cols, payload.rows)

    def ack(self, payload: wire.TerminalAck) -> None:
        """Open a session's window. An acknowledgement that crosses the session's end on its way is no error."""
        bridge = self._sessions.get(payload.session_id)
        if bridge is not None:
            bridge.ack(payload.offset)

    def close(self, payload: wire.TerminalClose) -> None:
        """End a session."""
        self._find(payload.session_id).close()

    # --- Bridges ---

    def _start(self, request: pb.TerminalOpen, request_id: str | None, resuming: KnownSession | None) -> None:
        self._check_room()
        stream = self._streams.terminal()
        self._begin(TerminalBridge(self, self._connection, stream, request, request_id, resuming), request.tenant_id)

    def ended(self, bridge: TerminalBridge) -> None:
        """Forget a bridge and end its task; safe to call twice."""
        super().ended(bridge)
        self._input_acks.pop(bridge, None)

    async def opened(self, bridge: TerminalBridge, opened: pb.TerminalOpened) -> bool:
        """Answer the open; a session that was to be resumed and had to be made anew is not wanted."""
        self._was_opened(bridge)
        request = bridge.open_request
        if bridge.resuming is not None and not opened.resumed:
            await self._tell_exit(bridge.session_id, -1, bridge.resuming.sent)
            return False
        bridge.known = KnownSession(
            bridge.session_id, request.tenant_id, request.devbox_id, request.cols, request.rows, opened.offset
        )
        self._memory.remember(bridge.known)
        log.info(
            "Session %s: %s at offset %d", bridge.session_id, "attached" if opened.resumed else "opened", opened.offset
        )
        if bridge.resuming is not None:
            return True  # Nobody asked, so there is no answer that could carry a channel: its output goes as JSON.
        self._give_channel(bridge)
        if bridge.request_id is not None:
            answer = wire.TerminalOpenAnswer(
                session_id=bridge.session_id,
                offset=opened.offset,
                input_offset=opened.input_offset,
                resumed=opened.resumed,
                end_offset=opened.end_offset,
                channel=bridge.channel or None,
            )
            await self._connection.send(messages.answer_json(bridge.request_id, answer))
            self._metrics.opened(bridge.request_id)
        return True

    async def exited(self, bridge: TerminalBridge, exited: pb.TerminalExited) -> None:
        """Tell the exit, and return when it was read; if the connection is gone, it is told again on the next one."""
        log.info("Session %s: exited with %d", bridge.session_id, exited.exit_code)
        await self._tell_exit(bridge.session_id, exited.exit_code, exited.offset)
        await self._connection.flush_marks()
        await self._connection.round_trip()
        self._forget(bridge)

    async def failed(self, bridge: TerminalBridge, refusal: Refusal) -> None:
        """Tell why a session could not be opened, or is no longer here."""
        if bridge not in self._bridges or (bridge.known and self._sessions.get(bridge.session_id) is not bridge):
            return  # replaced meanwhile: the session is another bridge's
        self._forget(bridge)
        log.info("Session %s: %s: %s", bridge.session_id or "new", refusal.code, refusal.message)
        self.ended(bridge)  # before the message: whoever reads it may open the session again at once
        if bridge.known is None and bridge.request_id is not None:
            await self._connection.send(messages.refusal_json(bridge.request_id, refusal))
            self._metrics.opened(bridge.request_id, refusal.code)
        else:
            await self._connection.send(messages.error_json(refusal, session_id=bridge.session_id or None))

    async def refused(self, bridge: TerminalBridge, refusal: Refusal) -> None:
        """Tell what was refused."""
        frame = messages.error_json(refusal, session_id=bridge.session_id, channel=bridge.channel or None)
        await self._connection.send(frame)

    def input_taken(self, bridge: TerminalBridge, offset: int) -> None:
        """Acknowledge input soon, where that was agreed."""
        if self._connection.acks:
            self._input_acks[bridge] = offset
            self._input_acked.set()

    def _forget(self, bridge: TerminalBridge) -> None:
        if bridge.known is not None:
            self._memory.forget(bridge.known)

    async def _tell_exit(self, session_id: str, exit_code: int, offset: int) -> None:
        payload = wire.TerminalExit(session_id=session_id, exit_code=exit_code, offset=offset)
        await self._uplink.deliver(f"exit of session {session_id}", messages.to_json("terminal.exit", payload))

    # --- The connection's own tasks ---

    async def acknowledge_input(self) -> None:
        """Send acknowledgements of input, gathered; ends with the connection."""
        while True:
            await self._input_acked.wait()
            await asyncio.sleep(INPUT_ACK_DELAY_S)
            self._input_acked.clear()
            acks, self._input_acks = self._input_acks, {}
            for bridge, offset in acks.items():
                payload = wire.TerminalInputAck(session_id=bridge.session_id, offset=offset)
                await self._connection.send(messages.to_json("terminal.inputAck", payload))

    async def resume(self, *, by_itself: bool) -> None:
        """Forget the sessions that have ended; waits for the executor.

        With ``by_itself``, for orchestrators that do not open their sessions again: tell of those, attach the others.
        """
        plan = self._memory.plan(await self._list_sessions(), open_now=frozenset(self._sessions))
        if not by_itself:
            return
        for session in plan.ended:
            log.info("Session %s: ended while there was no connection", session.session_id)
            await self._tell_exit(session.session_id, -1, session.sent)
        for session in plan.attach:
            if session.session_id in self._sessions:
                continue  # opened by the orchestrator while the exits went out
            request = pb.TerminalOpen(
                tenant_id=session.tenant_id,
                session_id=session.session_id,
                devbox_id=session.devbox_id,
                cols=session.cols,
                rows=session.rows,
                from_offset=session.sent,
                window_bytes=self._window_bytes,
            )
            try:
                self._start(request, None, session)
            except Refusal as refusal:
                log.warning("Session %s: not attached: %s", session.session_id, refusal.message)

    async def _list_sessions(self) -> Sequence[pb.Session]:
        while True:
            try:
                return await self._executor.list_sessions()
            except Refusal:
                await asyncio.sleep(RESUME_RETRY_S)
