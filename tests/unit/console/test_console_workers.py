"""`console.workers`: commands and terminals of one worker over connections that come and go, without sockets."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.config import ConsoleConfig
from console.outbox import Outbox
from console.registry import MAX_WORKERS, Workers
from console.terminal_client import Terminal
from console.workers import WorkerLink
from protos import frames, limits
from protos.errors import DeadlineExceeded, Internal, NotFound, Refusal, ResourceExhausted, Unavailable
from protos.wire import Register

REGISTER = Register(
    name="w",
    hostname="h",
    platform="linux",
    cpu_count=1,
    memory_total=1,
    container_engines=["podman"],
    agent_version="0",
    mode="byom",
)


class Wire(Outbox):
    """The worker's end of a connection: keeps what was put."""

    def __init__(self) -> None:
        super().__init__(2**30, lambda: None)
        self.messages: list[dict[str, Any]] = []
        self.frames: list[frames.Frame] = []

    def put_text(self, frame: bytes) -> None:
        self.messages.append(json.loads(frame))

    def put_binary(self, frame: bytes) -> None:
        self.frames.append(frames.decode(frame))

    def last(self, kind: str) -> dict[str, Any]:
        return [message for message in self.messages if message["type"] == kind][-1]


@pytest.fixture
def config(tmp_path: Path) -> ConsoleConfig:
    return ConsoleConfig(data_dir=tmp_path, reconnect_grace_s=0.05)


@pytest.fixture
def workers(config: ConsoleConfig) -> Workers:
    return Workers(config)


@pytest.fixture
def link(workers: Workers) -> WorkerLink:
    return workers.admit("w")


def connect(link: WorkerLink, *, binary: bool = True) -> Wire:
    wire = Wire()
    link.connection_made(wire, REGISTER, binary=binary)
    return wire


def answer(link: WorkerLink, to: dict[str, Any], **payload: object) -> None:
    link.receive(json.dumps({"type": "response", "id": to["id"], "ok": True, "payload": payload}))


def opened(link: WorkerLink, wire: Wire, offset: int = 0, input_offset: int = 0, channel: int | None = 7) -> None:
    """Answer the ``terminal.open`` that was sent last."""
    sent = wire.last("terminal.open")
    fields = {"sessionId": sent["payload"]["sessionId"], "offset": offset, "inputOffset": input_offset}
    answer(link, sent, **fields, resumed=offset > 0, endOffset=offset, channel=channel)


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def test_the_tenant_is_filled_in_where_a_command_has_one(link: WorkerLink) -> None:
    """Commands carry the console's tenant, unless the caller names another."""
    wire = connect(link)
    async with asyncio.TaskGroup() as tasks:
        for kind, payload in (("DevBox.list", {}), ("DevBox.list", {"tenantId": "x"}), ("images.list", {})):
            tasks.create_task(link.request(kind, payload))
        await soon(lambda: len(wire.messages) == 4)
        for message in wire.messages[1:]:
            answer(link, message)

    assert [message["payload"] for message in wire.messages[1:]] == [{"tenantId": "local"}, {"tenantId": "x"}, {}]
    assert len({message["id"] for message in wire.messages[1:]}) == 3


async def test_progress_and_refusal_reach_the_caller(link: WorkerLink) -> None:
    """Progress comes as it is sent, a refusal as the exception of its code."""
    wire = connect(link)
    steps: list[dict[str, Any]] = []

    async def ask() -> None:
        with pytest.raises(NotFound, match="no such image") as caught:
            await link.request("DevBox.create", {}, on_progress=steps.append)
        assert caught.value.details == {"seen": 1}

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask())
        await soon(lambda: len(wire.messages) == 2)
        request_id = wire.messages[1]["id"]
        link.receive(json.dumps({"type": "progress", "id": request_id, "payload": {"message": "pulling"}}))
        error = {"code": "NOT_FOUND", "message": "no such image", "details": {"seen": 1}}
        link.receive(json.dumps({"type": "response", "id": request_id, "ok": False, "error": error}))

    assert steps == [{"message": "pulling"}]


async def test_a_command_survives_a_reconnect_under_its_id(link: WorkerLink) -> None:
    """The same message is sent again on the new connection, and the answer there ends the wait."""
    first = connect(link)
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(link.request("DevBox.create", {"name": "x"}))
        await soon(lambda: len(first.messages) == 2)
        link.connection_lost(first)
        second = connect(link)
        assert second.last("DevBox.create") == first.last("DevBox.create")
        answer(link, second.last("DevBox.create"), devbox={})

    assert work.result() == {"devbox": {}}


async def test_a_worker_that_stays_away_ends_the_wait(link: WorkerLink) -> None:
    """After the grace the caller learns that the command may have run."""
    wire = connect(link)

    async def ask() -> None:
        with pytest.raises(Unavailable, match="may have run"):
            await link.request("DevBox.create")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask())
        await soon(lambda: len(wire.messages) == 2)
        link.connection_lost(wire)


async def test_giving_up_the_wait_cancels_the_command(link: WorkerLink) -> None:
    """A deadline sends ``cancel`` with the command's id; a caller may choose otherwise."""
    wire = connect(link)
    with pytest.raises(DeadlineExceeded):
        await link.request("DevBox.exec", timeout_s=0.01)
    sent = wire.last("DevBox.exec")
    with pytest.raises(DeadlineExceeded):
        await link.request("DevBox.exec", timeout_s=0.01, stops_with_caller=False)

    assert [message["id"] for message in wire.messages if message["type"] == "cancel"] == [sent["id"]]


async def test_a_command_to_a_worker_that_is_away_is_refused(link: WorkerLink) -> None:
    """Nothing waits for a worker that may never return."""
    with pytest.raises(Unavailable):
        await link.request("DevBox.list")


async def test_a_command_too_large_for_the_protocol_is_not_sent(link: WorkerLink) -> None:
    """It is refused here: sent, it would end the worker's connection."""
    wire = connect(link)
    with pytest.raises(ResourceExhausted):
        await link.request("image.build", {"containerfile": "x" * limits.MAX_MESSAGE_BYTES})

    assert len(wire.messages) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "[]",
        "{",
        '{"type": "response", "id": "unknown", "ok": true}',
        '{"type": "response", "id": "x", "ok": "maybe"}',
        '{"type": "terminal.exit", "payload": {"sessionId": "none", "exitCode": 0, "offset": 0}}',
        '{"type": "worker.heartbeat", "payload": {"cpuUsage": "hot"}}',
        '{"type": "progress", "id": "nobody", "payload": {}}',
        '{"type": "error", "error": {"code": "NO_SUCH_CODE", "message": "?"}}',
        "[" * 10_000,
    ],
)
async def test_garbage_changes_nothing(link: WorkerLink, garbage: str) -> None:
    """What is no message is logged, and the next command works."""
    wire = connect(link)
    link.receive(garbage)
    link.receive_frame(garbage.encode()[:20])
    link.receive_frame(frames.encode_header(frames.FrameKind.TERMINAL, 999, 0) + b"x")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(link.request("DevBox.list"))
        await soon(lambda: len(wire.messages) == 2)
        answer(link, wire.last("DevBox.list"))


async def test_output_right_behind_the_answer_is_not_lost(link: WorkerLink) -> None:
    """The channel is known before the next frame is read, though the opener has not run yet."""
    wire = connect(link)
    terminal = Terminal(link, "b")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(terminal.open())
        await soon(lambda: len(wire.messages) == 2)
        opened(link, wire)
        link.receive_frame(frames.encode_header(frames.FrameKind.TERMINAL, 7, 0) + b"$ ")

    assert await terminal.read() == b"$ "
    assert wire.last("terminal.ack")["payload"]["offset"] == 2


async def test_an_answer_to_open_that_is_none_is_an_error_of_that_open(link: WorkerLink) -> None:
    """A worker's nonsense ends the one request, not the connection."""
    wire = connect(link)

    async def ask() -> None:
        with pytest.raises(Internal):
            await Terminal(link, "b").open()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask())
        await soon(lambda: len(wire.messages) == 2)
        answer(link, wire.last("terminal.open"), offset="many")

    assert link.connected


async def test_a_terminal_continues_in_both_directions_after_a_cut(link: WorkerLink) -> None:
    """It asks for the byte it is missing first, and types again what did not arrive."""
    first = connect(link)
    terminal = Terminal(link, "b")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(terminal.open())
        await soon(lambda: len(first.messages) == 2)
        opened(link, first)
    link.receive_frame(frames.encode_header(frames.FrameKind.TERMINAL, 7, 0) + b"abc")
    await terminal.write(b"12345")
    link.connection_lost(first)
    second = connect(link)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(terminal.resume())
        await soon(lambda: len(second.messages) == 2)
        assert second.last("terminal.open")["payload"]["fromOffset"] == 3
        opened(link, second, offset=3, input_offset=2, channel=1)
    link.receive_frame(frames.encode_header(frames.FrameKind.TERMINAL, 1, 2) + b"cde")

    assert await terminal.read() == b"abcde"
    assert terminal.gaps == []
    assert [(frame.channel, frame.offset, frame.data) for frame in second.frames] == [(1, 2, b"345")]


async def test_dropped_output_is_a_gap_not_a_lie(link: WorkerLink) -> None:
    """Bytes that come with a jump in offsets are delivered after what is missing was noted."""
    wire = connect(link)
    terminal = Terminal(link, "b")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(terminal.open())
        await soon(lambda: len(wire.messages) == 2)
        opened(link, wire)
    link.receive_frame(frames.encode_header(frames.FrameKind.TERMINAL, 7, 100) + b"late")

    assert await terminal.read() == b"late"
    assert terminal.gaps == [(0, 100)]


async def test_a_plain_orchestrator_speaks_json_and_acknowledges_nothing(tmp_path: Path) -> None:
    """In the plain dialect there is no ``worker.registered``, no binary frame and no ack, and typing works."""
    link = Workers(ConsoleConfig(data_dir=tmp_path, dialect="plain")).admit("w")
    wire = connect(link, binary=False)
    terminal = Terminal(link, "b")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(terminal.open())
        await soon(lambda: len(wire.messages) == 1)
        opened(link, wire, channel=None)
    output = {"sessionId": terminal.session_id, "data": "aGk=", "offset": 0}
    link.receive(json.dumps({"type": "terminal.output", "payload": output}))
    await terminal.write(b"ls")
    await terminal.written()

    assert await terminal.read() == b"hi"
    assert [message["type"] for message in wire.messages] == ["terminal.open", "terminal.input"]
    assert not wire.frames


async def test_an_exit_ends_the_session_everywhere(link: WorkerLink) -> None:
    """The viewer learns the code, and the session is no longer listed."""
    wire = connect(link)
    terminal = Terminal(link, "b")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(terminal.open())
        await soon(lambda: len(wire.messages) == 2)
        opened(link, wire)
    ended = {"sessionId": terminal.session_id, "exitCode": 3, "offset": 0}
    link.receive(json.dumps({"type": "terminal.exit", "payload": ended}))

    assert await terminal.wait_exit() == 3
    assert await terminal.read() == b""
    assert link.sessions.all() == []


async def test_workers_that_are_gone_make_room(workers: Workers) -> None:
    """The console remembers a bounded number of workers; connected ones are never forgotten."""
    links = [workers.admit(f"w{n}") for n in range(MAX_WORKERS)]
    for link in links[1:]:
        connect(link)
    workers.admit("one-more")

    assert workers.find("w0") is None
    connect(workers.admit("one-more"))
    with pytest.raises(Refusal):
        workers.admit("too-many")


async def test_an_event_that_is_sent_again_is_told_once(link: WorkerLink) -> None:
    """By its id; workers that send none have every event told."""
    told: list[str] = []
    link.on_event = lambda _, event: told.append(f"{event.event_id} {event.devbox_id}")
    for event_id, box in (("1", "a"), ("2", "b"), ("1", "a"), (None, "c"), (None, "c")):
        connect(link)
        payload = {"tenantId": "local", "devboxId": box, "event": "died", "eventId": event_id}
        link.receive(json.dumps({"type": "DevBox.event", "payload": payload}))

    assert told == ["1 a", "2 b", "None c", "None c"]
