"""What each command of the orchestrator means: one call of the executor, and its answer.

Policy is the executor's: here fields change their names and nothing else.
"""

import contextlib

from gateway import answers, commands_setup
from gateway.commands_background import BackgroundCommands
from gateway.commands_images import ImageCommands
from gateway.executor_client import ExecutorClient
from gateway.reporter import Handler, Reporter
from gateway.shell import argv
from protos import executor_pb2 as pb
from protos import wire
from protos.errors import Internal, Unimplemented

DEFAULT_MAX_OUTPUT_BYTES = 256 * 1024
"""Of each output stream of an exec, where the request names no other: both fit one message, as base64 too."""


class Commands:
    """The commands that are one call of the executor and outlive the connection they came on."""

    def __init__(self, executor: ExecutorClient) -> None:
        self._executor = executor
        self._background = BackgroundCommands(executor)
        self.handlers: dict[type[wire.Payload], Handler] = {
            wire.DevBoxCreate: self._create,
            wire.DevBoxStart: self._start,
            wire.DevBoxStop: self._stop,
            wire.DevBoxRemove: self._remove,
            wire.DevBoxList: self._list,
            wire.DevBoxListAll: self._list_all,
            wire.DevBoxEgress: self._egress,
            wire.DevBoxExec: self._exec,
            **commands_setup.handlers(executor),
            **ImageCommands(executor).handlers,
            **self._background.handlers,
        }

    async def cancel(self, tenant_id: str, request_id: str) -> bool:
        """Stop work in flight; return whether there was any."""
        if self._background.cancel(tenant_id, request_id):
            return True
        return await self._executor.cancel(pb.CancelWorkRequest(tenant_id=tenant_id, request_id=request_id))

    async def _create(self, payload: wire.DevBoxCreate, request_id: str, reporter: Reporter) -> wire.DevBoxAnswer:
        resources = payload.resources
        request = pb.CreateDevBoxRequest(
            tenant_id=payload.tenant_id,
            request_id=request_id,
            name=payload.name,
            image=payload.image,
            profile=answers.PROFILES[payload.profile] if payload.profile else pb.PROFILE_UNSPECIFIED,
            privileged=payload.privileged,
            env=payload.env,
            secret_env=payload.secret_env,
            resources=pb.Resources(
                memory_bytes=resources.memory_bytes or 0, cpus=resources.cpus or 0.0, pids=resources.pids or 0
            ),
            allowed_domains=payload.allowed_domains,
            writable_paths=payload.writable_paths,
            labels=payload.labels,
            stopped=not payload.start,
        )
        async with contextlib.aclosing(self._executor.create(request)) as events:
            async for event in events:
                if event.HasField("progress"):
                    await reporter.step(answers.progress(event.progress))
                else:
                    return wire.DevBoxAnswer(devbox=answers.devbox(event.devbox))
        raise Internal("The executor ended the creation without a DevBox; list before you repeat it.")

    async def _start(self, payload: wire.DevBoxStart, request_id: str, _: Reporter) -> wire.DevBoxAnswer:
        request = pb.StartDevBoxRequest(tenant_id=payload.tenant_id, request_id=request_id, devbox_id=payload.devbox_id)
        return wire.DevBoxAnswer(devbox=answers.devbox(await self._executor.start(request)))

    async def _stop(self, payload: wire.DevBoxStop, request_id: str, _: Reporter) -> wire.DevBoxAnswer:
        request = pb.StopDevBoxRequest(
            tenant_id=payload.tenant_id,
            request_id=request_id,
            devbox_id=payload.devbox_id,
            timeout_seconds=payload.timeout_seconds,
        )
        return wire.DevBoxAnswer(devbox=answers.devbox(await self._executor.stop(request)))

    async def _remove(self, payload: wire.DevBoxRemove, request_id: str, _: Reporter) -> wire.DevBoxAnswer:
        request = pb.RemoveDevBoxRequest(
            tenant_id=payload.tenant_id,
            request_id=request_id,
            devbox_id=payload.devbox_id,
            force=payload.force,
            keep_volumes=not payload.remove_volumes,
        )
        return wire.DevBoxAnswer(devbox=answers.devbox(await self._executor.remove(request)))

    async def _list(self, payload: wire.DevBoxList, _: str, __: Reporter) -> wire.DevBoxesAnswer:
        boxes = await self._executor.list(pb.ListDevBoxesRequest(tenant_id=payload.tenant_id))
        return wire.DevBoxesAnswer(devboxes=[answers.devbox(box) for box in boxes])

    async def _list_all(self, _: wire.DevBoxListAll, __: str, ___: Reporter) -> wire.DevBoxesAnswer:
        boxes = await self._executor.list(pb.ListDevBoxesRequest())
        return wire.DevBoxesAnswer(devboxes=[answers.devbox(box) for box in boxes])

    async def _egress(self, payload: wire.DevBoxEgress, request_id: str, _: Reporter) -> wire.EgressAnswer:
        request = pb.SetEgressRequest(
            tenant_id=payload.tenant_id,
            request_id=request_id,
            devbox_id=payload.devbox_id,
            allowed_domains=payload.allowed_domains,
            cut=payload.cut,
        )
        return wire.EgressAnswer(allowed_domains=list(await self._executor.set_egress(request)))

    async def _exec(self, payload: wire.DevBoxExec, request_id: str, reporter: Reporter) -> wire.ExecAnswer:
        request = pb.ExecDevBoxRequest(
            tenant_id=payload.tenant_id,
            request_id=request_id,
            devbox_id=payload.devbox_id,
            argv=argv(payload.command),
            user=payload.user or "",
            workdir=payload.workdir or "",
            env=payload.env,
            stdin=payload.stdin,
            stream=payload.stream,
            max_output_bytes=payload.max_output_bytes or DEFAULT_MAX_OUTPUT_BYTES,
            timeout_ms=payload.timeout_ms or 0,
        )
        async with contextlib.aclosing(self._executor.exec(request)) as events:
            async for event in events:
                if event.HasField("chunk"):
                    await reporter.output(answers.exec_progress(event.chunk), len(event.chunk.data))
                else:
                    return answers.exec_answer(event.result, as_base64=payload.encoding == "base64")
        raise Internal("The executor ended the command without a result; it may have run.")


def not_yet(kind: str) -> Unimplemented:
    """Return the refusal of a command that the protocol knows and this version does not."""
    return Unimplemented(f"This version of the worker does not do {kind} yet.")
