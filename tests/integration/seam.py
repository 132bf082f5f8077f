"""The executor alone, and who speaks straight to its sockets: what a test needs to act as the gateway's user."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from executor.config import ExecutorConfig
from protos import executor_pb2 as pb
from protos.executor_pb2_grpc import ExecutorServiceStub
from protos.message_stream import MessageStream
from tests.integration.canary import SECRET_ENV, Watch, files_with_it
from tests.integration.conftest import IMAGE, TENANT, Process, remove_all, serves, started

# An executor under a whole configuration, whatever the command line has options for.
_LAUNCH = """
import asyncio, sys
from clustercode import logs, process
from executor.app import run
from executor.config import ExecutorConfig
logs.set_up("executor", "DEBUG")
process.allow_many_descriptors()
sys.exit(asyncio.run(run(ExecutorConfig.model_validate_json(sys.argv[1]))))
"""

SESSIONS: Mapping[str, tuple[str, type[Message], type[Message]]] = {
    "AttachTerminal": ("terminals.sock", pb.AttachTerminalRequest, pb.AttachTerminalResponse),
    "AttachDisplay": ("displays.sock", pb.AttachDisplayRequest, pb.AttachDisplayResponse),
}
"""What has a socket of its own, by its name in the audit log: the socket, and the messages to it and from it."""


class Connection:
    """A connection to the socket of terminals or displays, on which anything may be sent."""

    def __init__(self, stream: MessageStream[Any, Any]) -> None:
        self.stream = stream

    def send(self, *sent: Message | bytes) -> None:
        """Send messages, and bytes as they are: all at once, so that they arrive together."""
        data = b""
        for message in sent:
            if isinstance(message, bytes):
                data += message
            else:
                body = message.SerializeToString()
                data += len(body).to_bytes(4, "big") + body
        assert self.stream._transport is not None
        self.stream._transport.write(data)

    def open(self, box: pb.DevBox, **more: object) -> None:
        """Ask for a terminal of 80 by 24 in a DevBox."""
        opening = {"tenant_id": box.tenant_id, "devbox_id": box.id, "cols": 80, "rows": 24, **more}
        self.send(pb.AttachTerminalRequest(open=pb.TerminalOpen(**opening)))

    async def read(self) -> Any:  # noqa: ANN401 - any message
        """Return the next message, None at the end."""
        async with asyncio.timeout(60):
            return await self.stream.read()

    async def until(self, kind: str) -> Any:  # noqa: ANN401 - any message
        """Return what the next message of a kind says; those before it are for nobody."""
        while (message := await self.read()) is not None:
            if message.WhichOneof("message") == kind:
                return getattr(message, kind)
        raise AssertionError(f"the connection ended without {kind}")

    async def refusal(self) -> tuple[str, str]:
        """Return (code, sentence) with which the executor ends the connection."""
        refused = await self.until("refused")
        assert await self.read() is None
        return refused.code, refused.message

    async def output_until(self, mark: bytes) -> bytes:
        """Return what a terminal writes up to a mark, acknowledging it."""
        seen = b""
        while mark not in seen:
            output = await self.until("output")
            seen += output.data
            self.send(pb.AttachTerminalRequest(ack=pb.TerminalAck(offset=output.offset + len(output.data))))
        return seen

    def type(self, data: bytes) -> None:
        """Type into a terminal."""
        self.send(pb.AttachTerminalRequest(input=pb.TerminalInput(data=data)))

    def hang_up(self) -> None:
        """End the connection, whatever was sent."""
        self.stream.abort()


@dataclass
class Seam:
    """One executor and a client of its sockets. Refusals of RPCs are raised as gRPC raises them."""

    process: Process
    data: Path
    stub: ExecutorServiceStub

    @asynccontextmanager
    async def connected(self, method: str = "AttachTerminal") -> AsyncIterator[Connection]:
        """Connect to a session's socket, and hang up at the end."""
        socket, _, response = SESSIONS[method]
        stream: MessageStream[Any, Any] = MessageStream(response)
        await asyncio.get_running_loop().create_unix_connection(lambda: stream, str(self.data / "rpc" / socket))
        try:
            yield Connection(stream)
        finally:
            stream.abort()
            await stream.finish()

    async def create(self, name: str, *, tenant: str = TENANT, image: str = IMAGE, **more: object) -> pb.DevBox:
        """Create a DevBox."""
        if more.get("profile") != pb.PROFILE_OFFLINE:
            more.setdefault("secret_env", SECRET_ENV)
        request = pb.CreateDevBoxRequest(tenant_id=tenant, name=name, image=image, **more)
        last = pb.CreateDevBoxResponse()
        async for answer in self.stub.CreateDevBox(request):
            last = answer
        return last.devbox

    async def sh(self, box: pb.DevBox, script: str, *, user: str = "", timeout_ms: int = 60_000) -> str:
        """Run a script in a DevBox; returns all it printed."""
        request = pb.ExecDevBoxRequest(
            tenant_id=box.tenant_id,
            devbox_id=box.id,
            argv=["/bin/sh", "-c", script],
            user=user,
            timeout_ms=timeout_ms,
        )
        printed = b""
        async for answer in self.stub.ExecDevBox(request):
            printed += answer.result.stdout + answer.result.stderr
        return printed.decode()

    async def remove(self, box: pb.DevBox) -> None:
        """Remove a DevBox, running or not."""
        await self.stub.RemoveDevBox(pb.RemoveDevBoxRequest(tenant_id=box.tenant_id, devbox_id=box.id, force=True))

    async def boxes(self, tenant: str = TENANT) -> list[pb.DevBox]:
        """Return a tenant's DevBoxes."""
        return list((await self.stub.ListDevBoxes(pb.ListDevBoxesRequest(tenant_id=tenant))).devboxes)

    def audited(self) -> list[dict[str, str]]:
        """Return the lines of the audit log; one that is being written is none yet."""
        return [
            json.loads(line)
            for path in sorted((self.data / "audit").glob("audit.jsonl*"), reverse=True)
            for line in path.read_text().split("\n")[:-1]
        ]


class Engine(Protocol):
    """What is needed of an engine."""

    socket: Path

    def places(self) -> list[str]:
        """Return where it keeps what it knows."""


@asynccontextmanager
async def seam(
    engine: Engine,
    directory: Path,
    *,
    python: Sequence[str] = (sys.executable,),
    environment: Mapping[str, str] | None = None,
    clear: Callable[[Path], None] = remove_all,
    **config: object,
) -> AsyncIterator[Seam]:
    """Run an executor with this configuration; ``clear`` removes its DevBoxes at the end.

    ``python`` and ``environment`` are of whoever runs it.
    """
    data = directory / "data"
    whole = ExecutorConfig.model_validate(
        {"data_dir": data, "tenants": [TENANT], "engine_socket": engine.socket, **config}
    )
    command = [*python, "-c", _LAUNCH, whole.model_dump_json(by_alias=True)]
    process = Process("executor", command, directory / "executor.log", dict(environment or {}))
    try:
        async with started(process):
            await serves(process)  # all its sockets, not the first of them
            async with grpc.aio.insecure_channel(f"unix:{whole.rpc_socket}") as channel:
                yield Seam(process, data, ExecutorServiceStub(channel))
            watch = Watch()
            watch.look()
            assert watch.found == set()
        held = {Path(path) for path in files_with_it([directory, *engine.places()])}
        assert {path.parent for path in held} <= {data / "secrets"}, held
        assert {path.stat().st_mode & 0o777 for path in held} <= {0o600}
    finally:
        clear(data)
