"""RPCs of DevBoxes: unpack, call, pack."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import cast

from executor import requests
from executor.background import BackgroundCommand
from executor.devbox import DevBox
from executor.exec_command import ExecResult, run_command
from executor.ledger import Work
from executor.policy import Profile
from executor.rpc import Context, Rpcs, checked, refusing
from protos import executor_pb2 as pb
from protos.errors import InvalidArgument

_STATES = {
    "created": pb.DEV_BOX_STATE_CREATED,
    "running": pb.DEV_BOX_STATE_RUNNING,
    "paused": pb.DEV_BOX_STATE_PAUSED,
    "exited": pb.DEV_BOX_STATE_EXITED,
    "removing": pb.DEV_BOX_STATE_REMOVING,
    "dead": pb.DEV_BOX_STATE_DEAD,
}

_NETWORKS = {"none": pb.NETWORK_NONE, "allowlist": pb.NETWORK_ALLOWLIST, "host": pb.NETWORK_HOST}

_WITHOUT_FRACTION = re.compile(r"\.\d+")
"""Of a time: Podman's list has none, and all answers say the same of one start."""

_Step = tuple[str, float | None]
_Chunk = tuple[bool, bytes]


class DevBoxRpcs(Rpcs):
    """Create, start, stop, remove, list, exec."""

    async def CreateDevBox(  # noqa: N802
        self, request: pb.CreateDevBoxRequest, context: Context
    ) -> AsyncIterator[pb.CreateDevBoxResponse]:
        """Create a DevBox."""
        async with refusing(context):
            asked = checked(
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

                return await self.parts.devboxes.create(asked, on_progress)

            work = self.begin(asked, job)
            async with aclosing(work.steps()) as steps:
                async for message, fraction in steps:
                    yield pb.CreateDevBoxResponse(progress=pb.Progress(message=message, fraction=fraction))
            yield pb.CreateDevBoxResponse(devbox=self.packed(await work.result()))

    async def StartDevBox(self, request: pb.StartDevBoxRequest, context: Context) -> pb.StartDevBoxResponse:  # noqa: N802
        """Start a DevBox."""
        async with refusing(context):
            asked = checked(
                requests.StartDevBox,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
            )
            box = await self.once(asked, lambda: self.parts.devboxes.start(asked))
            return pb.StartDevBoxResponse(devbox=self.packed(box))

    async def StopDevBox(self, request: pb.StopDevBoxRequest, context: Context) -> pb.StopDevBoxResponse:  # noqa: N802
        """Stop a DevBox."""
        async with refusing(context):
            asked = checked(
                requests.StopDevBox,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
                **({"timeout_s": request.timeout_seconds} if request.HasField("timeout_seconds") else {}),
            )
            box = await self.once(asked, lambda: self.parts.devboxes.stop(asked))
            return pb.StopDevBoxResponse(devbox=self.packed(box))

    async def RemoveDevBox(self, request: pb.RemoveDevBoxRequest, context: Context) -> pb.RemoveDevBoxResponse:  # noqa: N802
        """Remove a DevBox."""
        async with refusing(context):
            asked = checked(
                requests.RemoveDevBox,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
                force=request.force,
                keep_volumes=request.keep_volumes,
            )
            box = await self.once(asked, lambda: self.parts.devboxes.remove(asked))
            return pb.RemoveDevBoxResponse(devbox=self.packed(box))

    async def ListDevBoxes(self, request: pb.ListDevBoxesRequest, context: Context) -> pb.ListDevBoxesResponse:  # noqa: N802
        """List DevBoxes."""
        async with refusing(context):
            boxes = await self.parts.devboxes.list_boxes(request.tenant_id)
            background = await self.parts.backgrounds.of(boxes)
            return pb.ListDevBoxesResponse(devboxes=[self.packed(box, background.get(box.id, ())) for box in boxes])

    async def SetEgress(self, request: pb.SetEgressRequest, context: Context) -> pb.SetEgressResponse:  # noqa: N802
        """Change what a DevBox may reach."""
        async with refusing(context):
            asked = checked(
                requests.SetEgress,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
                allowed_domains=tuple(request.allowed_domains),
                cut=request.cut,
            )
            names = await self.once(asked, lambda: self.parts.devboxes.set_egress(asked))
            return pb.SetEgressResponse(allowed_domains=names)

    async def ExecDevBox(  # noqa: N802
        self, request: pb.ExecDevBoxRequest, context: Context
    ) -> AsyncIterator[pb.ExecDevBoxResponse]:
        """Run a command."""
        async with refusing(context):
            asked = checked(
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

                box = await self.parts.devboxes.get_running(asked.tenant, asked.devbox_id)
                prefix = await self.parts.secret_env.prefix(box, asked.env)
                listener = on_chunk if asked.stream else None
                result = await run_command(self.parts.engine, box.container, asked, {}, listener, prefix, insist=True)
                work.weight_bytes = len(result.stdout) + len(result.stderr)
                return result

            work = self.begin(asked, job)
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

    def packed(self, box: DevBox, background: Sequence[BackgroundCommand] = ()) -> pb.DevBox:
        """Return a DevBox in the contract's terms."""
        return pb.DevBox(
            id=box.id,
            name=box.name,
            tenant_id=box.tenant,
            image=box.image,
            state=_STATES.get(box.state, pb.DEV_BOX_STATE_UNSPECIFIED),
            profile=cast("pb.Profile", int(box.profile)),
            privileged=box.privileged,
            engine=self.parts.engine.kind,
            display=box.display,
            created_at=box.created_at,
            started_at=_WITHOUT_FRACTION.sub("", box.started_at),
            exit_code=box.exit_code,
            labels=box.labels,
            missing_limits=box.missing_limits,
            network=_NETWORKS[box.network],
            background=[
                pb.Background(
                    background_id=command.id,
                    command=command.command,
                    running=command.running,
                    exit_code=command.exit_code,
                    started_at=command.started_at,
                    output_bytes=command.output_bytes,
                )
                for command in background
            ],
        )


def _profile(value: int) -> Profile:
    try:
        return Profile(value or Profile.STANDARD)
    except ValueError:
        raise InvalidArgument(f"There is no profile number {value}.") from None
