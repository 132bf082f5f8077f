"""The way to the executor for all but the bytes of sessions: the only import of gRPC on this side.

Calls in, `Refusal`s out; it keeps no state. Terminals and displays go their own way: `session_streams`.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import grpc
from grpc import aio

from gateway.executor_socket import ExecutorSocket
from protos import executor_pb2 as pb
from protos import limits
from protos.errors import (
    REFUSAL_METADATA,
    REFUSALS,
    DeadlineExceeded,
    ErrorCode,
    Internal,
    Refusal,
    ResourceExhausted,
    Unavailable,
)
from protos.executor_pb2_grpc import ExecutorServiceStub
from protos.request_id import METADATA, REQUEST_ID

if TYPE_CHECKING:
    from protos.executor_pb2_grpc import ExecutorServiceAsyncStub

EXECUTOR_AWAY: Final = (
    "The executor is not running on this machine, so nothing can be done with DevBoxes now; "
    "it is tried again all the time; the worker's log on the machine says more."
)
EXECUTOR_STOPPED: Final = (
    "The executor stopped while it worked on this; it may have been done, so look before you send it again."
)

STATUS_TIMEOUT_S = 1.5  # the engine's answer is cached by the executor; heartbeats do not wait for more
LIST_TIMEOUT_S = 30.0
START_TIMEOUT_S = 120.0
STOP_MARGIN_S = 60.0
DEFAULT_STOP_TIMEOUT_S = 10  # the executor's own default
REMOVE_TIMEOUT_S = 300.0  # volumes of many gigabytes
CREATE_TIMEOUT_S = 2 * 3600.0  # pulls a large image over a thin link
SETUP_MARGIN_S = 600.0  # after its timeout a setup still takes away what it began
BUILD_MARGIN_S = 120.0  # what a build left is removed before its answer comes
EXEC_MARGIN_S = 60.0  # the executor's own timeout ends a command; this one only if the executor is stuck

_CHANNEL_OPTIONS = (
    # Only what is needed to find a restarted executor within a second; all else at its default, see
    # docs/performance.md: no setting paid.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class ExecutorClient:
    """One channel for all calls. Lives as long as the gateway, whether or not the executor is there."""

    def __init__(self, socket: ExecutorSocket) -> None:
        self._socket = socket

    async def __aenter__(self) -> Self:
        self._channel = aio.insecure_channel(f"unix:{self._socket.path}", options=_CHANNEL_OPTIONS)
        self._stub: ExecutorServiceAsyncStub = ExecutorServiceStub(cast("aio.Channel", _Tagging(self._channel)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def get_status(
        self, timeout_s: float = STATUS_TIMEOUT_S, *, wait: bool = False, brief: bool = False
    ) -> pb.GetStatusResponse:
        """Ask how executor and engine are; with ``wait``, wait for an executor that is just starting."""
        with self._call():
            return await self._stub.GetStatus(pb.GetStatusRequest(brief=brief), timeout=timeout_s, wait_for_ready=wait)

    async def metrics(self) -> bytes:
        """Return the executor's figures."""
        with self._call():
            return (await self._stub.GetMetrics(pb.GetMetricsRequest(), timeout=STATUS_TIMEOUT_S)).text

    async def list_sessions(self) -> Sequence[pb.Session]:
        """List the open sessions of all tenants."""
        with self._call():
            answer = await self._stub.ListSessions(pb.ListSessionsRequest(), timeout=STATUS_TIMEOUT_S)
            return answer.sessions

    async def report(self, report: pb.ReportGatewayRequest) -> None:
        """Tell how this gateway's connection is."""
        with self._call():
            await self._stub.ReportGateway(report, timeout=STATUS_TIMEOUT_S)

    async def create(self, request: pb.CreateDevBoxRequest) -> AsyncGenerator[pb.CreateDevBoxResponse, None]:
        """Create a DevBox; close the iterator to give up."""
        with self._call():
            call = self._stub.CreateDevBox(request, timeout=CREATE_TIMEOUT_S)
            try:
                async for response in call:
                    yield response
            finally:
                call.cancel()

    async def start(self, request: pb.StartDevBoxRequest) -> pb.DevBox:
        """Start a DevBox."""
        with self._call():
            return (await self._stub.StartDevBox(request, timeout=START_TIMEOUT_S)).devbox

    async def stop(self, request: pb.StopDevBoxRequest) -> pb.DevBox:
        """Stop a DevBox."""
        asked_s = request.timeout_seconds if request.HasField("timeout_seconds") else DEFAULT_STOP_TIMEOUT_S
        with self._call():
            return (await self._stub.StopDevBox(request, timeout=asked_s + STOP_MARGIN_S)).devbox

    async def remove(self, request: pb.RemoveDevBoxRequest) -> pb.DevBox:
        """Remove a DevBox."""
        with self._call():
            return (await self._stub.RemoveDevBox(request, timeout=REMOVE_TIMEOUT_S)).devbox

    async def list(self, request: pb.ListDevBoxesRequest) -> Sequence[pb.DevBox]:
        """List DevBoxes."""
        with self._call():
            return (await self._stub.ListDevBoxes(request, timeout=LIST_TIMEOUT_S)).devboxes

    async def set_egress(self, request: pb.SetEgressRequest) -> Sequence[str]:
        """Change what a DevBox may reach; returns all names."""
        with self._call():
            return (await self._stub.SetEgress(request, timeout=START_TIMEOUT_S)).allowed_domains

    async def exec(self, request: pb.ExecDevBoxRequest) -> AsyncGenerator[pb.ExecDevBoxResponse, None]:
        """Run a command in a DevBox; close the iterator to give up."""
        timeout_s = (request.timeout_ms or limits.MAX_TIMEOUT_MS) / 1000 + EXEC_MARGIN_S
        with self._call():
            call = self._stub.ExecDevBox(request, timeout=timeout_s)
            try:
                async for response in call:
                    yield response
            finally:
                call.cancel()

    async def setup(self, request: pb.SetupDevBoxRequest) -> AsyncGenerator[pb.SetupDevBoxResponse, None]:
        """Set a DevBox up; close the iterator to give up."""
        timeout_s = (request.timeout_ms or limits.MAX_TIMEOUT_MS) / 1000 + SETUP_MARGIN_S
        with self._call():
            call = self._stub.SetupDevBox(request, timeout=timeout_s)
            try:
                async for response in call:
                    yield response
            finally:
                call.cancel()

    async def list_images(self, request: pb.ListImagesRequest) -> Sequence[pb.Image]:
        """List images."""
        with self._call():
            return (await self._stub.ListImages(request, timeout=LIST_TIMEOUT_S)).images

    async def check_image(self, request: pb.CheckImageRequest) -> pb.Image | None:
        """Return an image, None if there is none."""
        with self._call():
            response = await self._stub.CheckImage(request, timeout=LIST_TIMEOUT_S)
            return response.image if response.HasField("image") else None

    async def delete_image(self, request: pb.DeleteImageRequest) -> Sequence[str]:
        """Delete an image; returns the names and ids that are gone."""
        with self._call():
            return (await self._stub.DeleteImage(request, timeout=REMOVE_TIMEOUT_S)).deleted

    async def upload_context(self, request: pb.UploadContextRequest) -> int:
        """Send a piece of a build context; returns how many bytes the executor has."""
        with self._call():
            return (await self._stub.UploadContext(request, timeout=START_TIMEOUT_S)).offset

    async def build_image(self, request: pb.BuildImageRequest) -> AsyncGenerator[pb.BuildImageResponse, None]:
        """Build an image; close the iterator to give up."""
        timeout_s = (request.timeout_ms or limits.MAX_TIMEOUT_MS) / 1000 + BUILD_MARGIN_S
        with self._call():
            call = self._stub.BuildImage(request, timeout=timeout_s)
            try:
                async for response in call:
                    yield response
            finally:
                call.cancel()

    async def start_background(self, request: pb.StartBackgroundRequest) -> str:
        """Start a background command; returns its id."""
        with self._call():
            return (await self._stub.StartBackground(request, timeout=START_TIMEOUT_S)).background_id

    async def kill_background(self, request: pb.KillBackgroundRequest) -> int | None:
        """Kill a background command; returns its exit code where that is known."""
        asked_s = request.grace_seconds if request.HasField("grace_seconds") else DEFAULT_STOP_TIMEOUT_S
        with self._call():
            response = await self._stub.KillBackground(request, timeout=asked_s + STOP_MARGIN_S)
            return response.exit_code if response.HasField("exit_code") else None

    async def capture_background(self, request: pb.CaptureBackgroundRequest) -> pb.CaptureBackgroundResponse:
        """Read a background command's output."""
        with self._call():
            return await self._stub.CaptureBackground(request, timeout=request.wait_ms / 1000 + STOP_MARGIN_S)

    async def events(self) -> AsyncGenerator[pb.WatchEventsResponse, None]:
        """Watch what happens to DevBoxes by themselves; ends with the executor."""
        with self._call():
            call = self._stub.WatchEvents(pb.WatchEventsRequest(acknowledges=True))
            try:
                async for response in call:
                    yield response
            finally:
                call.cancel()

    async def acknowledge_events(self, event_id: str) -> None:
        """Say that an event and all before it arrived."""
        with self._call():
            await self._stub.AcknowledgeEvents(pb.AcknowledgeEventsRequest(event_id=event_id), timeout=LIST_TIMEOUT_S)

    async def cancel(self, request: pb.CancelWorkRequest) -> bool:
        """Stop work in flight; return whether there was any."""
        with self._call():
            return (await self._stub.CancelWork(request, timeout=LIST_TIMEOUT_S)).found

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """Check the socket before a call, and translate how it fails."""
        self._socket.check()
        begun = self._channel.get_state() is grpc.ChannelConnectivity.READY
        try:
            yield
        except aio.AioRpcError as error:
            raise refusal_of(error.code(), error.details() or "", ours=_is_ours(error), begun=begun) from None


class _Tagging:
    """The channel as the stub sees it: each call carries the id of the command it is made for, for the logs."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Callable[..., Callable[..., Any]]:
        make = getattr(self._channel, name)  # unary_unary and its like

        def method(*arguments: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - gRPC's
            call = make(*arguments, **options)

            def begin(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - gRPC's
                request_id = REQUEST_ID.get()
                return call(*arguments, metadata=((METADATA, request_id),) if request_id else None, **options)

            return begin

        return method


def _is_ours(error: aio.AioRpcError) -> bool:
    return any(key == REFUSAL_METADATA for key, _ in error.trailing_metadata() or ())


def refusal_of(code: grpc.StatusCode, message: str, *, ours: bool, begun: bool) -> Refusal:
    """Translate a gRPC status.

    ``ours``: the executor itself refused, so its sentence is for the caller. ``begun``: the channel was up when the
    call began, so the executor may have acted on it.
    """
    if ours and code.name in ErrorCode.__members__ and message:
        return REFUSALS[ErrorCode(code.name)](message)
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(EXECUTOR_STOPPED if begun else EXECUTOR_AWAY)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded("The executor did not answer in time; it may have been done, so look first.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ResourceExhausted("The executor has too much to do, or this is too large: send less at a time.")
        case _:
            return Internal("The executor failed at this; its log on the machine says why.")
