"""All open terminal sessions of this executor, by id: opened here, attached to here, ended here.

A session belongs to the tenant that opened it. It lives until its program ends, it is closed, its DevBox stops, or
nobody has looked at it for a day; an ended one is kept until its viewer has fetched the rest, at most ten minutes. As
long one lives that nobody has come to look at: who asked for it hung up while it was opened.

One with a persistent shell (`executor.persistent`) looks at that shell: closing the session ends the shell too; however
else the session ends, the shell lives on and is found by its name.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from weakref import WeakValueDictionary

from executor import persistent
from executor.config import TerminalLimits
from executor.devbox import DevBox
from executor.devboxes import DevBoxes
from executor.engine import Engine
from executor.ledger import Ledger, Work
from executor.policy import check_tenant
from executor.processes import MARKER_VARIABLE, exit_code, kill_lost, kill_marked, new_marker
from executor.requests import OpenTerminal
from executor.secret_env import SecretEnv
from executor.terminal import Terminal, Viewer
from protos.errors import FailedPrecondition, InvalidArgument, NotFound, Refusal, ResourceExhausted

log = logging.getLogger(__name__)

_SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l")
_ENVIRONMENT = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
_END_TIMEOUT_S = 5.0
_RESIZE_PACE_S = 0.1


class Session:
    """A terminal with the exec behind it and the timers of its life."""

    def __init__(self, terminal: Terminal, box: DevBox, request: OpenTerminal) -> None:
        self.terminal = terminal
        self.container = box.container
        self.user = request.user
        self.request = request
        self.closed = False
        self.marker = new_marker("terminal")
        self.exec_id = ""
        self.size = (request.cols, request.rows)
        self.size_changed = asyncio.Event()
        self.end_wanted = asyncio.Event()
        self.fetched = asyncio.Event()
        self.expiry: asyncio.TimerHandle | None = None


class Sessions:
    """The registry. Its work runs in the executor's task group."""

    def __init__(
        self,
        engine: Engine,
        devboxes: DevBoxes,
        secret_env: SecretEnv,
        ledger: Ledger,
        tasks: asyncio.TaskGroup,
        *,
        tenants: tuple[str, ...],
        limits: TerminalLimits,
        check_quota: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._devboxes = devboxes
        self._secret_env = secret_env
        self._ledger = ledger
        self._tasks = tasks
        self._tenants = tenants
        self._limits = limits
        self._check_quota = check_quota
        self._sessions: dict[str, Session] = {}
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._stopping = asyncio.Event()

    def __len__(self) -> int:
        return len(self._sessions)

    def count(self, tenant: str) -> int:
        """Return how many sessions a tenant has."""
        return sum(session.terminal.tenant == tenant for session in self._sessions.values())

    def terminals(self) -> list[Terminal]:
        """Return all terminals, oldest first; not those that are just being opened, which nobody may attach to yet."""
        return [session.terminal for session in self._sessions.values() if session.terminal.was_attached]

    async def open(self, request: OpenTerminal) -> Viewer:
        """Attach to a session, opening it first where there is none of that id."""
        check_tenant(request.tenant, self._tenants)
        if request.session_id:
            resumed, session_id = await self._ensure(request.session_id, request)
        elif (known := self._persistent(request)) is not None:
            resumed, session_id = True, known
        else:
            resumed, session_id = False, await self._begin(request)
        session = self._of(session_id, request.tenant)
        viewer = session.terminal.attach(request.from_offset if resumed else None, request.window_bytes)
        viewer.resumed = resumed
        if session.expiry is not None:
            session.expiry.cancel()
            session.expiry = None
        if resumed and request.cols and request.rows:
            self.resize(session_id, request.cols, request.rows)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Note that a viewer is gone; the session lives on. Safe to repeat."""
        terminal = viewer.terminal
        session = self._sessions.get(terminal.session_id)
        if session is None or terminal.viewer is not viewer:
            return
        terminal.detach("gone")
        session.expiry = asyncio.get_running_loop().call_later(self._limits.detached_s, session.end_wanted.set)

    def fetched(self, viewer: Viewer) -> None:
        """Note that a viewer has all of an ended session."""
        if session := self._sessions.get(viewer.terminal.session_id):
            session.fetched.set()

    def resize(self, session_id: str, cols: int, rows: int) -> None:
        """Give the terminal a new size; the latest wins."""
        if (session := self._sessions.get(session_id)) and session.size != (cols, rows):
            session.size = (cols, rows)
            session.size_changed.set()

    def close(self, session_id: str) -> None:
        """End a session and its processes. Safe to repeat."""
        if session := self._sessions.get(session_id):
            session.closed = True
            session.end_wanted.set()

    def close_all(self) -> None:
        """End all sessions: the executor's own end takes their streams away."""
        self._stopping.set()
        for session in self._sessions.values():
            session.terminal.detach("The worker is shutting down.")
            session.end_wanted.set()
            session.fetched.set()

    # --- opening --------------------------------------------------------------------------------------------

    def _of(self, session_id: str, tenant: str) -> Session:
        session = self._sessions.get(session_id)
        if session is None or session.terminal.tenant != tenant:
            raise NotFound(f"There is no session {session_id}.")
        return session

    def _persistent(self, request: OpenTerminal) -> str | None:
        """Return the id of the session that looks at the persistent shell asked for."""
        for session_id, session in self._sessions.items():
            asked = session.request
            if (
                request.persistent
                and (asked.tenant, asked.devbox_id, asked.user, asked.persistent)
                == (request.tenant, request.devbox_id, request.user, request.persistent)
                and session.exec_id  # else it is being opened, and may yet fail
                and not (session.terminal.ended_event.is_set() or session.end_wanted.is_set())
            ):
                return session_id
        return None

    async def _ensure(self, session_id: str, request: OpenTerminal) -> tuple[bool, str]:
        """Return (whether the session was there, its id), creating it if it was not."""
        lock = self._opening.setdefault(session_id, asyncio.Lock())
        async with lock:
            if session_id in self._sessions:
                session = self._of(session_id, request.tenant)
                if session.terminal.devbox_id != request.devbox_id:
                    raise InvalidArgument(f"Session {session_id} runs in another DevBox.")
                return True, session_id
            await self._create(session_id, request)
            return False, session_id

    async def _begin(self, request: OpenTerminal) -> str:
        """Create a session under an id of ours, at most once per request id."""

        async def job(_: Work[str, None]) -> str:
            session_id = f"s-{secrets.token_hex(8)}"
            await self._create(session_id, request)
            return session_id

        work: Work[str, None] = self._ledger.begin(request.tenant, request.request_id, request.fingerprint(), job)
        return await work.result()

    async def _create(self, session_id: str, request: OpenTerminal) -> None:
        if not (request.cols and request.rows):
            raise InvalidArgument("cols and rows of a new terminal are at least 1.")
        box = await self._devboxes.get_running(request.tenant, request.devbox_id)
        if len(self._sessions) >= self._limits.max_sessions:
            raise ResourceExhausted(f"This worker holds at most {self._limits.max_sessions} sessions: close some.")
        self._check_quota(request.tenant)
        terminal = Terminal(
            session_id=session_id, tenant=request.tenant, devbox_id=request.devbox_id, limits=self._limits
        )
        session = Session(terminal, box, request)
        # Taken before the first wait, so that the bound above holds however many open at once.
        self._sessions[session_id] = session
        argv = request.argv or _SHELL
        try:
            if request.persistent:
                await persistent.check(self._engine, box, request)
                argv = persistent.command(request.persistent, argv)
                terminal.output(memoryview(await persistent.history(self._engine, box, request)))
            session.exec_id = await self._engine.create_exec(
                box.container,
                (*await self._secret_env.prefix(box, request.env), *argv),
                env={
                    **_ENVIRONMENT,
                    **request.env,
                    MARKER_VARIABLE: session.marker,
                },
                user=request.user,
                workdir=request.workdir,
                tty=True,
            )
            terminal.connect(await self._engine.start_exec(session.exec_id, terminal, tty=True, size=session.size))
        except BaseException as error:
            del self._sessions[session_id]
            if session.exec_id and not isinstance(error, FailedPrecondition) and not self._stopping.is_set():
                # It may have started nevertheless.
                self._tasks.create_task(self._kill(session), name="kill a terminal that was given up")
            raise
        # Who asked may be gone, and then a repeat of the request is all that leads to it.
        session.expiry = asyncio.get_running_loop().call_later(self._limits.ended_s, session.end_wanted.set)
        self._tasks.create_task(self._live(session), name=f"terminal {session_id}")
        log.info("session %s opened in DevBox %s", session_id, box.id)

    # --- living and ending ----------------------------------------------------------------------------------

    async def _live(self, session: Session) -> None:
        """See a session through: resize it, end it when asked, learn its exit code, keep it until it is fetched."""
        terminal = session.terminal
        try:
            await self._until(session, terminal.ended_event, session.end_wanted)
            if not terminal.ended_event.is_set():
                terminal.end()
                await self._kill(session)
            terminal.finish(await exit_code(self._engine, session.exec_id))
            log.info("session %s ended with exit code %s", terminal.session_id, terminal.exit_code)
            if terminal.exit_code == -1:
                await self._kill_lost(session)
            try:
                async with asyncio.timeout(_END_TIMEOUT_S if terminal.is_closed else self._limits.ended_s):
                    await session.fetched.wait()
            except TimeoutError:
                pass
        finally:
            terminal.close()
            terminal.detach("The session has ended.")
            if session.expiry is not None:
                session.expiry.cancel()
            del self._sessions[terminal.session_id]

    async def _until(self, session: Session, *events: asyncio.Event) -> None:
        """Resize as asked until one of the events is set."""
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(event.wait(), name="session-event") for event in events]
            resizing = group.create_task(self._resize(session), name="session-resize")
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in (*waits, resizing):
                task.cancel()

    async def _resize(self, session: Session) -> None:
        while True:
            await session.size_changed.wait()
            # Podman loses the later of two sizes that come within milliseconds, and says nothing: so they go at a
            # pace, and the last one goes twice. A size that the terminal has already sends its program no signal.
            while session.size_changed.is_set():
                session.size_changed.clear()
                await self._set_size(session)
                await asyncio.sleep(_RESIZE_PACE_S)
            await self._set_size(session)

    async def _set_size(self, session: Session) -> None:
        cols, rows = session.size
        try:
            await self._engine.resize_exec(session.exec_id, cols=cols, rows=rows)
        except Refusal as refusal:
            log.warning("session %s keeps its size: %s", session.terminal.session_id, refusal.message)

    async def _kill_lost(self, session: Session) -> None:
        """End the processes of a session whose stream the engine lost; not at our own end, the next one will."""
        killing = kill_lost(self._engine, session.container, session.marker, scope="session", user=session.user)
        async with asyncio.TaskGroup() as group:
            either = [
                group.create_task(killing, name="session-kill"),
                group.create_task(self._stopping.wait(), name="session-stopping"),
            ]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            for task in either:
                task.cancel()

    async def _kill(self, session: Session) -> None:
        """End the session's processes; what cannot be killed is logged and dies with its DevBox."""
        terminal = session.terminal
        try:
            if session.closed and session.request.persistent:
                await persistent.end(self._engine, session.container, session.request)
            await kill_marked(self._engine, session.container, session.marker, scope="session", user=session.user)
            async with asyncio.timeout(_END_TIMEOUT_S):
                await terminal.ended_event.wait()
        except (Refusal, TimeoutError) as error:
            log.warning("session %s: %s", terminal.session_id, error)
            terminal.close()
