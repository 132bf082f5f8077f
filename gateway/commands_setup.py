"""``DevBox.setup``: one call of the executor, its progress and its answer."""

import contextlib

from gateway import answers
from gateway.executor_client import ExecutorClient
from gateway.reporter import Handler, Reporter
from protos import executor_pb2 as pb
from protos import wire
from protos.errors import Internal


def handlers(executor: ExecutorClient) -> dict[type[wire.Payload], Handler]:
    """Return the handlers of setting DevBoxes up."""

    async def set_up(payload: wire.DevBoxSetup, request_id: str, reporter: Reporter) -> wire.SetupAnswer:
        async with contextlib.aclosing(executor.setup(_request(payload, request_id))) as events:
            async for event in events:
                if event.HasField("progress"):
                    await reporter.step(answers.progress(event.progress))
                else:
                    return wire.SetupAnswer(
                        workdir=event.result.workdir,
                        branch=event.result.branch or None,
                        commit=event.result.commit,
                        claude_md=event.result.claude_md or None,
                    )
        raise Internal("The executor ended the setup without a result; look into the DevBox before you repeat it.")

    return {wire.DevBoxSetup: set_up}


def _request(payload: wire.DevBoxSetup, request_id: str) -> pb.SetupDevBoxRequest:
    repository, ticket = payload.repository, payload.ticket
    return pb.SetupDevBoxRequest(
        tenant_id=payload.tenant_id,
        request_id=request_id,
        devbox_id=payload.devbox_id,
        url=repository.url,
        branch=repository.branch or "",
        commit=repository.commit or "",
        depth=repository.depth or 0,
        credential=repository.credential or "",
        ticket=None
        if ticket is None
        else pb.Ticket(id=ticket.id, title=ticket.title, body=ticket.body, url=ticket.url or ""),
        instructions=payload.instructions or "",
        workdir=payload.workdir or "",
        timeout_ms=payload.timeout_ms or 0,
    )
