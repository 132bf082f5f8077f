"""RPCs of setting a DevBox up: unpack, call, pack."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from executor import requests
from executor.ledger import Work
from executor.redaction import SECRETS
from executor.rpc import Context, Rpcs, checked, refusing
from executor.setup import SetupResult
from protos import executor_pb2 as pb

_Step = tuple[str, float | None]


class SetupRpcs(Rpcs):
    """RPCs of setting a DevBox up."""

    async def SetupDevBox(  # noqa: N802
        self, request: pb.SetupDevBoxRequest, context: Context
    ) -> AsyncIterator[pb.SetupDevBoxResponse]:
        """Clone or update a repository in a DevBox."""
        async with refusing(context):
            asked = checked(
                requests.SetupDevBox,
                tenant=request.tenant_id,
                request_id=request.request_id,
                devbox_id=request.devbox_id,
                url=request.url,
                branch=request.branch,
                commit=request.commit,
                depth=request.depth,
                credential=request.credential,
                ticket_id=request.ticket.id,
                ticket_title=request.ticket.title,
                ticket_body=request.ticket.body,
                ticket_url=request.ticket.url,
                instructions=request.instructions,
                workdir=request.workdir,
                **({"timeout_ms": request.timeout_ms} if request.timeout_ms else {}),
            )

            async def job(work: Work[SetupResult, _Step]) -> SetupResult:
                async def on_progress(message: str, fraction: float | None) -> None:
                    await work.progress((message, fraction))

                return await self.parts.setups.set_up(asked, on_progress)

            work = self.begin(asked, job)
            async with aclosing(work.steps()) as steps:
                async for message, fraction in steps:
                    yield pb.SetupDevBoxResponse(progress=pb.Progress(message=SECRETS.text(message), fraction=fraction))
            result = await work.result()
            yield pb.SetupDevBoxResponse(
                result=pb.SetupResult(
                    workdir=result.workdir, branch=result.branch, commit=result.commit, claude_md=result.claude_md
                )
            )
