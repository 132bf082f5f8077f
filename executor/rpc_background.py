"""RPCs of background commands: unpack, call, pack."""

from executor import requests
from executor.policy import check_tenant
from executor.rpc import Context, Rpcs, checked, refusing
from protos import executor_pb2 as pb


class BackgroundRpcs(Rpcs):
    """Start, kill, capture."""

    async def StartBackground(  # noqa: N802
        self, request: pb.StartBackgroundRequest, context: Context
    ) -> pb.StartBackgroundResponse:
        """Start a background command."""
        async with refusing(context):
            asked = checked(
                requests.StartBackground,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
                argv=tuple(request.argv),
                user=request.user,
                workdir=request.workdir,
                env=dict(request.env),
                **({"log_bytes": request.log_bytes} if request.log_bytes else {}),
            )
            background_id = await self.once(asked, lambda: self.parts.backgrounds.start(asked))
            return pb.StartBackgroundResponse(background_id=background_id)

    async def KillBackground(  # noqa: N802
        self, request: pb.KillBackgroundRequest, context: Context
    ) -> pb.KillBackgroundResponse:
        """Kill a background command."""
        async with refusing(context):
            asked = checked(
                requests.KillBackground,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
                background_id=request.background_id,
                **({"signal": request.signal} if request.signal else {}),
                **({"grace_s": request.grace_seconds} if request.HasField("grace_seconds") else {}),
            )
            exit_code = await self.once(asked, lambda: self.parts.backgrounds.kill(asked))
            return pb.KillBackgroundResponse(exit_code=exit_code)

    async def CaptureBackground(  # noqa: N802
        self, request: pb.CaptureBackgroundRequest, context: Context
    ) -> pb.CaptureBackgroundResponse:
        """Read a background command's output. Not in the ledger: a repeat reads again, and answers are not kept."""
        async with refusing(context):
            asked = checked(
                requests.CaptureBackground,
                tenant=request.tenant_id,
                devbox_id=request.devbox_id,
                background_id=request.background_id,
                offset=request.offset if request.HasField("offset") else None,
                wait_ms=request.wait_ms,
                **({"max_bytes": request.max_bytes} if request.max_bytes else {}),
            )
            check_tenant(asked.tenant, self.parts.config.tenants)
            captured = await self.parts.backgrounds.capture(asked)
            return pb.CaptureBackgroundResponse(
                data=captured.data,
                offset=captured.offset,
                next_offset=captured.offset + len(captured.data),
                running=captured.running,
                exit_code=captured.exit_code,
            )
