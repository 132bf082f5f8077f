"""The service for the machine's owner, on a socket of its own that no gateway can reach.

gRPC does not tell from which socket a call came, so this is a server of its own, with a service of its own: what only
the owner may do is not one check away from what everybody may.
"""

import os
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated

import grpc
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from executor.data_dir import DataDir
from executor.rpc import Context, checked, refusing
from executor.rpc_audit import AuditInterceptor
from executor.service import ExecutorService
from protos import executor_pb2 as pb
from protos import executor_pb2_grpc as pb_grpc
from protos import limits
from protos.errors import FailedPrecondition

_MAX_RPCS = 16


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    devbox_id: Annotated[str, StringConstraints(pattern=limits.ID_PATTERN)]
    timeout_s: Annotated[int, Field(ge=0, le=600)] = 10


class OperatorService(pb_grpc.OperatorServiceServicer):
    """What the machine's owner may ask. It names no tenant: whoever may enter the directory owns the machine."""

    def __init__(self, service: ExecutorService) -> None:
        self._service = service
        self._parts = service.parts
        self._started_at = datetime.now(UTC)

    async def ShowWorker(self, request: pb.ShowWorkerRequest, context: Context) -> pb.ShowWorkerResponse:  # noqa: ARG002, N802
        """Say how the worker is."""
        async with refusing(context):
            parts = self._parts
            terminals = parts.sessions.terminals()
            shown = pb.ShowWorkerResponse(
                status=await self._service.GetStatus(pb.GetStatusRequest(), context),
                pid=os.getpid(),
                started_at=self._started_at.isoformat(timespec="seconds"),
                tenants=list(parts.config.tenants),
                mode=parts.config.mode,
                sessions=[
                    pb.Session(
                        session_id=terminal.session_id,
                        tenant_id=terminal.tenant,
                        devbox_id=terminal.devbox_id,
                        base=terminal.scrollback.base,
                        acked=terminal.acked,
                        end=terminal.scrollback.end,
                        attached=terminal.viewer is not None,
                    )
                    for terminal in terminals
                ],
                displays=len(parts.displays),
                scrollback_bytes=sum(terminal.scrollback.end - terminal.scrollback.base for terminal in terminals),
                draining=self._service.draining,
            )
            if self._service.gateway_report is not None:
                report, told_at = self._service.gateway_report
                shown.gateway.CopyFrom(report)
                shown.gateway_age_seconds = monotonic() - told_at
            return shown

    async def ListAllDevBoxes(  # noqa: N802
        self,
        request: pb.ListAllDevBoxesRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.ListAllDevBoxesResponse:
        """List all DevBoxes."""
        async with refusing(context):
            boxes = await self._parts.devboxes.all()
            return pb.ListAllDevBoxesResponse(devboxes=[self._service.packed(box) for box in boxes])

    async def StopAnyDevBox(self, request: pb.StopAnyDevBoxRequest, context: Context) -> pb.StopAnyDevBoxResponse:  # noqa: N802
        """Stop a DevBox."""
        async with refusing(context):
            timeout = {"timeout_s": request.timeout_seconds} if request.HasField("timeout_seconds") else {}
            asked = checked(_Asked, devbox_id=request.devbox_id, **timeout)
            with self._parts.devboxes.watchlist.for_owner(asked.devbox_id):
                box = await self._parts.devboxes.stop_any(asked.devbox_id, asked.timeout_s)
            return pb.StopAnyDevBoxResponse(devbox=self._service.packed(box))

    async def RemoveAnyDevBox(  # noqa: N802
        self, request: pb.RemoveAnyDevBoxRequest, context: Context
    ) -> pb.RemoveAnyDevBoxResponse:
        """Remove a DevBox."""
        async with refusing(context):
            asked = checked(_Asked, devbox_id=request.devbox_id)
            with self._parts.devboxes.watchlist.for_owner(asked.devbox_id):
                box = await self._parts.devboxes.remove_any(asked.devbox_id, keep_volumes=request.keep_volumes)
            return pb.RemoveAnyDevBoxResponse(devbox=self._service.packed(box))


def check_directory(data_dir: DataDir) -> None:
    """Raise `FailedPrecondition` where others than the executor's user could enter."""
    found = data_dir.operator.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise FailedPrecondition(
            f"{data_dir.operator} must belong to the executor's user alone (chmod 700); it belongs to user "
            f"{found.st_uid} with mode {found.st_mode & 0o777:o}."
        )


async def serve(service: ExecutorService, data_dir: DataDir, audit: AuditInterceptor) -> None:
    """Serve the machine's owner until cancelled."""
    path = data_dir.operator / "rpc.sock"
    path.unlink(missing_ok=True)
    server = grpc.aio.server(interceptors=(audit,), maximum_concurrent_rpcs=_MAX_RPCS)
    pb_grpc.add_OperatorServiceServicer_to_server(OperatorService(service), server)
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
    finally:
        os.umask(before)
    try:
        await server.start()
        await server.wait_for_termination()
    finally:
        await server.stop(grace=None)
