"""The gRPC service: all RPCs of the contract. Each unpacks a request, calls, packs the answer; meaning is elsewhere."""

import logging
import time
from typing import cast

import psutil

from executor.gateway_report import GatewayReport
from executor.policy import check_tenant
from executor.rpc import Context, checked, refusing
from executor.rpc_background import BackgroundRpcs
from executor.rpc_devboxes import DevBoxRpcs
from executor.rpc_events import EventRpcs
from executor.rpc_images import ImageRpcs
from executor.rpc_setup import SetupRpcs
from executor.rpc_terminals import TerminalRpcs
from protos import executor_pb2 as pb
from protos.errors import InvalidArgument, Refusal

log = logging.getLogger(__name__)

_STATUS_TIMEOUT_S = 1.0
"""The gateway's heartbeats do not wait much longer."""


class ExecutorService(DevBoxRpcs, SetupRpcs, BackgroundRpcs, ImageRpcs, TerminalRpcs, EventRpcs):
    """What the gateway may ask of the executor; one method per RPC of the contract."""

    gateway_report: tuple[pb.ReportGatewayRequest, float] | None = None
    """What the gateway said last of its connection, and when by the monotonic clock."""

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: ARG002, N802
        """Say how things are; an engine that is away is part of the answer."""
        engines = set(await self.parts.engine_service.engines())
        if info := self.parts.engine.known:
            engines.add(info.kind)  # of a socket at another place than engines put theirs
        status = pb.GetStatusResponse(
            container_engines=sorted(engines, reverse=True),
            security_floor=cast("pb.Profile", int(self.parts.config.security_floor)),
            sessions=len(self.parts.sessions),
            draining=self.parts.data_dir.draining,
        )
        try:
            if request.brief:
                await self.parts.engine.ping(_STATUS_TIMEOUT_S)
                return status
            # The cheapest call that tells us something is also the check that the engine answers.
            status.containers_running = await self.parts.devboxes.count_running(_STATUS_TIMEOUT_S)
            if info:
                status.engine_version = f"{info.kind} {info.version}"
                disk = psutil.disk_usage(info.storage)
                status.disk_total, status.disk_free = disk.total, disk.free
        except Refusal as refusal:
            status.engine_error = refusal.message
        except OSError as error:  # the engine's storage is not visible from here
            log.debug("disk of the engine's storage: %s", error)
        return status

    async def ReportGateway(  # noqa: N802
        self, request: pb.ReportGatewayRequest, context: Context
    ) -> pb.ReportGatewayResponse:
        """Keep what the gateway says of its connection, for the machine's owner."""
        async with refusing(context):
            texts = {name: getattr(request, name) for name in GatewayReport.model_fields}
            told = checked(GatewayReport, **texts)
            if not told.since or bool(told.last_error) != bool(told.last_error_at):
                raise InvalidArgument("A report says since when, and of an error both what and when.")
            self.gateway_report = (request, time.monotonic())
            return pb.ReportGatewayResponse()

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: Context) -> pb.GetMetricsResponse:  # noqa: ARG002, N802
        """Give the figures of this process."""
        async with refusing(context):
            return pb.GetMetricsResponse(text=await self.parts.engine.metrics.text(self._figures))

    def _figures(self) -> dict[str, float]:
        parts = self.parts
        terminals = parts.sessions.terminals()
        return {
            "sessions": len(terminals),
            "displays": len(parts.displays),
            "scrollback_bytes": sum(terminal.scrollback.end - terminal.scrollback.base for terminal in terminals),
            "engine_up": float(parts.engine.known is not None),
            "work_in_flight": parts.ledger.running,
        }

    async def CancelWork(self, request: pb.CancelWorkRequest, context: Context) -> pb.CancelWorkResponse:  # noqa: N802
        """Stop work in flight."""
        async with refusing(context):
            check_tenant(request.tenant_id, self.parts.config.tenants)
            return pb.CancelWorkResponse(found=self.parts.ledger.cancel(request.tenant_id, request.request_id))
