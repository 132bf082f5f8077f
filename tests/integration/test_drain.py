"""Ending a worker, emptying one, and starting a second beside it, as whoever owns the machine does."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from console.app import Console
from console.workers import WorkerLink
from protos.errors import Unavailable
from tests.integration.commands import run
from tests.integration.conftest import PROGRAM, TENANT, Podman, Process, create, eventually, remove_all, started

WORKER = "w-drained"


@dataclass
class Supervised:
    """A worker as people start it, connected."""

    process: Process
    link: WorkerLink
    data: Path


def command(podman: Podman, console: Console, data: Path) -> list[str]:
    return [
        *(*PROGRAM, "worker", "--mode", "byom", "--url", console.worker_url, "--token-file", str(console.token_file)),
        *("--tenant", TENANT, "--worker-id", WORKER, "--data-dir", str(data), "--engine-socket", str(podman.socket)),
    ]


@pytest.fixture
async def supervised(podman: Podman, console: Console, directory: Path) -> AsyncIterator[Supervised]:
    data = directory / "data"
    process = Process("worker", command(podman, console, data), directory / "worker.log")
    try:
        async with started(process):
            link = await console.worker(WORKER, 60)
            await eventually(lambda: bool(link.register and link.register.container_engines))
            yield Supervised(process, link, data)
    finally:
        remove_all(data)


def says_draining(link: WorkerLink) -> bool:
    return link.heartbeat is not None and link.heartbeat.gateway_status == "draining"


async def in_flight(link: WorkerLink, box: str, tasks: asyncio.TaskGroup) -> "asyncio.Task[str]":
    """Begin a command that ends when there is a file ``go``; returns once it runs."""

    async def ask() -> str:
        wait = "echo > begun; until [ -e go ]; do sleep 0.05; done; echo done"
        answer = await link.request("DevBox.exec", {"devboxId": box, "command": wait, "workdir": "/workspace"})
        return str(answer["stdout"])

    asked = tasks.create_task(ask(), name="in flight")
    await link.request(
        "DevBox.exec", {"devboxId": box, "command": "until [ -e /workspace/begun ]; do sleep 0.05; done"}
    )
    return asked


async def test_sigterm_finishes_what_is_under_way(supervised: Supervised, podman: Podman) -> None:
    """The orchestrator is told at once, new commands are refused, the answer still comes; exit 0, DevBoxes go on."""
    link = supervised.link
    box = await create(link)
    async with asyncio.TaskGroup() as tasks:
        asked = await in_flight(link, box, tasks)
        os.kill(supervised.process.pid, signal.SIGTERM)
        await eventually(lambda: says_draining(link))
        with pytest.raises(Unavailable, match="stopping"):
            await link.request("DevBox.list", {})
        podman.run("exec", f"clustercode-{box}", "touch", "/workspace/go")
        assert await asked == "done\n"

    assert supervised.process.running is not None
    assert await supervised.process.running.wait() == 0
    assert podman.run("inspect", "-f", "{{.State.Status}}", f"clustercode-{box}").strip() == "running"


async def test_a_second_sigterm_ends_it_now(supervised: Supervised) -> None:
    """With work under way: the processes are killed rather than waited for, and the exit code says that it was cut."""
    link = supervised.link
    box = await create(link)
    async with asyncio.TaskGroup() as tasks:
        asked = await in_flight(link, box, tasks)
        os.kill(supervised.process.pid, signal.SIGTERM)
        await eventually(lambda: says_draining(link))
        os.kill(supervised.process.pid, signal.SIGTERM)
        assert supervised.process.running is not None
        assert await supervised.process.running.wait() == 5
        asked.cancel()
    assert "is killed" in supervised.process.text()


async def test_a_second_worker_is_told_who_was_first(
    supervised: Supervised, podman: Podman, console: Console, directory: Path
) -> None:
    """It ends with 4 before it dials, so that the first is not displaced."""
    second = Process("second", command(podman, console, supervised.data), directory / "second.log")
    async with started(second):
        assert second.running is not None
        async with asyncio.timeout(60):
            assert await second.running.wait() == 4
    assert f"process {supervised.process.pid} on {socket.gethostname()}" in second.text()
    assert supervised.link.connections == 1
    assert supervised.link.connected


async def test_a_worker_is_emptied(supervised: Supervised, directory: Path) -> None:
    """No new DevBoxes, old ones go on; the orchestrator is told, and the command says when none is left."""
    link = supervised.link
    box = await create(link, "old")
    where = ("--data-dir", str(supervised.data))
    log = directory / "drain.log"
    draining = Process("drain", [*PROGRAM, "worker", "--mode", "byom", "--drain", *where], log)
    async with started(draining):
        await eventually(lambda: "1 DevBox is left, 1 running: old" in draining.text())
        with pytest.raises(Unavailable, match="takes no new DevBoxes"):
            await create(link, "new")
        assert await create(link, "old") == box, "a repeat is no new one"
        run_in = {"devboxId": box, "command": "echo on"}
        assert (await link.request("DevBox.exec", run_in))["stdout"] == "on\n"
        await eventually(lambda: says_draining(link))
        assert "1 in all; takes no new ones" in (await run("status", *where, home=directory)).out
        await link.request("DevBox.remove", {"devboxId": box, "force": True})
        assert draining.running is not None
        async with asyncio.timeout(60):
            assert await draining.running.wait() == 0
    assert "It is empty." in draining.text()

    ended = await run("worker", "--mode", "byom", "--no-drain", *where, home=directory)
    assert ended.code == 0
    await create(link, "new")


async def test_only_a_worker_that_runs_is_emptied(directory: Path) -> None:
    """Else: what to do, and exit 4."""
    ended = await run("worker", "--mode", "byom", "--drain", "--data-dir", str(directory / "none"), home=directory)

    assert ended.code == 4
    assert "No worker runs here" in ended.err
