"""Terminals in real DevBoxes: opened, typed into, resized, shared, left, found again, ended."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from conformance.orchestrator import Orchestrator, orchestrator
from console.app import Console, serve
from console.config import ConsoleConfig
from console.terminal_client import Terminal
from console.workers import WorkerLink
from protos.errors import InvalidArgument, NotFound
from tests.integration.conftest import (
    DEVBOX_IMAGE,
    IMAGE,
    OTHER_TENANT,
    Podman,
    Process,
    Worker,
    create,
    eventually,
    executor_process,
    gateway_process,
    lasting_peer,
    remove_all,
    running_worker,
    started,
)

RAW = "stty raw -echo; "
MULTIBYTE = "é漢🙂"


async def output_of(terminal: Terminal, timeout_s: float = 60) -> bytes:
    """All that the program writes until its end."""
    data = bytearray()
    async with asyncio.timeout(timeout_s):
        while piece := await terminal.read(timeout_s):
            data += piece
    return bytes(data)


async def processes(link: WorkerLink, box: str) -> str:
    """What runs in a box, one process a line, without the command that looks."""
    answer = await link.request("DevBox.exec", {"devboxId": box, "command": "ps -o args", "user": "root"})
    return "\n".join(line for line in answer["stdout"].splitlines() if "ps -o args" not in line)


def execs_watched(podman: Podman, box: str) -> list[str]:
    """What runs on the host below the engine's monitors of execs in a box; the monitors linger for its exit code."""
    container = podman.run("inspect", "-f", "{{.Id}}", f"clustercode-{box}").strip()
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or ()
        if "--exec-attach" in command and container in command:
            with suppress(psutil.NoSuchProcess):
                children = [child for child in process.children() if child.status() != psutil.STATUS_ZOMBIE]
                found += [child.name() for child in children if child.name() != "conmon"]
    return found


# --- One terminal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("image", "shell"), [(IMAGE, b"sh"), (DEVBOX_IMAGE, b"bash")])
async def test_a_terminal_is_a_login_shell_of_the_size_asked_for(link: WorkerLink, image: str, shell: bytes) -> None:
    """The best shell the box has, on a terminal that knows its size and says that it has colours."""
    async with Terminal(link, await create(link, image=image), cols=97, rows=31) as terminal:
        await terminal.write(b'stty size; tty; echo "[$0 $TERM $COLORTERM]"\n')
        shown = await terminal.read_until(b"truecolor]\r\n")

    assert b"31 97\r\n/dev/pts/" in shown
    assert b"[%b xterm-256color truecolor]" % shell in shown
    assert terminal.answer.resumed is False
    assert terminal.gaps == []


async def test_a_terminal_runs_what_is_asked_for(link: WorkerLink) -> None:
    """Command, user, directory and environment are as asked; the box's secrets are there too."""
    box = await create(link, secretEnv={"TOKEN": "s3cret"})
    async with Terminal(
        link, box, command='echo "$PWD $A $TOKEN $(id -un)"', user="root", workdir="/tmp", env={"A": "b"}
    ) as terminal:
        assert await output_of(terminal) == b"/tmp b s3cret root\r\n"


async def test_bytes_come_as_the_program_wrote_them(link: WorkerLink) -> None:
    """All 256 byte values, true colour, other escapes and broken UTF-8 are untouched, in both directions."""
    everything = bytes(range(256))
    colour = b"\x1b[38;2;255;128;0mT\x1b[0m\x1b]0;title\x07\x1bP+q\x1b\\"
    octal = "".join(f"\\{byte:03o}" for byte in everything + colour)
    box = await create(link)
    command = f"{RAW}printf '{octal}'; head -c 256 | sha256sum | head -c 64"
    async with Terminal(link, box, command=command) as terminal:
        assert await terminal.read_until(b"\x1bP+q\x1b\\") == everything + colour
        await terminal.write(everything)

        assert await output_of(terminal) == hashlib.sha256(everything).hexdigest().encode()


async def test_characters_may_be_split_anywhere(link: WorkerLink) -> None:
    """Multi-byte text survives: written byte by byte, in chunks that end within a character, and typed in pieces."""
    line = f"{MULTIBYTE}\n".encode()
    slowly = " ".join(f"printf '\\{byte:03o}'; usleep 20000;" for byte in line)
    command = f"{RAW}{slowly} yes '{MULTIBYTE}' | head -n 50000; head -c {len(line)}"
    async with Terminal(link, await create(link), command=command) as terminal:
        data = bytearray()
        while len(data) < len(line) * 50001:
            data += await terminal.read()
        for byte in line:
            await terminal.write(bytes([byte]))
            await asyncio.sleep(0)
        echoed = await output_of(terminal)

    assert data == line * 50001
    assert echoed == line
    assert 65536 % len(line) != 0, "else no chunk would end within a line"


async def test_a_program_is_told_of_a_new_size(link: WorkerLink) -> None:
    """It gets the signal, and finds the new size when it looks."""
    command = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    async with Terminal(link, await create(link), command=command) as terminal:
        await terminal.read_until(b"ready")
        terminal.resize(120, 40)
        await terminal.read_until(b"40 120\r\n")


async def test_of_many_sizes_in_a_row_the_last_counts(link: WorkerLink) -> None:
    """A window that is dragged leaves the terminal at the size where the dragging ended, up to the largest."""
    command = f"{RAW}echo ready; while read -r line; do stty size; done"
    async with Terminal(link, await create(link), command=command) as terminal:
        await terminal.read_until(b"ready\n")

        async def is_now(expected: bytes) -> bool:
            await terminal.write(b"\n")
            return await terminal.read_until(b"\n") == expected

        for last in ((2000, 2000), (2, 3), *((70 + number, 30 + number) for number in range(10))):
            for cols in range(20, 60):
                terminal.resize(cols, 10)
            terminal.resize(*last)
            await eventually(lambda last=last: is_now(b"%d %d\n" % last[::-1]))


@pytest.mark.parametrize(("end", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("exit 0", 0)])
async def test_the_exit_comes_after_all_output(link: WorkerLink, end: str, code: int) -> None:
    """Exit code and last offset are told once every byte is there, time after time."""
    expected = "".join(f"{number}\r\n" for number in range(1, 20001)).encode()
    box = await create(link)

    async def once() -> None:
        terminal = await Terminal(link, box, command=f"seq 1 20000; {end}").open()
        assert await output_of(terminal) == expected
        assert (await terminal.wait_exit(), terminal.end_offset) == (code, len(expected))

    for _ in range(3):
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(once(), name="once")


async def test_closing_ends_the_shell_and_what_it_started(link: WorkerLink, podman: Podman) -> None:
    """Background jobs go too, also those that ignore a hangup; what made itself a session of its own stays."""
    box = await create(link)
    terminal = await Terminal(link, box).open()
    await terminal.write(b"sleep 801 &\n(trap '' HUP TERM; sleep 802) &\nsetsid sleep 803 &\necho started $((1+1))\n")
    await terminal.read_until(b"started 2")

    async def run() -> bool:  # the shell has started them; they may not be the programs yet
        now = await processes(link, box)
        return all(f"sleep {number}" in now for number in (801, 802, 803))

    await eventually(run)

    await terminal.close()

    async def ended() -> bool:
        now = await processes(link, box)
        return "sleep 801" not in now and "sleep 802" not in now and "-sh" not in now and "sleep 803" in now

    await eventually(ended)
    await eventually(lambda: execs_watched(podman, box) == [])


async def test_input_with_offsets_is_typed_once(link: WorkerLink) -> None:
    """A repeat is dropped, an overlap is trimmed, a gap is refused with the offset to go on from."""
    async with Terminal(link, await create(link), command=f"{RAW}echo ready; head -c 9") as terminal:
        await terminal.read_until(b"ready\n")

        def put(offset: int, data: bytes) -> None:
            assert terminal._session is not None
            link.send_input(terminal._session, offset, data)

        put(0, b"abc")
        put(0, b"abc")
        put(1, b"bcdef")
        put(7, b"xyz")
        await eventually(lambda: bool(terminal.refusals))
        put(6, b"ghi")

        assert await output_of(terminal) == b"abcdefghi"
        assert (terminal.refusals[0].code, terminal.refusals[0].details) == ("INVALID_ARGUMENT", {"inputOffset": 6})


# --- Sessions and their viewers -----------------------------------------------------------------------------------


async def test_a_second_viewer_takes_a_session_over(link: WorkerLink) -> None:
    """Whoever opens it last has it, with what is in the scrollback; the one before is told."""
    box = await create(link)
    first = await Terminal(link, box).open()
    await first.write(b"echo one $((10+1))\n")
    await first.read_until(b"one 11")

    async with Terminal(link, box, session_id=first.session_id) as second:
        assert second.answer.resumed is True
        assert b"one 11" in await second.read_until(b"one 11")
        await eventually(lambda: first.is_taken)
        await second.write(b"echo two $((20+2))\n")
        await second.read_until(b"two 22")


async def test_a_viewer_is_told_when_another_connection_takes_its_session(
    podman: Podman, console: Console, directory: Path
) -> None:
    """Two gateways before one executor: the first one's viewer hears FAILED_PRECONDITION and what to do."""
    async with running_worker(podman, console, directory) as worker:
        second = gateway_process(
            directory, console.worker_url, console.token_file, worker_id="w-second", log="second.log"
        )
        async with started(second):
            here, there = await worker.link(), await console.worker("w-second", 60)
            box = await create(here)
            mine = await Terminal(here, box).open()
            async with Terminal(there, box, session_id=mine.session_id) as theirs:
                assert theirs.answer.resumed is True
                await eventually(lambda: bool(mine.refusals))
                assert mine.refusals[0].code == "FAILED_PRECONDITION"
                assert "taken" in mine.refusals[0].message
                await theirs.write(b"echo theirs $((1+1))\n")
                await theirs.read_until(b"theirs 2")


async def test_a_session_outlives_its_viewer(link: WorkerLink) -> None:
    """Nobody looks at it, its program writes on, and the next viewer continues where the last one was."""
    box = await create(link)
    first = await Terminal(link, box, command=f"{RAW}printf before; read line; printf after; read line").open()
    assert await first.read_until(b"before") == b"before"
    await first.write(b"\n")
    await first.written()
    first.detach()

    async with Terminal(link, box, session_id=first.session_id, from_offset=6) as second:
        assert (second.answer.resumed, second.answer.offset) == (True, 6)
        assert await second.read_until(b"after") == b"after"


async def test_an_unknown_session_is_created_under_its_id(link: WorkerLink) -> None:
    """The answer says that it was not there before."""
    async with Terminal(link, await create(link), session_id="my.session:1", from_offset=500) as terminal:
        assert terminal.answer.session_id == "my.session:1"
        assert (terminal.answer.resumed, terminal.answer.offset) == (False, 0)
        await terminal.write(b"echo $((40+2))\n")
        await terminal.read_until(b"42")


async def test_a_session_is_only_for_its_devbox_and_tenant(link: WorkerLink) -> None:
    """Another DevBox is INVALID_ARGUMENT, another tenant NOT_FOUND, whatever is there; the session goes on."""
    one, two = await create(link, "one"), await create(link, "two")
    theirs = await create(link, "theirs", tenantId=OTHER_TENANT)
    async with Terminal(link, one) as terminal:
        again = {"sessionId": terminal.session_id, "cols": 80, "rows": 24}
        with pytest.raises(InvalidArgument, match="another DevBox"):
            await link.request("terminal.open", {**again, "devboxId": two})
        for box in (one, theirs):
            with pytest.raises(NotFound):
                await link.request("terminal.open", {**again, "tenantId": OTHER_TENANT, "devboxId": box})
        with pytest.raises(NotFound, match=r"DevBox\.list"):
            await link.request("terminal.open", {"devboxId": theirs, "cols": 80, "rows": 24})
        with pytest.raises(NotFound, match="tenant"):
            await link.request("terminal.open", {"tenantId": "third", "devboxId": one, "cols": 80, "rows": 24})
        await terminal.write(b"echo $((40+2))\n")
        await terminal.read_until(b"42")


async def test_an_open_sent_again_opens_no_second_shell(link: WorkerLink) -> None:
    """The same message id, at once or later, answers with the one session."""
    box = await create(link)
    asked = {"devboxId": box, "cols": 80, "rows": 24, "command": "echo opened >>/workspace/opens; sleep 700"}
    first = await link.request("terminal.open", asked, request_id="open-1")
    again = await link.request("terminal.open", asked, request_id="open-1")
    other = await link.request("terminal.open", asked, request_id="open-2")

    assert first["sessionId"] == again["sessionId"] != other["sessionId"]
    assert again["resumed"] is False or again["offset"] == 0
    opens = {"devboxId": box, "command": "cat /workspace/opens"}

    async def both_began() -> bool:  # an open is answered before its program has done anything
        return (await link.request("DevBox.exec", opens))["stdout"].count("opened\n") >= 2

    await eventually(both_began)
    assert (await link.request("DevBox.exec", opens))["stdout"] == "opened\nopened\n"
    assert (await processes(link, box)).count("sleep 700\n") <= 2


async def test_many_terminals_at_once(link: WorkerLink) -> None:
    """Each of forty shells in two DevBoxes shows its own output and nobody else's."""
    boxes = [await create(link, "one"), await create(link, "two")]

    async def one(number: int) -> None:
        async with Terminal(link, boxes[number % 2]) as terminal:
            await terminal.write(b"stty -echo; i=0; while [ $i -lt 200 ]; do echo n%d-$i; i=$((i+1)); done\n" % number)
            shown = await terminal.read_until(b"n%d-199\r\n" % number, 60)
            lines = [line for line in shown.split(b"\r\n") if line.startswith(b"n")]
            assert lines == [b"n%d-%d" % (number, count) for count in range(200)]

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(one(number), name=f"terminal {number}")


async def test_a_stopped_devbox_ends_its_terminals(link: WorkerLink) -> None:
    """The viewer is told, after all output; the DevBox can be started and opened again."""
    box = await create(link)
    terminal = await Terminal(link, box).open()
    await terminal.write(b"echo $((40+2))\n")
    await terminal.read_until(b"42")
    await link.request("DevBox.stop", {"devboxId": box, "timeoutSeconds": 0})
    await output_of(terminal)
    assert await terminal.wait_exit() != 0
    await link.request("DevBox.start", {"devboxId": box})

    async with Terminal(link, box) as again:
        await again.write(b"echo $((40+2))\n")
        await again.read_until(b"42")


async def closed_where_sh_is(link: WorkerLink, script: str) -> tuple[str, str]:
    """Close a terminal in a DevBox in which this runs in place of what kills processes; returns (DevBox, session)."""
    box = await create(link)
    terminal = await Terminal(link, box, command=["sleep", "1000"]).open()
    wrong = f"printf '#!/bin/busybox sh\\n{script}' >/bin/wrong && chmod 755 /bin/wrong && ln -sf wrong /bin/sh"
    answer = await link.request("DevBox.exec", {"devboxId": box, "command": ["sh", "-c", wrong], "user": "0"})
    assert answer["exitCode"] == 0, answer
    await terminal.close()
    return box, terminal.session_id


async def test_what_is_killed_with_its_devbox_is_no_warning(
    link: WorkerLink, podman: Podman, shared_worker: Worker
) -> None:
    """A terminal is closed as its DevBox is removed: what was to kill its processes died with them."""
    said = len(shared_worker.executor.text())
    box, session = await closed_where_sh_is(link, "exec sleep 4711")
    await eventually(lambda: "sleep 4711" in podman.run("top", f"clustercode-{box}", "args"))
    await link.request("DevBox.remove", {"devboxId": box, "force": True})
    await eventually(lambda: f"session {session} ended" in shared_worker.executor.text()[said:])

    assert "could not be killed" not in shared_worker.executor.text()[said:]


async def test_what_cannot_be_killed_is_a_warning(link: WorkerLink, shared_worker: Worker) -> None:
    """In a DevBox that lives on."""
    said = len(shared_worker.executor.text())
    box, session = await closed_where_sh_is(link, "exit 3")
    warning = f"session {session}: Processes in the DevBox could not be killed (exit code 3)"
    await eventually(lambda: warning in shared_worker.executor.text()[said:])
    await link.request("DevBox.remove", {"devboxId": box, "force": True})


# --- Orchestrators that know only the plain protocol -----------------------------------------------------------------


@pytest.fixture
async def plain_link(podman: Podman, directory: Path) -> AsyncIterator[WorkerLink]:
    """A console that picks no subprotocol, never acknowledges, and never answers `worker.register`."""
    config = ConsoleConfig(data_dir=directory / "console", port=0, dialect="plain")
    async with serve(config) as console, running_worker(podman, console, directory) as worker:
        yield await worker.link()


async def test_a_plain_orchestrator_has_whole_terminals(plain_link: WorkerLink) -> None:
    """Output far beyond any window, input, resize and exit work with JSON alone and no acknowledgements."""
    box = await create(plain_link)
    command = f"{RAW}yes '{MULTIBYTE}' | head -c 6000000; read line; stty size; head -c 100000 | sha256sum; exit 5"
    terminal = await Terminal(plain_link, box, command=command).open()
    data = bytearray()
    while len(data) < 6_000_000:
        data += await terminal.read()
    terminal.resize(133, 44)
    typed = bytes(range(256)) * 391  # 100,096 bytes

    async def resized() -> bool:
        answer = await plain_link.request("DevBox.exec", {"devboxId": box, "command": "stty size </dev/pts/0"})
        return str(answer["stdout"]) == "44 133\n"

    await eventually(resized)
    await terminal.write(b"\n" + typed[:100_000])
    rest = await output_of(terminal)

    assert terminal.answer.channel is None
    assert bytes(data) == f"{MULTIBYTE}\n".encode() * (6_000_000 // 10)
    assert rest.decode().split()[:3] == ["44", "133", hashlib.sha256(typed[:100_000]).hexdigest()]
    assert await terminal.wait_exit() == 5
    assert terminal.gaps == []


@pytest.fixture
async def plain(podman: Podman, directory: Path) -> AsyncIterator[tuple[Orchestrator, Process]]:
    """An orchestrator that says nothing but commands: no subprotocol, no `worker.registered`, no acks; its gateway."""
    async with orchestrator(directory, subprotocol=None, registered=None) as running:
        executor = executor_process(podman, directory)
        gateway = gateway_process(directory, running.worker_url, running.token_file)
        try:
            async with started(gateway, executor):
                yield running, gateway
        finally:
            remove_all(directory / "data")


async def test_a_plain_orchestrator_gets_its_sessions_back_by_itself(
    plain: tuple[Orchestrator, Process], podman: Podman
) -> None:
    """After a cut its terminals go on where the socket was left, without being opened again."""
    cloud, gateway = plain
    peer, _ = await lasting_peer(cloud)
    box = {"tenantId": "local", "name": "box", "image": IMAGE}
    box_id = (await peer.ask("DevBox.create", box))["payload"]["devbox"]["id"]
    wait = "until [ -e /workspace/go ]; do sleep 0.05; done"
    counting = f"stty -echo; seq 1 5; {wait}; seq 6 10; read -r line; echo got $line; exit 3"
    opened = await peer.open(box_id, "s1", command=counting)
    await peer.shows("s1", b"5\r\n")
    dialled = gateway.text().count("Dialing again")
    peer.cut()
    await peer.closed.wait()
    # What it writes to a socket that it takes for open would be lost: without acknowledgements nobody could know.
    await eventually(lambda: gateway.text().count("Dialing again") > dialled)
    podman.run("exec", f"clustercode-{box_id}", "touch", "/workspace/go")
    again, register = await cloud.peer()
    listed = register["sessions"]
    await again.shows("s1", b"10\r\n")
    await again.type("s1", b"typed\n")
    after = await again.shows("s1", b"got typed\r\n")
    ended = await again.expect(type="terminal.exit")

    assert (opened["offset"], opened["resumed"]) == (0, False)
    assert "channel" not in opened
    assert [session["sessionId"] for session in listed] == ["s1"]
    assert after.split() == [b"6", b"7", b"8", b"9", b"10", b"got", b"typed"]
    assert ended["payload"] == {"sessionId": "s1", "exitCode": 3, "offset": again.offset("s1")}
    assert not any(message["type"] == "terminal.inputAck" for message in again.waiting)
