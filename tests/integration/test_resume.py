"""Nothing is lost while the link breaks and gateways die, in either direction; what had to be dropped is told."""

import asyncio
import base64
import hashlib
import inspect
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import pytest

from console.app import Console, serve
from console.config import ConsoleConfig
from console.terminal_client import Terminal
from console.workers import WorkerLink
from tests.integration.conftest import DEVBOX_IMAGE, Podman, Worker, create, eventually, running_worker
from tests.integration.link_proxy import LinkProxy, link_proxy

MIB = 1024 * 1024
RAW = "stty raw -echo; "


def stream(size: int) -> Iterator[bytes]:
    """A known stream of so many bytes: numbered lines with colours, cursor moves and text of 1 to 4 bytes a letter."""
    number = 0
    while size > 0:
        number += 1
        colour = f"\x1b[38;2;{number % 256};{number // 256 % 256};7m"
        line = (
            f"{colour}{number:09d}\x1b[0m\x1b[{number % 40};1H grün 漢字かな 🙂👩‍💻 \x1b]0;title {number}\x07\r\n" * 4
        )
        data = line.encode()[:size]
        size -= len(data)
        yield data


PROGRAM = f"""
import sys
{inspect.getsource(stream).replace("Iterator[bytes]", "object")}
for piece in stream(int(sys.argv[1])):
    sys.stdout.buffer.write(piece)
"""


def known(size: int) -> bytes:
    return b"".join(stream(size))


@asynccontextmanager
async def worker_behind_proxy(
    podman: Podman, console: Console, directory: Path, *executor_args: str
) -> AsyncIterator[tuple[Worker, WorkerLink, LinkProxy]]:
    """A worker whose link runs through a proxy."""
    async with (
        link_proxy(console.port) as proxy,
        running_worker(podman, console, directory, url=proxy.worker_url, executor_args=executor_args) as worker,
    ):
        yield worker, await worker.link(), proxy


async def create_with_program(link: WorkerLink) -> str:
    """Create a DevBox that has the stream's program; returns its id."""
    box = await create(link, image=DEVBOX_IMAGE)
    stdin = base64.b64encode(PROGRAM.encode()).decode()
    await link.request("DevBox.exec", {"devboxId": box, "command": "cat >/workspace/stream.py", "stdin": stdin})
    return box


def faults(
    worker: Worker, link: WorkerLink, proxy: LinkProxy, size: int, order: str
) -> deque[tuple[int, Callable[[], Awaitable[None]]]]:
    """Cuts (c) of the link and kills (k) of the gateway, each due once so many bytes are through."""

    async def cut() -> None:
        proxy.cut()
        await link.wait_disconnected()

    async def kill() -> None:
        await worker.gateway.kill()
        await link.wait_disconnected()
        await worker.gateway.start()

    kinds = {"c": cut, "k": kill}
    return deque((size * number // (len(order) + 1), kinds[kind]) for number, kind in enumerate(order, 1))


# --- Output -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "size", "order"), [("full", 32 * MIB, "ckcck"), ("plain", 8 * MIB, "ck")])
async def test_output_is_whole_across_cuts_and_kills(
    podman: Podman, directory: Path, dialect: Literal["full", "plain"], size: int, order: str
) -> None:
    """Put together by offset, what came has the SHA-256 of what was written, and the exit code comes too."""
    config = ConsoleConfig(data_dir=directory / "console", port=0, dialect=dialect)
    async with (
        serve(config) as console,
        worker_behind_proxy(podman, console, directory) as (worker, link, proxy),
    ):
        box = await create_with_program(link)
        due = faults(worker, link, proxy, size, order)
        command = f"{RAW}python3 /workspace/stream.py {size}; exit 6"
        terminal = await Terminal(link, box, command=command).open()
        received = hashlib.sha256()
        while data := await terminal.read(60):
            received.update(data)
            if due and terminal.position >= due[0][0]:
                _, fault = due.popleft()
                await fault()
                await terminal.resume()
                assert terminal.answer is not None
                assert terminal.answer.resumed

        assert terminal.gaps == []
        assert terminal.position == size
        assert received.digest() == hashlib.sha256(known(size)).digest()
        assert await terminal.wait_exit() == 6
        assert link.connections == 1 + len(order)


async def test_a_program_goes_on_when_the_grace_is_over(podman: Podman, console: Console, directory: Path) -> None:
    """Its oldest output is dropped; the next viewer is told the offset it gets, and has the bytes from there on."""
    size = 6 * MIB
    async with worker_behind_proxy(podman, console, directory, "--terminal-grace", "1") as (worker, link, proxy):
        box = await create_with_program(link)
        # Until the link is cut no more than the scrollback holds, or the grace might be over before.
        go = f"head -c {MIB // 2}; until [ -e /workspace/go ]; do sleep 0.05; done; cat"
        command = f"{RAW}python3 /workspace/stream.py {size} | {{ {go}; }}; exit 6"
        terminal = await Terminal(link, box, command=command).open()
        while terminal.received < MIB // 2:
            await terminal.read()
        proxy.refuse()
        await link.wait_disconnected()
        before = terminal.received
        podman.run("exec", f"clustercode-{box}", "touch", "/workspace/go")
        # What the program wrote is on its way for a while; at its end all of it has come.
        await eventually(lambda: "ended with exit code 6" in worker.executor.text())
        proxy.accept()
        await terminal.resume(timeout_s=60)
        assert terminal.answer is not None
        offset = terminal.answer.offset
        data = bytearray()
        while terminal.position < size:
            data += await terminal.read()

        assert before < offset == size - MIB
        assert terminal.gaps == [(before, offset)]
        assert terminal.answer.resumed
        assert data == known(size)[offset:]
        assert await terminal.wait_exit() == 6


async def test_a_viewer_that_takes_nothing_is_let_go(podman: Podman, console: Console, directory: Path) -> None:
    """After the grace it is told FAILED_PRECONDITION, the program goes on, and it may come back."""
    size = 4 * MIB
    async with worker_behind_proxy(podman, console, directory, "--terminal-grace", "1") as (worker, link, _):
        box = await create_with_program(link)
        command = f"{RAW}python3 /workspace/stream.py {size}; exit 6"
        terminal = await Terminal(link, box, command=command, auto_ack=False).open()
        await eventually(lambda: bool(terminal.refusals))
        received = bytearray(await terminal.read())
        await eventually(lambda: "ended with exit code 6" in worker.executor.text())
        again = await Terminal(link, box, session_id=terminal.session_id, from_offset=len(received)).open()
        while data := await again.read():
            received += data
        assert await again.wait_exit() == 6

        assert terminal.refusals[0].code == "FAILED_PRECONDITION"
        assert "1 s" in terminal.refusals[0].message
        assert again.gaps != []
        assert again.position == size
        assert received[-MIB // 2 :] == known(size)[-MIB // 2 :]


async def test_the_last_words_of_a_program_wait_for_the_viewer(
    podman: Podman, console: Console, directory: Path
) -> None:
    """A program that ends while there is no connection: its output and exit code come with the next one."""
    async with worker_behind_proxy(podman, console, directory) as (worker, link, proxy):
        box = await create(link, image=DEVBOX_IMAGE)
        command = f"{RAW}echo ready; until [ -e /workspace/go ]; do sleep 0.05; done; seq 1 10000; exit 9"
        terminal = await Terminal(link, box, command=command).open()
        await terminal.read_until(b"ready\n")
        proxy.refuse()
        await link.wait_disconnected()
        podman.run("exec", f"clustercode-{box}", "touch", "/workspace/go")
        await eventually(lambda: "ended with exit code 9" in worker.executor.text())
        proxy.accept()
        await terminal.resume()
        rest = bytearray()
        while data := await terminal.read():
            rest += data

        assert rest.split() == [b"%d" % number for number in range(1, 10001)]
        assert await terminal.wait_exit() == 9


async def test_the_last_words_survive_a_gateway_that_took_them(
    podman: Podman, console: Console, directory: Path
) -> None:
    """What a gateway had handed to a dead link when it was killed, the exit code too, is told by the next one."""
    async with worker_behind_proxy(podman, console, directory) as (worker, link, proxy):
        box = await create(link, image=DEVBOX_IMAGE)
        command = f"{RAW}echo ready; until [ -e /workspace/go ]; do sleep 0.05; done; seq 1 10000; exit 9"
        terminal = await Terminal(link, box, command=command).open()
        await terminal.read_until(b"ready\n")
        proxy.stall()
        podman.run("exec", f"clustercode-{box}", "touch", "/workspace/go")
        await eventually(lambda: "exited with 9" in worker.gateway.text())
        await worker.gateway.kill()
        proxy.cut()
        proxy.flow()
        await link.wait_disconnected()
        await worker.gateway.start()
        await terminal.resume()
        rest = bytearray()
        while data := await terminal.read():
            rest += data

        assert terminal.answer is not None
        assert terminal.answer.resumed
        assert rest.split() == [b"%d" % number for number in range(1, 10001)]
        assert await terminal.wait_exit() == 9


async def test_a_stalled_link_loses_nothing(podman: Podman, console: Console, directory: Path) -> None:
    """A link that carries nothing for a while, then slowly, then well again, needs no reconnect and loses no byte."""
    size = 4 * MIB
    async with worker_behind_proxy(podman, console, directory) as (_, link, proxy):
        box = await create_with_program(link)
        terminal = await Terminal(link, box, command=f"{RAW}python3 /workspace/stream.py {size}").open()
        received = bytearray()
        while len(received) < MIB:
            received += await terminal.read()
        proxy.stall()
        with suppress(TimeoutError):
            while True:
                received += await terminal.read(0.5)
        proxy.slow(2 * MIB)
        proxy.flow()
        while len(received) < 2 * MIB:
            received += await terminal.read()
        proxy.slow(None)
        while data := await terminal.read():
            received += data

        assert received == known(size)
        assert link.connections == 1


# --- Input --------------------------------------------------------------------------------------------------------


async def test_keystrokes_arrive_once_across_cuts_and_kills(podman: Podman, console: Console, directory: Path) -> None:
    """What the program read is what was typed; nothing that was acknowledged is lost, nothing comes twice."""
    size = 6 * MIB
    typed = known(size)
    async with worker_behind_proxy(podman, console, directory) as (worker, link, proxy):
        box = await create(link, image=DEVBOX_IMAGE)
        command = f"{RAW}echo ready; head -c {size} >/workspace/typed; sha256sum </workspace/typed | head -c 64"
        terminal = await Terminal(link, box, command=command).open()
        await terminal.read_until(b"ready\n")
        due = faults(worker, link, proxy, size, "ckck")
        for start in range(0, size, 100_000):  # pieces that end within characters and escape sequences
            await terminal.write(typed[start : start + 100_000], timeout_s=60)
            if due and terminal.input.base >= due[0][0]:
                _, fault = due.popleft()
                acknowledged = terminal.input.base
                await fault()
                acknowledged = max(acknowledged, terminal.input.base)
                await terminal.resume()
                assert terminal.answer is not None
                assert acknowledged <= terminal.answer.input_offset
        digest = await terminal.read_until(hashlib.sha256(typed).hexdigest().encode(), 60)

        assert not due
        assert len(digest) == 64
        assert terminal.refusals == []
        assert await terminal.wait_exit() == 0


async def test_keys_typed_while_the_worker_is_away_are_typed_later(
    podman: Podman, console: Console, directory: Path
) -> None:
    """They wait with whoever typed them, and arrive in order, once."""
    async with worker_behind_proxy(podman, console, directory) as (_, link, proxy):
        terminal = await Terminal(link, await create(link), command=f"{RAW}echo ready; head -c 9").open()
        await terminal.read_until(b"ready\n")
        await terminal.write(b"abc")
        await terminal.written()
        proxy.refuse()
        await link.wait_disconnected()
        await terminal.write(b"def")
        await terminal.write(b"ghi")
        await asyncio.sleep(0)
        proxy.accept()
        await terminal.resume()

        assert await terminal.read_until(b"ghi") == b"abcdefghi"
