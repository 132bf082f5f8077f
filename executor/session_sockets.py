"""The sockets of terminals and displays: takes connections, has each viewer served, says how it ended.

Beside the gRPC service and with its rules: the same directory and mode, the same audit, a bound on what is open.
"""

import asyncio
import logging
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from executor.audit import Audit
from executor.data_dir import DataDir
from executor.redaction import SECRETS
from executor.requests import Request
from executor.rpc import DRAINING
from protos import executor_pb2 as pb
from protos import limits
from protos.errors import DeadlineExceeded, Internal, InvalidArgument, Refusal, ResourceExhausted
from protos.message_stream import Budget, MessageStream
from protos.request_id import REQUEST_ID

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 1000
"""Of all kinds together; the limits on terminals and viewers are lower as a rule."""

_UNREAD_BYTES = 64 * 1024 * 1024
"""What all connections hold of what is not read yet, half messages above all, beyond what each may hold anyway."""

_OPEN_TIMEOUT_S = 10.0
_LINGER_S = 10.0
"""How long a viewer that was told the last there is may take to end the connection; then it is cut."""
_STOP_S = 1.0
"""How long viewers have to read, at the executor's end, that it ends."""

_Request = TypeVar("_Request", bound=Request)
_Viewer = TypeVar("_Viewer")
_Result = TypeVar("_Result")


class SessionKind(ABC, Generic[_Request, _Viewer]):
    """One kind of session: its socket, its messages, and what a connection of it does."""

    socket: ClassVar[str]
    rpc: ClassVar[str]
    """What the audit log calls its opening."""
    end: ClassVar[str]
    """What the audit log calls the end of what was opened."""
    request: ClassVar[type[Any]]
    response: ClassVar[type[Any]]

    @abstractmethod
    def asked(self, opening: Any) -> _Request:  # noqa: ANN401 - the `open` of its messages
        """Return what a connection asks for, validated."""

    @abstractmethod
    async def open(self, asked: _Request) -> _Viewer:
        """Return the viewer that is asked for; cancelled when the connection ends meanwhile."""

    @abstractmethod
    def session_id(self, viewer: _Viewer) -> str:
        """Return the id of the session that a viewer looks at."""

    @abstractmethod
    async def carry(self, viewer: _Viewer, stream: MessageStream[Any, Any]) -> None:
        """Carry bytes in both directions until one side ends; raises `Refusal`, which is then told."""

    @abstractmethod
    def leave(self, viewer: _Viewer) -> None:
        """Note that the connection is gone."""


class SessionSockets:
    """All connections. With ``draining`` set, no new session is opened."""

    def __init__(self, audit: Audit, tasks: asyncio.TaskGroup) -> None:
        self.draining = False
        self._audit = audit
        self._tasks = tasks
        self._unread = Budget(_UNREAD_BYTES)
        self._connections: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    @classmethod
    async def listening(
        cls, data_dir: DataDir, audit: Audit, tasks: asyncio.TaskGroup, kinds: Sequence[SessionKind[Any, Any]]
    ) -> Self:
        """Take connections, each in a task of the group; raises `FailedPrecondition` where others could connect."""
        sockets = cls(audit, tasks)
        for kind in kinds:
            bound = socket.socket(socket.AF_UNIX)
            with data_dir.binding(kind.socket) as path:
                bound.bind(str(path))
            server = await asyncio.get_running_loop().create_unix_server(
                partial(sockets._accept, kind), sock=bound, backlog=MAX_CONNECTIONS
            )
            sockets._servers.append(server)
        return sockets

    async def stop(self) -> None:
        """End all connections, after a moment in which viewers read what they were told."""
        for server in self._servers:
            server.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_STOP_S)
        for task in self._connections:
            task.cancel()

    def _accept(self, kind: SessionKind[Any, Any]) -> MessageStream[Any, Any]:
        stream: MessageStream[Any, Any] = MessageStream(kind.request, self._unread)
        stream.pauses = False  # until it is open: who hangs up meanwhile is to be seen
        stream.on_connected = partial(self._connected, kind, stream)
        return stream

    def _connected(self, kind: SessionKind[Any, Any], stream: MessageStream[Any, Any]) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            # Told and closed at once: one that lingers would count.
            refusal = ResourceExhausted(f"At most {MAX_CONNECTIONS} viewers are connected to this worker: close some.")
            self._note(kind.rpc, _tell(kind, stream, refusal))
            stream.close()
            return
        task = self._tasks.create_task(self._serve(kind, stream), name=kind.rpc)
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, kind: SessionKind[Any, Any], stream: MessageStream[Any, Any]) -> None:
        try:
            await self._converse(kind, stream)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    await stream.finish()
        except Exception:  # as in `_converse`: the task's group is the executor's life
            log.exception("%s failed", kind.rpc)
        finally:
            stream.abort()

    async def _converse(self, kind: SessionKind[Any, Any], stream: MessageStream[Any, Any]) -> None:
        about: dict[str, str] = {}
        rpc, verdict = kind.rpc, "CANCELLED"
        try:
            opening = await _opening(stream)
            if opening is None:
                return
            about["tenant"], about["subject"] = opening.tenant_id, opening.devbox_id
            about["session"] = getattr(opening, "session_id", "")
            sent = opening.request_id
            REQUEST_ID.set(sent if re.fullmatch(limits.REQUEST_ID_PATTERN, sent) else "")
            log.debug("< %s", kind.rpc)
            if self.draining:
                raise DRAINING  # noqa: TRY301 - told below like every other refusal
            asked, size = kind.asked(opening), opening.ByteSize()
            del opening  # before anything is waited for: what is parsed may be forty times as large
            with self._unread.holding(size):
                viewer = await _while_connected(stream, kind.open(asked))
            del asked
            stream.pauses = True
            if viewer is not None:
                try:
                    # Before anybody can type into it.
                    about["session"] = kind.session_id(viewer)
                    self._note(rpc, "OK", **about)
                    rpc = kind.end
                    await kind.carry(viewer, stream)
                finally:
                    kind.leave(viewer)
                verdict = "OK"
        except Exception as error:  # noqa: BLE001 - a defect in one connection ends that connection and nothing else
            verdict = _tell(kind, stream, _refusal_of(error, kind))
        finally:
            self._note(rpc, verdict, **about)

    def _note(self, rpc: str, verdict: str, *, tenant: str = "", subject: str = "", session: str = "") -> None:
        """Write a line: a connection has one for its opening, and one for its end where it was opened."""
        self._audit.note(who="gateway", tenant=tenant, rpc=rpc, subject=subject, verdict=verdict, session=session)


async def _opening(stream: MessageStream[Any, Any]) -> Any:  # noqa: ANN401 - the `open` of any kind
    """Return the `open` that a connection begins with, None if it ended before."""
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            first = await stream.read()
    except TimeoutError:
        raise DeadlineExceeded(f"No `open` came within {_OPEN_TIMEOUT_S:.0f} s.") from None
    if first is None:
        return None
    if first.WhichOneof("message") != "open":
        raise InvalidArgument("The first message of a session's connection is `open`.")
    return first.open


def _tell(kind: SessionKind[Any, Any], stream: MessageStream[Any, Any], refusal: Refusal) -> str:
    """Tell why a connection ends; return the code. Keeps nothing of it: in its frames is what was sent."""
    told = pb.SessionRefused(code=refusal.code.value, message=SECRETS.text(refusal.message))
    stream.write(kind.response(refused=told))
    return told.code


async def _while_connected(stream: MessageStream[Any, Any], work: Coroutine[Any, Any, _Result]) -> _Result | None:
    """Return what the work returns, None if the connection ended meanwhile: then the work was cancelled.

    Work that was through is returned also where the connection broke: it is the caller's to undo.
    """
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work, name="session-opening")
        ended = group.create_task(_over(stream), name="session-connection")
        await asyncio.wait((working, ended), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        working.cancel()
    if not working.cancelled():
        return working.result()
    await stream.ended()  # raises what broke it
    return None


async def _over(stream: MessageStream[Any, Any]) -> None:
    with suppress(Refusal):
        await stream.ended()


def _refusal_of(error: Exception, kind: SessionKind[Any, Any]) -> Refusal:
    while isinstance(error, ExceptionGroup) and error.split(Refusal)[1] is None:
        error = error.exceptions[0]
    if isinstance(error, Refusal):
        log.debug("> %s refused: %s: %s", kind.rpc, error.code, SECRETS.text(error.message))
        return error
    log.error("%s failed", kind.rpc, exc_info=error)
    return Internal("The executor failed at this; its log on the machine says why.")
