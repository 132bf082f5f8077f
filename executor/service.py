"""The gRPC servicer: unpack a request, call, pack the answer. All meaning is elsewhere."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar, cast

import grpc
import psutil
from pydantic import BaseModel, ValidationError

from executor import requests
from executor.config import ExecutorConfig
from executor.data_dir import DataDir
from executor.devboxes import DevBox, DevBoxes
from executor.engine import Engine
from executor.engine_service import EngineService
from executor.exec_command import ExecResult, run_command
from executor.ledger import Ledger, Work
from executor.policy import Profile, check_tenant
from executor.sessions import Sessions
from executor.terminal import Detached, Exited, InputAck, Output, Viewer
from protos import executor_pb2 as pb
from protos import executor_pb2_grpc as pb_grpc
from protos.errors import ErrorCode, InvalidArgument, Refusal, Unavailable

log = logging.getLogger(__name__)

_STATUS_TIMEOUT_S = 2.0
_STATUS = {code: grpc.StatusCode[code.value] for code in ErrorCode}
_STATES = {
    "created": pb.DEV_BOX_STATE_CREATED,
    "running": pb.DEV_BOX_STATE_RUNNING,
    "paused": pb.DEV_BOX_STATE_PAUSED,
    "exited": pb.DEV_BOX_STATE_EXITED,
    "removing": pb.DEV_BOX_STATE_REMOVING,
    "dead": pb.DEV_BOX_STATE_DEAD,
}

_R = TypeVar("_R", bound=requests.Request)
_Step = tuple[str, float | None]
_Chunk = tuple[bool, bytes]
_Context = grpc.aio.ServicerContext[Any, Any]
_Answer = TypeVar("_Answer")
_P = TypeVar("_P")
_Checked = TypeVar("_Checked", bound=BaseModel)


class ExecutorService(pb_grpc.ExecutorServiceServicer):
    """What the gateway may ask of the executor; one method per RPC of the contract."""

    def __init__(
        self,
        *,
        config: ExecutorConfig,
        engine: Engine,
        engine_service: EngineService,
        data_dir: DataDir,
        devboxes: DevBoxes,
        sessions: Sessions,
        ledger: Ledger,
    ) -> None:
        self._config = config
        self._engine = engine
        self._engine_service = engine_service
        self._data_dir = data_dir
        self._devboxes = devboxes
        self._sessions = sessions
        self._ledger = ledger
        self.draining = False

    async def GetStatus(self, request: pb.GetStatusRequest, context: _Context) -> pb.GetStatusResponse:  # noqa: ARG002, N802
        """Say how things are; an engine that is away is part of the answer."""
        status = pb.GetStatusResponse(
            container_engines=await self._engine_service.engines(),
            security_floor=cast("pb.Profile", int(self._config.security_floor)),
            sessions=len(self._sessions),
        )
        try:
            info = await self._engine.info(_STATUS_TIMEOUT_S)
            status.engine_version = f"{info.kind} {info.version}"
            running = await self._devboxes.count_running()
            status.containers_running = running
            disk = psutil.disk_usage(info.storage)
            status.disk_total, status.disk_free = disk.total, disk.free
        except Refusal as refusal:
            status.engine_error = refusal.message
        except OSError as error:  # the engine's storage is not visible from here
            log.debug("disk of the engine's storage: %s", error)
        return status

    async def CreateDevBox(  # noqa: N802
        self, request: pb.CreateDevBoxRequest, context: _Context
    ) -> AsyncIterator[pb.CreateDevBoxResponse]:
        """Create a DevBox."""
        async with _refusing(context):
            asked = _checked(
                requests.CreateDevBox,
                tenant=request.tenant_id,
                request_id=request.request_id,
                name=request.name,
                image=request.image,
                profile=_profile(request.profile),
                privileged=request.privileged,
                env=dict(request.env),
                secret_env=dict(request.secret_env),
                memory_bytes=request.resources.memory_bytes or None,
                cpus=request.resources.cpus or None,
                pids=request.resources.pids or None,
                allowed_domains=tuple(request.allowed_domains),
                writable_paths=tuple(request.writable_paths),
                labels=dict(request.labels),
                stopped=request.stopped,
            )

            async def job(work: Work[DevBox, _Step]) -> DevBox:
                async def on_progress(message: str, fraction: float | None) -> None:
                    await work.progress((message, fraction))

                return await self._devboxes.create(asked, on_progress)

            work = self._begin(asked, job)
            async with aclosing(work.steps()) as steps:
                async for message, fraction in steps:
                    yield pb.CreateDevBoxResponse(progress=pb.Progress(message=message, fraction=fraction))
            yield pb.CreateDevBoxResponse(devbox=self._packed(await work.result()))

    async def StartDevBox(self, request: pb.StartDevBoxRequest, context: _Context) -> pb.StartDevBoxResponse:  # noqa: N802
        """Start a DevBox."""
        async with _refusing(context):
            asked = _checked(
                requests.StartDevBox,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
            )
            box = await self._once(asked, lambda: self._devboxes.start(asked))
            return pb.StartDevBoxResponse(devbox=self._packed(box))

    async def StopDevBox(self, request: pb.StopDevBoxRequest, context: _Context) -> pb.StopDevBoxResponse:  # noqa: N802
        """Stop a DevBox."""
        async with _refusing(context):
            asked = _checked(
                requests.StopDevBox,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
                **({"timeout_s": request.timeout_seconds} if request.HasField("timeout_seconds") else {}),
            )
            box = await self._once(asked, lambda: self._devboxes.stop(asked))
            return pb.StopDevBoxResponse(devbox=self._packed(box))

    async def RemoveDevBox(self, request: pb.RemoveDevBoxRequest, context: _Context) -> pb.RemoveDevBoxResponse:  # noqa: N802
        """Remove a DevBox."""
        async with _refusing(context):
            asked = _checked(
                requests.RemoveDevBox,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
                force=request.force,
                keep_volumes=request.keep_volumes,
            )
            box = await self._once(asked, lambda: self._devboxes.remove(asked))
            return pb.RemoveDevBoxResponse(devbox=self._packed(box))

    async def ListDevBoxes(self, request: pb.ListDevBoxesRequest, context: _Context) -> pb.ListDevBoxesResponse:  # noqa: N802
        """List DevBoxes."""
        async with _refusing(context):
            boxes = await self._devboxes.list_boxes(request.tenant_id)
            return pb.ListDevBoxesResponse(devboxes=map(self._packed, boxes))

    async def ExecDevBox(  # noqa: N802
        self, request: pb.ExecDevBoxRequest, context: _Context
    ) -> AsyncIterator[pb.ExecDevBoxResponse]:
        """Run a command."""
        async with _refusing(context):
            asked = _checked(
                requests.ExecDevBox,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
                argv=tuple(request.argv),
                user=request.user,
                workdir=request.workdir,
                env=dict(request.env),
                stdin=request.stdin,
                stream=request.stream,
                **({"max_output_bytes": request.max_output_bytes} if request.max_output_bytes else {}),
                **({"timeout_ms": request.timeout_ms} if request.timeout_ms else {}),
            )

            async def job(work: Work[ExecResult, _Chunk]) -> ExecResult:
                async def on_chunk(is_stderr: bool, data: bytes) -> None:
                    await work.progress((is_stderr, data))

                box = await self._devboxes.get_running(asked.tenant, asked.devbox_id)
                env = self._data_dir.secrets(box.id)
                return await run_command(self._engine, box.container, asked, env, on_chunk if asked.stream else None)

            work = self._begin(asked, job)
            async with aclosing(work.steps()) as steps:
                async for is_stderr, data in steps:
                    yield pb.ExecDevBoxResponse(chunk=pb.ExecChunk(stderr=is_stderr, data=data))
            result = await work.result()
            yield pb.ExecDevBoxResponse(
                result=pb.ExecResult(
                    exit_code=result.exit_code,
                    stdout=result.stdout,
                    stderr=result.stderr,
                    stdout_cut=result.stdout_cut,
                    stderr_cut=result.stderr_cut,
                    duration_ms=result.duration_ms,
                )
            )

    async def CancelWork(self, request: pb.CancelWorkRequest, context: _Context) -> pb.CancelWorkResponse:  # noqa: N802
        """Stop work in flight."""
        async with _refusing(context):
            check_tenant(request.tenant_id, self._config.tenants)
            return pb.CancelWorkResponse(found=self._ledger.cancel(request.tenant_id, request.request_id))

    async def ListSessions(self, request: pb.ListSessionsRequest, context: _Context) -> pb.ListSessionsResponse:  # noqa: ARG002, N802
        """List open sessions."""
        return pb.ListSessionsResponse(
            sessions=[
                pb.Session(
                    session_id=terminal.session_id,
                    tenant_id=terminal.tenant,
                    devbox_id=terminal.devbox_id,
                    base=terminal.scrollback.base,
                    acked=terminal.acked,
                    end=terminal.scrollback.end,
                    input_offset=terminal.input_offset,
                    attached=terminal.viewer is not None,
                )
                for terminal in self._sessions.terminals()
            ]
        )

    async def AttachTerminal(  # type: ignore[override]  # noqa: N802 - written by context.write, not yielded
        self,
        request_iterator: AsyncIterator[pb.AttachTerminalRequest],  # noqa: ARG002 - read and write of the context serve both
        context: _Context,
    ) -> None:
        """Carry one viewer's bytes. However this ends but for an in-band close, the session lives on."""
        async with _refusing(context):
            first = await context.read()
            if first == grpc.aio.EOF or first.WhichOneof("message") != "open":
                raise InvalidArgument("The first message of a terminal stream is `open`.")
            viewer, resumed = await self._open_terminal(first.open)
            try:
                terminal = viewer.terminal
                opened = pb.TerminalOpened(
                    session_id=terminal.session_id,
                    offset=viewer.sent,
                    input_offset=terminal.input_offset,
                    resumed=resumed,
                    end_offset=terminal.scrollback.end,
                )
                await context.write(pb.AttachTerminalResponse(opened=opened))
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(self._read_viewer(viewer, context), name="terminal-requests")
                    writing = group.create_task(self._write_viewer(viewer, context), name="terminal-responses")
                    await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
                    reading.cancel()
                    writing.cancel()
            finally:
                self._sessions.leave(viewer)

    # --- below the RPCs -------------------------------------------------------------------------------------

    async def _open_terminal(self, request: pb.TerminalOpen) -> tuple[Viewer, bool]:
        if self.draining:
            raise _DRAINING
        return await self._sessions.open(
            _checked(
                requests.OpenTerminal,
                tenant=request.tenant_id,
                request_id=request.request_id,
                session_id=request.session_id,
                devbox_id=request.devbox_id,
                cols=request.cols,
                rows=request.rows,
                argv=tuple(request.argv),
                user=request.user,
                workdir=request.workdir,
                env=dict(request.env),
                from_offset=request.from_offset if request.HasField("from_offset") else None,
                window_bytes=request.window_bytes or None,
            )
        )

    async def _write_viewer(self, viewer: Viewer, context: _Context) -> None:
        while True:
            match news := await viewer.next():
                case Output(offset, data):
                    await context.write(pb.AttachTerminalResponse(output=pb.TerminalOutput(offset=offset, data=data)))
                case InputAck(offset):
                    await context.write(pb.AttachTerminalResponse(input_ack=pb.TerminalInputAck(offset=offset)))
                case Exited(exit_code, offset):
                    exited = pb.TerminalExited(exit_code=exit_code, offset=offset)
                    await context.write(pb.AttachTerminalResponse(exited=exited))
                    self._sessions.fetched(viewer)
                    return
                case Detached():
                    await context.write(pb.AttachTerminalResponse(detached=pb.TerminalDetached(reason=news.reason)))
                    return

    async def _read_viewer(self, viewer: Viewer, context: _Context) -> None:
        terminal = viewer.terminal
        while (message := await context.read()) != grpc.aio.EOF:
            try:
                match message.WhichOneof("message"):
                    case "input":
                        offset = message.input.offset if message.input.HasField("offset") else None
                        terminal.write(viewer, offset, message.input.data)
                    case "ack":
                        terminal.ack(viewer, message.ack.offset)
                    case "resize":
                        size = _checked(requests.ResizeTerminal, cols=message.resize.cols, rows=message.resize.rows)
                        self._sessions.resize(terminal.session_id, size.cols, size.rows)
                    case "close":
                        self._sessions.close(terminal.session_id)
                    case _:
                        raise InvalidArgument("A terminal stream takes input, resize, ack and close after `open`.")
            except Refusal as refusal:
                told = pb.TerminalRefusal(
                    code=refusal.code.value, message=refusal.message, input_offset=terminal.input_offset
                )
                await context.write(pb.AttachTerminalResponse(refusal=told))

    def _begin(self, asked: _R, job: Callable[[Work[_Answer, _P]], Awaitable[_Answer]]) -> Work[_Answer, _P]:
        """Enter a request's job in the ledger."""
        if self.draining:
            raise _DRAINING
        check_tenant(asked.tenant, self._config.tenants)
        return self._ledger.begin(asked.tenant, asked.request_id, asked.fingerprint(), job)

    async def _once(self, asked: _R, act: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Do what has no progress at most once per request id."""

        async def job(_: Work[_Answer, None]) -> _Answer:
            return await act()

        return await self._begin(asked, job).result()

    def _packed(self, box: DevBox) -> pb.DevBox:
        return pb.DevBox(
            id=box.id,
            name=box.name,
            tenant_id=box.tenant,
            image=box.image,
            state=_STATES.get(box.state, pb.DEV_BOX_STATE_UNSPECIFIED),
            profile=cast("pb.Profile", int(box.profile)),
            privileged=box.privileged,
            engine=self._engine.kind,
            display=box.display,
            created_at=box.created_at,
            started_at=box.started_at,
            exit_code=box.exit_code,
            labels=box.labels,
        )


_DRAINING = Unavailable("This worker is shutting down: send it again in a moment.")


def _profile(value: int) -> Profile:
    try:
        return Profile(value or Profile.STANDARD)
    except ValueError:
        raise InvalidArgument(f"There is no profile number {value}.") from None


def _checked(kind: type[_Checked], **fields: object) -> _Checked:
    """Return a validated request; raises `InvalidArgument` that names the field."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise requests.refusal_of(error) from None


@asynccontextmanager
async def _refusing(context: _Context) -> AsyncIterator[None]:
    """Turn a `Refusal` into the RPC's status: the one place where ours become gRPC's."""
    try:
        yield
    except Refusal as refusal:
        await context.abort(_STATUS[refusal.code], refusal.message)
    except ExceptionGroup as group:
        refusals, others = group.split(Refusal)
        if others is not None or refusals is None:
            raise
        first = refusals.exceptions[0]
        assert isinstance(first, Refusal)  # noqa: S101 - split by type
        await context.abort(_STATUS[first.code], first.message)
