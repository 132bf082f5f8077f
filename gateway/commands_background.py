"""Background commands: started, killed, captured."""

import asyncio

from gateway.executor_client import ExecutorClient
from gateway.reporter import Handler, Reporter
from gateway.shell import argv
from protos import executor_pb2 as pb
from protos import wire
from protos.errors import Cancelled, Refusal

DEFAULT_CAPTURE_BYTES = 256 * 1024


class BackgroundCommands:
    """The handlers of background commands.

    Captures change nothing, so the executor's ledger does not know them: they are cancelled here.
    """

    def __init__(self, executor: ExecutorClient) -> None:
        self._executor = executor
        self._captures: dict[tuple[str, str], asyncio.Task[pb.CaptureBackgroundResponse]] = {}
        self.handlers: dict[type[wire.Payload], Handler] = {
            wire.ExecBackground: self._start,
            wire.ExecBackgroundKill: self._kill,
            wire.ExecBackgroundCapture: self._capture,
        }

    def cancel(self, tenant_id: str, request_id: str) -> bool:
        """Stop a capture that waits; return whether there was one."""
        capture = self._captures.get((tenant_id, request_id))
        return capture is not None and capture.cancel()

    async def _start(self, payload: wire.ExecBackground, request_id: str, _: Reporter) -> wire.BackgroundAnswer:
        request = pb.StartBackgroundRequest(
            tenant_id=payload.tenant_id,
            request_id=request_id,
            devbox_id=payload.devbox_id,
            argv=argv(payload.command),
            user=payload.user or "",
            workdir=payload.workdir or "",
            env=payload.env,
            log_bytes=payload.log_bytes or 0,
        )
        return wire.BackgroundAnswer(background_id=await self._executor.start_background(request))

    async def _kill(self, payload: wire.ExecBackgroundKill, request_id: str, _: Reporter) -> wire.BackgroundKillAnswer:
        request = pb.KillBackgroundRequest(
            tenant_id=payload.tenant_id,
            request_id=request_id,
            devbox_id=payload.devbox_id,
            background_id=payload.background_id,
            signal=payload.signal or "",
            grace_seconds=payload.grace_seconds,
        )
        return wire.BackgroundKillAnswer(exit_code=await self._executor.kill_background(request))

    async def _capture(
        self, payload: wire.ExecBackgroundCapture, request_id: str, _: Reporter
    ) -> wire.BackgroundCaptureAnswer:
        request = pb.CaptureBackgroundRequest(
            tenant_id=payload.tenant_id,
            devbox_id=payload.devbox_id,
            background_id=payload.background_id,
            offset=payload.offset,
            max_bytes=payload.max_bytes or DEFAULT_CAPTURE_BYTES,
            wait_ms=payload.wait_ms or 0,
        )
        key = (payload.tenant_id, request_id)
        refused: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                capture = group.create_task(self._executor.capture_background(request), name=f"capture {request_id}")
                if request_id:
                    self._captures[key] = capture
        except* Refusal as refusals:
            refused = refusals.exceptions[0]  # raised here it would come as a group again, until Python 3.11.4
        finally:
            if self._captures.get(key) is capture:
                del self._captures[key]
        if refused is not None:
            raise refused
        if capture.cancelled():
            raise Cancelled("Stopped on request.")
        captured = capture.result()
        # Not validated: a validator would take the bytes for base64.
        return wire.BackgroundCaptureAnswer.model_construct(
            data=captured.data,
            offset=captured.offset,
            next_offset=captured.next_offset,
            running=captured.running,
            exit_code=captured.exit_code if captured.HasField("exit_code") else None,
        )
