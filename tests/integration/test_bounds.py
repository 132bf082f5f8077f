"""Whatever an orchestrator sends, it gets its error and a sentence; everything else goes on, in bounded memory."""

import asyncio
import base64
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.orchestrator import Json, Orchestrator, Peer, frame, orchestrator
from console.app import Console
from console.terminal_client import Terminal
from gateway.backoff import JITTER
from tests.integration.conftest import (
    IMAGE,
    OTHER_TENANT,
    TENANT,
    Podman,
    Process,
    create,
    eventually,
    executor_process,
    gateway_process,
    lasting_peer,
    remove_all,
    running_worker,
    started,
)

MIB = 1024 * 1024
RAW = "stty raw -echo; "
YES = "yes " + "0123456789abcdef" * 4
GO = "until [ -e /workspace/go ]; do sleep 0.1; done; "
WITNESS = "witness"
NOBODY = "abcdefabcdef"


@dataclass
class Scene:
    """A worker with one DevBox and one open terminal, the witness, before an orchestrator that misbehaves."""

    orchestrator: Orchestrator
    gateway: Process
    executor: Process
    peer: Peer
    box: str
    other_box: str
    directory: Path
    witness_channel: int = 0
    _echoes: int = 0

    async def all_goes_on(self) -> None:
        """Both processes run, the connection is the same, the witness echoes in both ways of typing."""
        for process in (self.gateway, self.executor):
            assert process.running is not None
            assert process.running.returncode is None
        assert not self.peer.closed.is_set()
        self._echoes += 1
        await self.peer.type(WITNESS, b"echo json-$((%d+0))\n" % self._echoes)
        await self.peer.shows(WITNESS, b"json-%d\r\n" % self._echoes)
        answer = await self.peer.ask("DevBox.list", {"tenantId": TENANT})
        assert [box["id"] for box in answer["payload"]["devboxes"]] == [self.box]

    async def open_witness(self) -> None:
        opened = await self.peer.open(self.box, WITNESS)
        self.witness_channel = opened["channel"]


@pytest.fixture(scope="module")
async def scene(podman: Podman) -> AsyncIterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        directory = Path(name)
        async with orchestrator(directory) as running:
            executor = executor_process(podman, directory, "--mode", "fleet", "--tenants", f"{TENANT},{OTHER_TENANT}")
            gateway = gateway_process(directory, running.worker_url, running.token_file)
            try:
                async with started(gateway, executor):
                    peer, _ = await lasting_peer(running)
                    boxes = []
                    for tenant in (TENANT, OTHER_TENANT):
                        asked = {"tenantId": tenant, "name": "box", "image": IMAGE}
                        boxes.append((await peer.ask("DevBox.create", asked))["payload"]["devbox"]["id"])
                    scene = Scene(running, gateway, executor, peer, boxes[0], boxes[1], directory)
                    await scene.open_witness()
                    yield scene
            finally:
                remove_all(directory / "data")


# --- Messages that are none -----------------------------------------------------------------------------------------


def nested(depth: int) -> str:
    return '{"type":"DevBox.list","payload":{"tenantId":"local","x":' + "[" * depth + "]" * depth + "}}"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("{", "INVALID_ARGUMENT", "JSON"),
        ("", "INVALID_ARGUMENT", "JSON"),
        ("[]", "INVALID_ARGUMENT", "object"),
        ('"text"', "INVALID_ARGUMENT", "object"),
        ('{"type":"DevBox.list","payload":{"tenantId":"local"}}{}', "INVALID_ARGUMENT", "JSON"),
        (r'{"type":"DevBox.list","payload":{"tenantId":"\ud83d"}}', "INVALID_ARGUMENT", "JSON"),
        ('{"payload":{}}', "INVALID_ARGUMENT", "type"),
        ('{"type":7,"payload":{}}', "UNIMPLEMENTED", "type"),
        ('{"type":"DevBox.list"}', "INVALID_ARGUMENT", "payload"),
        ('{"type":"DevBox.list","id":5,"payload":{"tenantId":"local"}}', "INVALID_ARGUMENT", "id"),
        ('{"type":"DevBox.fly","payload":{}}', "UNIMPLEMENTED", "DevBox.fly"),
        (nested(40), "INVALID_ARGUMENT", "nest"),
        (nested(100_000), "INVALID_ARGUMENT", "nest"),
    ],
)
async def test_a_text_that_is_no_message_is_an_error(scene: Scene, text: str, code: str, says: str) -> None:
    """It is said what is wrong with it."""
    await scene.peer.send_raw(text)
    told = await scene.peer.expect(type="error")

    assert told["error"]["code"] == code
    assert says in told["error"]["message"]
    await scene.all_goes_on()


@pytest.mark.parametrize(
    ("kind", "payload", "code", "says"),
    [
        ("DevBox.fly", {}, "UNIMPLEMENTED", "DevBox.fly"),
        ("DevBox.list", {}, "INVALID_ARGUMENT", "tenantId"),
        ("DevBox.list", {"tenantId": 5}, "INVALID_ARGUMENT", "tenantId"),
        ("DevBox.list", {"tenantId": ""}, "INVALID_ARGUMENT", "tenantId"),
        ("DevBox.list", {"tenantId": "a b"}, "INVALID_ARGUMENT", "tenantId"),
        ("DevBox.list", {"tenantId": "third"}, "NOT_FOUND", "tenant"),
        ("DevBox.exec", {"command": ["true"]}, "INVALID_ARGUMENT", "devboxId"),
        ("DevBox.exec", {"devboxId": "BOX", "command": []}, "INVALID_ARGUMENT", "command"),
        ("DevBox.exec", {"devboxId": "BOX", "command": {}}, "INVALID_ARGUMENT", "command"),
        ("DevBox.exec", {"devboxId": "BOX", "command": "true", "stdin": "!"}, "INVALID_ARGUMENT", "stdin"),
        ("DevBox.exec", {"devboxId": "BOX", "command": "true", "timeoutMs": 0}, "INVALID_ARGUMENT", "timeoutMs"),
        ("DevBox.exec", {"devboxId": "BOX", "command": "true", "timeoutMs": "5"}, "INVALID_ARGUMENT", "timeoutMs"),
        ("DevBox.exec", {"devboxId": "BOX", "command": "true", "env": {"A=": "b"}}, "INVALID_ARGUMENT", "env"),
        ("DevBox.exec", {"devboxId": "BOX", "command": ["a\0b"]}, "INVALID_ARGUMENT", "NUL"),
        ("DevBox.exec", {"devboxId": "BOX", "command": "true", "user": "nobody-here"}, "FAILED_PRECONDITION", "user"),
        ("DevBox.exec", {"devboxId": NOBODY, "command": "true"}, "NOT_FOUND", "DevBox.list"),
        ("DevBox.exec", {"devboxId": "OTHER", "command": "true"}, "NOT_FOUND", "DevBox.list"),
        ("DevBox.stop", {"devboxId": "OTHER"}, "NOT_FOUND", "DevBox.list"),
        ("DevBox.remove", {"devboxId": "OTHER", "force": True}, "NOT_FOUND", "DevBox.list"),
        ("DevBox.create", {"name": "box", "image": IMAGE, "env": {"A": "b"}}, "ALREADY_EXISTS", "name"),
        ("DevBox.create", {"name": "new", "image": "localhost/absent:1"}, "NOT_FOUND", "build it"),
        ("terminal.open", {"devboxId": "BOX", "cols": 0, "rows": 24}, "INVALID_ARGUMENT", "cols"),
        ("terminal.open", {"devboxId": "BOX", "cols": 100000, "rows": 24}, "INVALID_ARGUMENT", "cols"),
        ("terminal.open", {"devboxId": "BOX", "cols": 80, "rows": -1}, "INVALID_ARGUMENT", "rows"),
        ("terminal.open", {"devboxId": NOBODY, "cols": 80, "rows": 24}, "NOT_FOUND", "DevBox.list"),
        ("terminal.open", {"devboxId": "OTHER", "cols": 80, "rows": 24}, "NOT_FOUND", "DevBox.list"),
        ("terminal.open", {"devboxId": "BOX", "cols": 80, "rows": 24, "sessionId": "a/b"}, "INVALID_ARGUMENT", "sess"),
        ("terminal.resize", {"sessionId": WITNESS, "cols": 0, "rows": 24}, "INVALID_ARGUMENT", "cols"),
        ("terminal.resize", {"sessionId": WITNESS, "cols": 80, "rows": 100000}, "INVALID_ARGUMENT", "rows"),
        ("terminal.resize", {"sessionId": "nobody", "cols": 80, "rows": 24}, "NOT_FOUND", "terminal.open"),
        ("terminal.input", {"sessionId": "nobody", "data": ""}, "NOT_FOUND", "terminal.open"),
        ("terminal.input", {"sessionId": WITNESS, "data": "%"}, "INVALID_ARGUMENT", "data"),
        ("terminal.close", {"sessionId": "nobody"}, "NOT_FOUND", "terminal.open"),
        (
            "DevBox.egress",
            {"devboxId": "BOX", "allowedDomains": ["10.0.0.1"]},
            "FAILED_PRECONDITION",
            "without a network",
        ),
    ],
)
@pytest.mark.parametrize("with_id", [True, False], ids=["id", "no-id"])
async def test_a_wrong_command_is_refused(
    scene: Scene, kind: str, payload: Json, code: str, says: str, with_id: bool
) -> None:
    """With an id the answer says why, without one an error does, and names the session where there is one."""
    ids = {"BOX": scene.box, "OTHER": scene.other_box}
    full: Json = dict(payload) if kind == "DevBox.list" else {"tenantId": TENANT, **payload}
    full |= {key: ids[value] for key, value in payload.items() if key == "devboxId" and value in ids}
    if with_id:
        told = await scene.peer.ask(kind, full)
        assert told["ok"] is False
    else:
        await scene.peer.send(kind, full)
        told = await scene.peer.expect(type="error")
        if "sessionId" in payload and code == "NOT_FOUND":
            assert told["sessionId"] == payload["sessionId"]

    assert told["error"]["code"] == code
    assert says in told["error"]["message"]
    await scene.all_goes_on()


@pytest.mark.parametrize(
    ("kind", "channel", "size", "code", "says"),
    [
        (1, 999, 3, "NOT_FOUND", "channel 999"),
        (1, 0, 3, "NOT_FOUND", "channel 0"),
        (9, 1, 3, "INVALID_ARGUMENT", "kind"),
        (2, 1, 3, "NOT_FOUND", "channel 1"),
        (1, 1, 70_000, "INVALID_ARGUMENT", "split"),
        (1, 1, -5, "INVALID_ARGUMENT", "header"),
        (1, 1, -13, "INVALID_ARGUMENT", "header"),
    ],
)
async def test_a_wrong_binary_frame_is_an_error(
    scene: Scene, kind: int, channel: int, size: int, code: str, says: str
) -> None:
    """Unknown channel or kind, too short, too long: it is said, with the channel where there is one."""
    whole = frame(channel, 0, b"x" * max(size, 0), kind)
    await scene.peer.send_raw(whole if size >= 0 else whole[:size])
    told = await scene.peer.expect(type="error")

    assert told["error"]["code"] == code
    assert says in told["error"]["message"]
    if code != "INVALID_ARGUMENT":
        assert told["channel"] == channel
    await scene.all_goes_on()


async def test_binary_input_beyond_what_came_is_refused(scene: Scene) -> None:
    """A gap is told with the session, its channel and the offset to go on from."""
    await scene.peer.send_raw(frame(scene.witness_channel, 10**12, b"x"))
    told = await scene.peer.expect(type="error")

    assert (told["error"]["code"], told["sessionId"]) == ("INVALID_ARGUMENT", WITNESS)
    await scene.peer.send_raw(frame(scene.witness_channel, told["error"]["details"]["inputOffset"], b"echo $((6*7))\n"))
    await scene.peer.shows(WITNESS, b"42\r\n")
    await scene.all_goes_on()


async def test_binary_frames_need_their_subprotocol(scene: Scene) -> None:
    """A connection without it says so, and works with JSON."""
    async with second_gateway(scene, subprotocol="clustercode.v1") as (_, peer):
        opened = await peer.open(scene.box, "json-only")
        await peer.send_raw(frame(1, 0, b"x"))
        told = await peer.expect(type="error")
        await peer.type("json-only", b"echo $((6*7))\n", 0)
        await peer.shows("json-only", b"42\r\n")
        await peer.send("terminal.close", {"sessionId": "json-only"})
        await peer.expect(type="terminal.exit")

        assert "channel" not in opened
        assert told["error"]["code"] == "INVALID_ARGUMENT"
        assert "clustercode.v1+binary" in told["error"]["message"]
    await scene.all_goes_on()


@asynccontextmanager
async def second_gateway(scene: Scene, **options: object) -> AsyncIterator[tuple[Orchestrator, Peer]]:
    """Another gateway before the same executor, with an orchestrator of its own."""
    directory = scene.directory / "second"
    directory.mkdir(exist_ok=True)
    async with orchestrator(directory, **options) as running:
        gateway = gateway_process(scene.directory, running.worker_url, running.token_file, worker_id="w-2", log="2.log")
        async with started(gateway):
            peer, _ = await running.peer()
            yield running, peer


async def test_the_largest_message_is_taken_and_a_larger_one_closes(scene: Scene) -> None:
    """Close code 1009, and no hot loop: each time it happens the worker waits longer. Sessions go on."""
    async with second_gateway(scene) as (running, first_peer):
        peer = first_peer
        await peer.open(scene.box, "large")
        asked: Json = {"type": "DevBox.exec", "id": "largest", "payload": {"tenantId": TENANT, "devboxId": scene.box}}
        asked["payload"] |= {"command": "wc -c", "stdin": ""}
        room = MIB - len(json.dumps(asked))
        stdin = base64.b64encode(b"x" * (room // 4 * 3)).decode()
        asked["payload"]["stdin"] = stdin
        await peer.send_raw(json.dumps(asked).ljust(MIB))
        answer = await peer.expect(type="response", id="largest")
        for step in (2, 4):
            sent = asyncio.get_running_loop().time()
            await peer.send_raw(json.dumps(asked).ljust(MIB + 1))
            await peer.closed.wait()
            assert peer.ws.close_code == 1009
            peer, register = await running.peer()
            assert running.attempts[-1] - sent >= step * (1 - JITTER)
            assert [state["sessionId"] for state in register["sessions"]].count("large") == 1
        opened = await peer.open(scene.box, "large")
        await peer.type("large", b"exit 3\n")
        ended = await peer.expect(type="terminal.exit")

        assert answer["payload"]["stdout"] == f"{room // 4 * 3}\n"
        assert opened["resumed"] is True
        assert ended["payload"]["exitCode"] == 3
        assert len(running.attempts) == 3
    await scene.all_goes_on()


# --- Commands in flight -----------------------------------------------------------------------------------------------


async def test_a_cancelled_command_is_gone(scene: Scene) -> None:
    """Its answer is CANCELLED and nothing of it runs in the box; a cancel of nothing is NOT_FOUND."""
    asked = {"tenantId": TENANT, "devboxId": scene.box, "stream": True}
    asked["command"] = "trap '' TERM; echo began; sleep 841 & sleep 842"
    await scene.peer.send("DevBox.exec", asked, "long")
    await scene.peer.expect(type="progress", id="long")
    await scene.peer.send("cancel", message_id="long")
    answer = await scene.peer.expect(type="response", id="long")
    running = await scene.peer.ask("DevBox.exec", {**asked, "stream": False, "command": "ps -o args"})
    await scene.peer.send("cancel", message_id="long-gone")
    told = await scene.peer.expect(type="error")

    assert answer["error"]["code"] == "CANCELLED"
    assert "sleep 84" not in running["payload"]["stdout"]
    assert told["error"]["code"] == "NOT_FOUND"
    await scene.all_goes_on()


async def test_three_hundred_commands_at_once_are_each_answered(scene: Scene) -> None:
    """Once each: done, or refused with RESOURCE_EXHAUSTED; at least 256 are done."""
    listing = {"tenantId": TENANT}
    running = {**listing, "devboxId": scene.box, "command": "echo done"}
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(
                scene.peer.ask(
                    *(("DevBox.exec", running) if number % 10 == 0 else ("DevBox.list", listing)), timeout_s=120
                ),
                name=f"ask {number}",
            )
            for number in range(300)
        ]
    answers = [task.result() for task in asked]

    refused = [answer["error"] for answer in answers if not answer["ok"]]
    assert [error for error in refused if error["code"] != "RESOURCE_EXHAUSTED"] == []
    assert sum(answer["ok"] for answer in answers) >= 256
    await scene.all_goes_on()


async def test_an_id_used_for_another_command_is_refused(scene: Scene) -> None:
    """The same id with the same command has the same answer; with another it is INVALID_ARGUMENT."""
    asked = {"tenantId": TENANT, "devboxId": scene.box, "command": "echo ran >>/workspace/once; cat /workspace/once"}
    first = await scene.peer.ask("DevBox.exec", asked, message_id="once")
    again = await scene.peer.ask("DevBox.exec", asked, message_id="once")
    other = await scene.peer.ask("DevBox.exec", {**asked, "command": "true"}, message_id="once")

    assert first["payload"]["stdout"] == again["payload"]["stdout"] == "ran\n"
    assert other["error"]["code"] == "INVALID_ARGUMENT"
    await scene.all_goes_on()


# --- Programs that do not read, viewers that do not ------------------------------------------------------------------


async def test_input_that_a_program_does_not_read_is_bounded(scene: Scene) -> None:
    """Beyond 1 MiB that waits it is RESOURCE_EXHAUSTED with the offset to go on from; later all of it arrives once."""
    command = f"{RAW}echo ready; {GO}head -c {3 * MIB} | sha256sum"
    await scene.peer.open(scene.box, "deaf", command=command)
    await scene.peer.shows("deaf", b"ready\n")
    typed = bytes(range(256)) * (3 * MIB // 256)
    sent = 0
    refused = None
    while refused is None and sent < len(typed):
        await scene.peer.type("deaf", typed[sent : sent + 32768], sent)
        sent += 32768
        with suppress(TimeoutError):
            refused = await scene.peer.expect(0.02, type="error", sessionId="deaf")
    if refused is None:  # all is on its way, before the first word about it came
        refused = await scene.peer.expect(type="error", sessionId="deaf")
    await scene.all_goes_on()
    await scene.peer.ask("DevBox.exec", {"tenantId": TENANT, "devboxId": scene.box, "command": "touch /workspace/go"})
    at = refused["error"]["details"]["inputOffset"]
    acknowledged = 0
    while acknowledged < at:  # what waited is read first; before that there is no room for more
        acknowledged = (await scene.peer.expect(type="terminal.inputAck"))["payload"]["offset"]
    while at < len(typed):
        await scene.peer.type("deaf", typed[at : at + 65536], at)
        at += 65536
        while acknowledged < at - 262144:
            acknowledged = (await scene.peer.expect(type="terminal.inputAck"))["payload"]["offset"]
    ended = await scene.peer.expect(type="terminal.exit")

    assert refused["error"]["code"] == "RESOURCE_EXHAUSTED"
    assert MIB <= refused["error"]["details"]["inputOffset"] <= sent
    assert hashlib.sha256(typed).hexdigest().encode() in scene.peer.output("deaf")
    assert ended["payload"]["exitCode"] == 0
    await scene.all_goes_on()


async def test_a_terminal_sends_no_more_than_its_window_beyond_the_acks(scene: Scene) -> None:
    """Whoever promised acks gets 128 KiB, then nothing until it acknowledges; other terminals do not notice."""
    await scene.peer.open(scene.box, "flood", command="yes")
    await scene.peer.until(lambda: len(scene.peer.output("flood")) >= 128 * 1024)
    for _ in range(5):
        await scene.all_goes_on()
    assert len(scene.peer.output("flood")) == 128 * 1024
    await scene.peer.send("terminal.ack", {"sessionId": "flood", "offset": 1000})
    await scene.peer.until(lambda: len(scene.peer.output("flood")) >= 129 * 1024 - 24)
    await scene.all_goes_on()
    assert len(scene.peer.output("flood")) == 128 * 1024 + 1000
    await scene.peer.send("terminal.ack", {"sessionId": "flood", "offset": 10**9})
    told = await scene.peer.expect(type="error", sessionId="flood")
    assert told["error"]["code"] == "INVALID_ARGUMENT"
    await scene.peer.send("terminal.close", {"sessionId": "flood"})
    await scene.peer.expect(type="terminal.exit")
    await scene.all_goes_on()


GROWTH = 32 * MIB
"""What either process may grow by while twice as much goes through it."""


async def test_floods_that_nobody_takes_cost_no_memory(podman: Podman, console: Console, directory: Path) -> None:
    """Programs write 64 MiB into terminals whose viewers acknowledge nothing; another terminal echoes meanwhile."""
    async with running_worker(podman, console, directory, executor_args=("--terminal-grace", "0.5")) as worker:
        link = await worker.link()
        box = await create(link)
        async with Terminal(link, box) as witness:
            for number in range(5):  # never more than waits for a viewer that is slow: the grace is short here
                await witness.write(b"%b | head -c 800000; echo warm-$((%d+0))\n" % (YES.encode(), number))
                await witness.read_until(b"warm-%d\r\n" % number)
            before = (worker.gateway.rss, worker.executor.rss)
            floods = [
                await Terminal(
                    link,
                    box,
                    command=f"{RAW}{GO}{YES} | head -c {8 * MIB}; touch /workspace/done-{number}",
                    auto_ack=False,
                ).open()
                for number in range(8)
            ]
            await link.request("DevBox.exec", {"devboxId": box, "command": "touch /workspace/go"})
            echoes = 0
            while (
                echoes < 2
                or podman.run("exec", f"clustercode-{box}", "ls", "/workspace").count("done-") < len(floods)
                or not all(flood.refusals for flood in floods)
            ):
                echoes += 1
                await witness.write(b"echo echo-$((%d+0))\n" % echoes)
                await witness.read_until(b"echo-%d\r\n" % echoes)
            after = (worker.gateway.rss, worker.executor.rss)

        assert all(flood.refusals[0].code == "FAILED_PRECONDITION" for flood in floods)
        assert [end - start < GROWTH for start, end in zip(before, after, strict=True)] == [True, True]


async def test_an_orchestrator_that_stops_reading_costs_no_memory(podman: Podman, directory: Path) -> None:
    """It knows no acks; the programs wait, both processes stay small, and when it reads on nothing is missing."""
    async with orchestrator(directory, subprotocol=None, registered=None) as running:
        executor = executor_process(podman, directory)
        gateway = gateway_process(directory, running.worker_url, running.token_file)
        try:
            async with started(gateway, executor):
                peer, _ = await lasting_peer(running)
                asked = {"tenantId": TENANT, "name": "box", "image": IMAGE}
                box = (await peer.ask("DevBox.create", asked))["payload"]["devbox"]["id"]
                await peer.open(box, "warm", command=f"{RAW}{YES} | head -c 4000000")
                await peer.expect(type="terminal.exit")
                before = (gateway.rss, executor.rss)
                floods = [f"flood-{number}" for number in range(8)]
                for name in floods:
                    await peer.open(box, name, command=RAW + GO + YES)
                await peer.ask("DevBox.exec", {"tenantId": TENANT, "devboxId": box, "command": "touch /workspace/go"})
                await peer.until(lambda: all(peer.offset(name) > MIB // 2 for name in floods), 120)
                peer.stop_reading()
                looks: list[str] = []

                async def all_wait() -> bool:
                    """Between two looks no program of the floods used a processor."""
                    looks.append(
                        podman.run("exec", f"clustercode-{box}", "sh", "-c", "cat /proc/*/stat | grep '(yes)'")
                    )
                    return len(looks) > 1 and looks[-1] == looks[-2]

                await eventually(all_wait, 60)
                after = (gateway.rss, executor.rss)
                stopped = [peer.offset(name) for name in floods]
                peer.read_on()
                await peer.until(
                    lambda: all(peer.offset(name) > at + MIB for name, at in zip(floods, stopped, strict=True)), 120
                )

                assert looks[-1].count("(yes)") == len(floods)
                assert [end - start < GROWTH for start, end in zip(before, after, strict=True)] == [True, True]
                assert all(set(peer.output(name).split()[:-1]) == {YES.split()[1].encode()} for name in floods)
        finally:
            remove_all(directory / "data")
