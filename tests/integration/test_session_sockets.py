"""The sockets of terminals and displays, spoken to as whoever has the gateway's user could: raw bytes, floods, silence.

Whatever comes, that connection is told why it ends, and nothing else notices: not the executor, not other sessions.
"""

import asyncio
import re
import socket
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from executor.session_sockets import MAX_CONNECTIONS
from protos import executor_pb2 as pb
from protos.message_stream import MAX_MESSAGE_BYTES
from tests.integration.conftest import OTHER_TENANT, TENANT, Podman, eventually
from tests.integration.seam import SESSIONS, Connection, Seam, seam

DISPLAY_IMAGE = "localhost/devbox-display:latest"
BYSTANDER = "bystander"
MIB = 1024**2
BEFORE_OPEN = {
    "garbage": (struct.pack("!I", 3) + b"\xff\xff\xff", "INVALID_ARGUMENT", "no message of the contract"),
    "another protocol": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "RESOURCE_EXHAUSTED", f"at most {MAX_MESSAGE_BYTES}"),
    "over the limit": (struct.pack("!I", MAX_MESSAGE_BYTES + 1), "RESOURCE_EXHAUSTED", "send it in pieces"),
    "empty": (struct.pack("!I", 0), "INVALID_ARGUMENT", "The first message .* is `open`"),
    "an empty open": (struct.pack("!I", 2) + b"\x0a\x00", "INVALID_ARGUMENT", "tenant|devbox"),
}


@pytest.fixture(scope="module")
async def worker(podman: Podman) -> AsyncIterator[Seam]:
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        async with seam(podman, Path(name), tenants=[TENANT, OTHER_TENANT], mode="fleet") as running:
            yield running
            assert "Traceback" not in running.process.text()
            assert "never retrieved" not in running.process.text()


@pytest.fixture(scope="module")
async def box(worker: Seam) -> pb.DevBox:
    return await worker.create("box")


@pytest.fixture
async def bystander(worker: Seam, box: pb.DevBox) -> AsyncIterator[Connection]:
    """A terminal that echoes before the attack and after it."""
    async with worker.connected() as terminal:
        terminal.open(box, session_id=BYSTANDER)
        await terminal.until("opened")
        terminal.type(b"echo be''fore\n")
        await terminal.output_until(b"before")
        yield terminal
        terminal.type(b"echo af''ter\n")
        await terminal.output_until(b"after")
        await closed(terminal)
    await no_sessions(worker)


async def closed(terminal: Connection) -> None:
    """Close a terminal and have it forgotten."""
    terminal.send(pb.AttachTerminalRequest(close=pb.TerminalClose()))
    await terminal.until("exited")
    terminal.send(pb.AttachTerminalRequest(fetched=pb.TerminalFetched()))


async def no_sessions(worker: Seam) -> None:
    async def none() -> bool:
        return not (await worker.stub.ListSessions(pb.ListSessionsRequest())).sessions

    await eventually(none)


def verdicts(worker: Seam, since: int) -> list[tuple[str, str]]:
    return [(line["rpc"], line["verdict"]) for line in worker.audited()[since:] if line["rpc"] in SESSIONS]


def test_only_the_executors_group_may_connect(worker: Seam) -> None:
    """As to the service's socket: the kernel asks for the mode of each, and of the directory that they are in."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in (worker.data / "rpc").iterdir()}

    assert modes == dict.fromkeys(("executor.sock", "terminals.sock", "displays.sock"), 0o660)
    assert (worker.data / "rpc").stat().st_mode & 0o777 == 0o750


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("method", SESSIONS)
@pytest.mark.parametrize("name", BEFORE_OPEN)
async def test_what_is_no_open_is_refused(worker: Seam, method: str, name: str) -> None:
    """With a code and a sentence, once, after which the connection ends; and it is in the audit log."""
    sent, code, sentence = BEFORE_OPEN[name]
    lines = len(worker.audited())
    async with worker.connected(method) as connection:
        connection.send(sent)
        told, said = await connection.refusal()
        assert told == code
        assert re.search(sentence, said), said

    assert verdicts(worker, lines) == [(method, code)]


@pytest.mark.usefixtures("bystander")
async def test_who_says_nothing_is_not_waited_for(worker: Seam) -> None:
    """Nor who sends half a message."""
    lines = len(worker.audited())
    async with AsyncExitStack() as stack:
        silent = []
        for method in SESSIONS:
            for sent in (b"", struct.pack("!I", 9) + b"\x0a"):
                connection = await stack.enter_async_context(worker.connected(method))
                connection.send(sent)
                silent.append(connection)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(connection.refusal()) for connection in silent]
    assert {task.result() for task in waiting} == {("DEADLINE_EXCEEDED", "No `open` came within 10 s.")}

    assert sorted(verdicts(worker, lines)) == sorted((method, "DEADLINE_EXCEEDED") for method in [*SESSIONS] * 2)


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("method", SESSIONS)
async def test_who_hangs_up_before_open_is_let_go(worker: Seam, method: str) -> None:
    """At once, in the middle of a length or of a message: nobody is there to be told, and nothing is held."""
    whole = pb.TerminalOpen(tenant_id=TENANT, devbox_id="x" * 64).SerializeToString()
    message = b"\x0a" + bytes([len(whole)]) + whole
    lines, held = len(worker.audited()), descriptors(worker)
    cuts = [b"", b"\0\0", struct.pack("!I", len(message)), struct.pack("!I", len(message)) + message[:-1]]
    for cut in cuts:
        async with worker.connected(method) as connection:
            connection.send(cut)

    await eventually(lambda: verdicts(worker, lines) == [(method, "CANCELLED")] * len(cuts))
    await eventually(lambda: descriptors(worker) <= held)


def descriptors(worker: Seam) -> int:
    return psutil.Process(worker.process.pid).num_fds()


@pytest.mark.parametrize("method", SESSIONS)
async def test_who_looks_at_which_devbox_is_audited_as_it_begins(worker: Seam, method: str) -> None:
    """A line as it is opened, with tenant and DevBox, and one as the viewer goes; none for what is sent between."""
    desktop = await worker.create("watched", image=DISPLAY_IMAGE)
    lines = len(worker.audited())

    def audited() -> list[tuple[str, ...]]:
        names = ("who", "tenant", "rpc", "id", "session", "verdict")
        found = [tuple(line.get(name, "") for name in names) for line in worker.audited()[lines:]]
        return [line for line in found if line[2].endswith(method.removeprefix("Attach"))]

    opening = pb.DisplayOpen(tenant_id=TENANT, devbox_id=desktop.id)
    async with worker.connected(method) as viewer:
        if method == "AttachDisplay":
            viewer.send(pb.AttachDisplayRequest(open=opening))
        else:
            viewer.open(desktop)
        session = (await viewer.until("opened")).session_id
        opened = ("gateway", TENANT, method, desktop.id, session, "OK")
        assert audited() == [opened]
        if method == "AttachTerminal":
            viewer.send(*[pb.AttachTerminalRequest()] * 1000)  # each is refused
            await closed(viewer)
    ended = ("gateway", TENANT, method.replace("Attach", "Detach"), desktop.id, session, "OK")
    await eventually(lambda: audited() == [opened, ended])
    await worker.remove(desktop)
    await no_sessions(worker)


async def test_who_is_refused_a_terminal_is_audited_with_the_devbox(worker: Seam, box: pb.DevBox) -> None:
    """And with the session that was asked for: one line, for nothing was opened."""
    lines = len(worker.audited())
    async with worker.connected() as thief:
        thief.open(box, tenant_id=OTHER_TENANT, session_id="s-1")
        await thief.refusal()
    (line,) = (line for line in worker.audited()[lines:] if line["rpc"] in SESSIONS)
    found = (line["tenant"], line["rpc"], line["id"], line["session"], line["verdict"])
    assert found == (OTHER_TENANT, "AttachTerminal", box.id, "s-1", "NOT_FOUND")


async def test_garbage_behind_open_ends_the_viewer_and_not_its_session(worker: Seam, box: pb.DevBox) -> None:
    """Also in one piece with the `open`: told why, and the session is there for the next, unattached until then."""
    garbage = struct.pack("!I", 3) + b"\xff\xff\xff"
    async with worker.connected() as first:
        first.open(box, session_id="kept")
        await first.until("opened")
        first.send(garbage)
        assert (await first.refusal())[0] == "INVALID_ARGUMENT"
    opening = pb.AttachTerminalRequest(
        open=pb.TerminalOpen(tenant_id=TENANT, devbox_id=box.id, session_id="kept", cols=80, rows=24)
    )
    async with worker.connected() as second:
        second.send(opening, garbage)
        assert (await second.refusal())[0] == "INVALID_ARGUMENT"
    (session,) = (await worker.stub.ListSessions(pb.ListSessionsRequest())).sessions
    assert (session.session_id, session.attached) == ("kept", False)
    async with worker.connected() as third:
        third.send(opening)
        assert (await third.until("opened")).resumed
        third.send(pb.AttachTerminalRequest(), opening)
        for _ in range(2):
            assert (await third.until("refusal")).code == "INVALID_ARGUMENT"
        await closed(third)
    await no_sessions(worker)


@pytest.mark.usefixtures("bystander")
async def test_what_is_another_tenants_is_not_there(worker: Seam, box: pb.DevBox) -> None:
    """Its DevBox, its session, its display: the answer is that of an absent one, and the session does not notice."""
    theirs = await worker.create("theirs", tenant=OTHER_TENANT)
    async with worker.connected() as owner:
        owner.open(theirs, session_id="theirs")
        await owner.until("opened")
        said = set()
        for devbox_id in (theirs.id, "0123456789ab"):
            async with worker.connected() as thief:
                thief.open(box, devbox_id=devbox_id)
                said.add((await thief.refusal())[1].replace(devbox_id, "ID"))
            async with worker.connected("AttachDisplay") as thief:
                thief.send(pb.AttachDisplayRequest(open=pb.DisplayOpen(tenant_id=TENANT, devbox_id=devbox_id)))
                said.add((await thief.refusal())[1].replace(devbox_id, "ID"))
        assert len(said) == 1
        for devbox in (box, theirs):
            async with worker.connected() as thief:
                thief.open(devbox, tenant_id=TENANT, session_id="theirs")
                assert (await thief.refusal())[0] == "NOT_FOUND"
        owner.type(b"echo st''ill\n")
        await owner.output_until(b"still")
        await closed(owner)
    await worker.remove(theirs)


@pytest.mark.usefixtures("bystander")
async def test_connections_are_bounded(worker: Seam, box: pb.DevBox) -> None:
    """Of those that say nothing too: one more is told so at once, and there is room again when they have gone."""
    soft = psutil.Process().rlimit(psutil.RLIMIT_NOFILE)
    psutil.Process().rlimit(psutil.RLIMIT_NOFILE, (min(4096, soft[1]), soft[1]))
    try:
        with ExitStack() as stack:
            # All at once: who says nothing is not waited for long, and the last is to come before the first has gone.
            for _ in range(MAX_CONNECTIONS - 1):
                silent = stack.enter_context(socket.socket(socket.AF_UNIX))
                silent.connect(str(worker.data / "rpc" / SESSIONS["AttachTerminal"][0]))
            for method in SESSIONS:  # first on the same socket: it is taken after those
                async with worker.connected(method) as excess:
                    code, said = await excess.refusal()
                    assert code == "RESOURCE_EXHAUSTED"
                    assert f"At most {MAX_CONNECTIONS} viewers" in said
            assert await worker.boxes()
    finally:
        psutil.Process().rlimit(psutil.RLIMIT_NOFILE, soft)

    async def has_room() -> bool:
        async with worker.connected() as terminal:
            terminal.open(box)
            message = await terminal.read()
            if message is None or message.WhichOneof("message") != "opened":
                return False
            await closed(terminal)
            return True

    await eventually(has_room)


@pytest.mark.usefixtures("bystander")
async def test_a_viewer_that_never_reads_holds_little(worker: Seam, box: pb.DevBox) -> None:
    """While its program floods and it acknowledges what it never read: the sockets are full, and nothing is kept."""
    async with worker.connected() as deaf:
        deaf.open(box, argv=["sh", "-c", "echo go; read x; exec yes 0123456789012345678901234567890123456789"])
        await deaf.output_until(b"go")
        assert deaf.stream._transport is not None
        deaf.stream._transport.pause_reading()
        before = worker.process.rss
        deaf.type(b"\n")
        for number in range(20):
            offsets = range(number * 4 * MIB, (number + 1) * 4 * MIB, 4096)  # those beyond what it was sent are refused
            deaf.send(*(pb.AttachTerminalRequest(ack=pb.TerminalAck(offset=offset)) for offset in offsets))
            assert await worker.boxes()
        assert worker.process.rss - before < 32 * MIB
        deaf.hang_up()
    sessions = (await worker.stub.ListSessions(pb.ListSessionsRequest())).sessions
    (session,) = [found for found in sessions if found.session_id != BYSTANDER]
    async with worker.connected() as heir:
        heir.open(box, session_id=session.session_id)
        await heir.until("opened")
        await closed(heir)


@pytest.mark.usefixtures("bystander")
async def test_half_messages_are_bounded_together(worker: Seam, box: pb.DevBox) -> None:
    """Who sends one too many is told so; what others send that is not long is taken, and all is once they are gone."""
    half = struct.pack("!I", MAX_MESSAGE_BYTES) + b"x" * (MAX_MESSAGE_BYTES - 1)
    lines, held, before = len(worker.audited()), descriptors(worker), worker.process.rss
    async with AsyncExitStack() as stack:
        for _ in range(150):  # each takes the session over, and the one before is still connected
            viewer = await stack.enter_async_context(worker.connected())
            viewer.open(box, session_id="held")
            await viewer.until("opened")
            viewer.send(half)
        await eventually(lambda: "RESOURCE_EXHAUSTED" in [line["verdict"] for line in worker.audited()[lines:]])
        async with worker.connected() as terminal:
            terminal.open(box)
            await terminal.until("opened")
            terminal.type(b"echo ta''ken\n")
            await terminal.output_until(b"taken")
            await closed(terminal)
        assert worker.process.rss - before < 120 * MIB
    await eventually(lambda: descriptors(worker) <= held)
    async with worker.connected() as heir:
        heir.open(box, session_id="held")
        await heir.until("opened")
        heir.send(pb.AttachTerminalRequest(input=pb.TerminalInput(data=b"x" * MIB, offset=2**40)))
        assert "Input begins at" in (await heir.until("refusal")).message
        await closed(heir)


@pytest.mark.usefixtures("bystander")
async def test_what_was_sent_to_open_a_session_is_not_kept(worker: Seam, box: pb.DevBox) -> None:
    """A megabyte each, of a session that is there already."""
    before = worker.process.rss
    async with AsyncExitStack() as stack:
        for count in range(150):
            viewer = await stack.enter_async_context(worker.connected())
            names = range(16) if count else ()  # too much for a program to begin with
            viewer.open(box, session_id="kept", env={f"V{name}": "x" * 60_000 for name in names})
            await viewer.until("opened")
        assert worker.process.rss - before < 60 * MIB
        await closed(viewer)


@pytest.mark.usefixtures("bystander")
async def test_what_grows_when_it_is_parsed_is_not_kept(worker: Seam, box: pb.DevBox) -> None:
    """Half a million empty arguments each, all at once: thirty megabytes of memory that a megabyte makes."""
    bomb = pb.TerminalOpen(argv=[""] * 500_000).SerializeToString()
    opening = b"\x0a" + _varint(len(bomb)) + bomb
    before = worker.process.rss
    async with AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(worker.connected()) for _ in range(50)]
        for viewer in viewers:
            viewer.send(struct.pack("!I", len(opening)) + opening)
        for viewer in viewers:
            assert (await viewer.refusal())[0] == "INVALID_ARGUMENT"
        assert worker.process.rss - before < 200 * MIB
    async with worker.connected() as viewer:  # and where it is refused to one who never reads
        viewer.open(box, argv=["sh", "-c", "echo go; read x; exec yes 0123456789012345678901234567890123456789"])
        session_id = (await viewer.until("opened")).session_id
        await viewer.output_until(b"go")
        assert viewer.stream._transport is not None
        viewer.stream._transport.pause_reading()
        viewer.type(b"\n")
        offsets = range(0, 4 * MIB, 4096)
        viewer.send(*(pb.AttachTerminalRequest(ack=pb.TerminalAck(offset=offset)) for offset in offsets))
        viewer.send(*[struct.pack("!I", len(opening)) + opening] * 16)
        while viewer.stream._transport.get_write_buffer_size():
            assert await worker.boxes()
        assert worker.process.rss - before < 200 * MIB
    async with worker.connected() as heir:
        heir.open(box, session_id=session_id)
        await heir.until("opened")
        await closed(heir)


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


async def test_who_takes_over_what_another_closed_is_told_the_end(worker: Seam, box: pb.DevBox) -> None:
    """At the offset up to which it was told output: what is not told any more is not to be waited for."""
    async with worker.connected() as first, worker.connected() as second:
        first.open(box, session_id="closed")
        await first.until("opened")
        first.type(b"echo on''e\n")
        await first.output_until(b"one")
        first.send(pb.AttachTerminalRequest(close=pb.TerminalClose()), pb.AttachTerminalRequest())
        await first.until("refusal")  # the close before it has arrived
        second.open(box, session_id="closed")
        opened = await second.until("opened")
        assert opened.resumed
        assert opened.offset < opened.end_offset
        assert (await second.until("exited")).offset == opened.offset
        second.send(pb.AttachTerminalRequest(fetched=pb.TerminalFetched()))
    await no_sessions(worker)


async def test_two_viewers_of_one_session(worker: Seam, box: pb.DevBox) -> None:
    """The second takes it over, and what the first still sends does nothing: no input, no size, no end."""
    async with worker.connected() as first, worker.connected() as second:
        first.open(box, session_id="one")
        await first.until("opened")
        first.type(b"echo on''e\n")
        await first.output_until(b"one")
        second.open(box, session_id="one", cols=100, rows=30)
        assert (await second.until("opened")).resumed
        assert "Another viewer" in (await first.until("detached")).reason
        first.type(b"echo bo''gus\n")
        first.send(
            pb.AttachTerminalRequest(resize=pb.TerminalResize(cols=7, rows=7)),
            pb.AttachTerminalRequest(ack=pb.TerminalAck(offset=0)),
            pb.AttachTerminalRequest(close=pb.TerminalClose()),
            pb.AttachTerminalRequest(fetched=pb.TerminalFetched()),
        )
        first.hang_up()
        second.type(b"until [ \"$(stty size)\" = '30 100' ]; do sleep 0.1; done; echo tw''o\n")
        seen = await second.output_until(b"two")
        assert b"bogus" not in seen
        await closed(second)
    await no_sessions(worker)


async def test_fetched_before_the_end_ends_nothing(worker: Seam, box: pb.DevBox) -> None:
    """It is refused, the session goes on; after the end it is forgotten at once."""
    async with worker.connected() as terminal:
        terminal.open(box)
        await terminal.until("opened")
        terminal.send(pb.AttachTerminalRequest(fetched=pb.TerminalFetched()))
        assert (await terminal.until("refusal")).code == "INVALID_ARGUMENT"
        terminal.type(b"echo st''ill; exit 3\n")
        await terminal.output_until(b"still")
        assert (await terminal.until("exited")).exit_code == 3
        assert (await worker.stub.ListSessions(pb.ListSessionsRequest())).sessions
        terminal.send(pb.AttachTerminalRequest(fetched=pb.TerminalFetched()))
        await no_sessions(worker)


async def test_a_terminal_that_nobody_came_to_see_ends(podman: Podman, directory: Path) -> None:
    """Asked for by its request's id alone, by one who hung up at once: it waits for a repeat, and not for a day."""
    async with seam(podman, directory, terminals={"ended_s": 1}) as worker:
        box = await worker.create("box")
        for number in range(3):
            async with worker.connected() as terminal:
                terminal.open(box, request_id=f"r-{number}", argv=["sleep", "4712"])
        for happened in ("opened in DevBox", "ended with exit code"):
            await eventually(lambda happened=happened: worker.process.text().count(happened) == 3)

        assert "sleep 4712" not in podman.run("top", f"clustercode-{box.id}", "args")


async def test_who_hangs_up_while_it_is_opened_leaves_nothing(worker: Seam, podman: Podman) -> None:
    """A display and a terminal, wherever in its opening: no viewer is counted, and no process is left in the DevBox."""
    desktop = await worker.create("desktop", image=DISPLAY_IMAGE)

    def processes() -> list[str]:
        listed = podman.run("top", f"clustercode-{desktop.id}", "args").splitlines()[1:]
        return [line for line in listed if "socat" in line or "sleep 4711" in line]

    lines, asked = len(worker.audited()), 0
    for number in range(12):
        for method in SESSIONS:
            async with worker.connected(method) as connection:
                if method == "AttachDisplay":
                    opening = pb.DisplayOpen(tenant_id=TENANT, devbox_id=desktop.id)
                    connection.send(pb.AttachDisplayRequest(open=opening))
                else:
                    connection.open(desktop, session_id=f"s-{number}", argv=["sleep", "4711"])
                asked += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(number * 0.05):
                        await connection.stream.read()
    await eventually(lambda: len(verdicts(worker, lines)) == asked)
    assert {verdict for _, verdict in verdicts(worker, lines)} <= {"OK", "CANCELLED"}
    assert ("AttachDisplay", "CANCELLED") in verdicts(worker, lines)
    for session in (await worker.stub.ListSessions(pb.ListSessionsRequest())).sessions:
        async with worker.connected() as terminal:
            terminal.open(desktop, session_id=session.session_id)
            await terminal.until("opened")
            await closed(terminal)
    await eventually(lambda: processes() == [])
    async with worker.connected("AttachDisplay") as viewer:
        viewer.send(pb.AttachDisplayRequest(open=pb.DisplayOpen(tenant_id=TENANT, devbox_id=desktop.id)))
        await viewer.until("opened")
    await worker.remove(desktop)
