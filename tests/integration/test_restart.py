"""Either process may die or be stopped at any time: DevBoxes go on, and what comes back finds them."""

import asyncio
import signal
import sys

import psutil
import pytest

from console.app import Console
from console.terminal_client import Terminal
from console.workers import WorkerLink
from protos.errors import Unavailable
from tests.integration.conftest import (
    IMAGE,
    TENANT,
    Podman,
    Process,
    Worker,
    create,
    eventually,
    running_worker,
)


async def answers(link: WorkerLink) -> bool:
    """Whether the executor behind a link answers."""
    try:
        await link.request("DevBox.list", {})
    except Unavailable:
        return False
    return True


async def heartbeat_says(link: WorkerLink, status: str) -> str:
    """Wait for a heartbeat with this gatewayStatus; returns its detail."""
    await eventually(lambda: link.heartbeat is not None and link.heartbeat.gateway_status == status, 40)
    assert link.heartbeat is not None
    return link.heartbeat.gateway_status_detail or ""


async def test_a_killed_executor_finds_everything_again(worker: Worker) -> None:
    """DevBox.list is the same, commands and terminals work, and what it left running in the boxes is gone."""
    link = await worker.link()
    box = await create(link, "one", labels={"mine": "yes"}, secretEnv={"TOKEN": "s3cret"})
    stopped = await create(link, "two")
    await link.request("DevBox.stop", {"devboxId": stopped, "timeoutSeconds": 1})
    before = (await link.request("DevBox.list", {}))["devboxes"]
    terminal = await Terminal(link, box).open()
    await terminal.write(b"sleep 811 & sleep 812\n")
    await terminal.read_until(b"sleep 812")
    async with asyncio.TaskGroup() as group:
        lost = group.create_task(_refused(link, {"devboxId": box, "command": "echo began; sleep 813", "stream": True}))
        await eventually(lambda: _runs(worker, "sleep 813"))

        await worker.executor.kill()
        assert "may have been done" in await lost
    with pytest.raises(Unavailable, match="executor is not running"):
        await link.request("DevBox.list", {})
    await worker.executor.start()
    await eventually(lambda: answers(link))

    assert (await link.request("DevBox.list", {}))["devboxes"] == before
    run = await link.request("DevBox.exec", {"devboxId": box, "command": "echo $TOKEN"})
    assert run["stdout"] == "s3cret\n"
    async with Terminal(link, box) as again:
        await again.write(b"echo si''gn $((6*7))\n")
        await again.read_until(b"sign 42")
        # Reaping the leftovers spares what was opened meanwhile.
        await eventually(lambda: not _runs(worker, "sleep 81"))
        await again.write(b"echo st''ill $((6*7))\n")
        await again.read_until(b"still 42")
    terminal.detach()


async def _refused(link: WorkerLink, command: dict[str, object]) -> str:
    with pytest.raises(Unavailable) as error:
        await link.request("DevBox.exec", command)
    return str(error.value)


def _runs(worker: Worker, command: str) -> bool:  # noqa: ARG001 - boxes are seen from the host
    return any(command in " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))


async def test_an_absent_executor_is_said_and_waited_for(worker: Worker) -> None:
    """The worker stays connected, answers UNAVAILABLE, says why in its heartbeat, and recovers by itself."""
    link = await worker.link()
    connections = link.connections
    await worker.executor.kill()

    assert "executor" in await heartbeat_says(link, "executor-unavailable")
    assert link.connected
    await worker.executor.start()
    await heartbeat_says(link, "connected")
    assert await answers(link)
    assert link.connections == connections


async def test_an_absent_engine_is_said_and_waited_for(worker: Worker, podman: Podman) -> None:
    """Neither process ends; commands say what is wrong; when the engine is back all goes on."""
    link = await worker.link()
    box = await create(link)
    podman.stop()
    try:
        with pytest.raises(Unavailable, match="engine"):
            await link.request("DevBox.exec", {"devboxId": box, "command": "true"})
        assert "engine" in await heartbeat_says(link, "engine-unavailable")
    finally:
        podman.start()
    await eventually(lambda: answers(link))
    assert (await link.request("DevBox.exec", {"devboxId": box, "command": "echo on"}))["stdout"] == "on\n"
    await heartbeat_says(link, "connected")


async def test_stopping_both_leaves_devboxes_running(worker: Worker, podman: Podman) -> None:
    """SIGTERM ends each with exit code 0, with a terminal open; no process of the terminal is left in the box."""
    link = await worker.link()
    box = await create(link)
    terminal = await Terminal(link, box).open()
    await terminal.write(b"sleep 821\n")
    await eventually(lambda: _runs(worker, "sleep 821"))

    assert await worker.gateway.stop() == 0
    assert await worker.executor.stop() == 0

    assert podman.run("inspect", "-f", "{{.State.Status}}", f"clustercode-{box}").strip() == "running"
    assert not _runs(worker, "sleep 821")
    terminal.detach()


async def test_a_command_in_flight_outlives_the_gateway(worker: Worker) -> None:
    """Sent again under its id to the next gateway it gets its one answer: it ran once."""
    link = await worker.link()
    box = await create(link)
    command = "echo ran >> /workspace/runs; until [ -e /workspace/go ]; do sleep 0.1; done; cat /workspace/runs"
    async with asyncio.TaskGroup() as group:
        # The console sends commands in flight again when the worker returns.
        asked = group.create_task(link.request("DevBox.exec", {"devboxId": box, "command": command}))
        await eventually(lambda: _runs(worker, "/workspace/go"))
        await worker.gateway.kill()
        await link.wait_disconnected()
        await worker.gateway.start()
        await link.wait_connected(30)
        await link.request("DevBox.exec", {"devboxId": box, "command": "touch /workspace/go"})

    assert asked.result()["stdout"] == "ran\n"


async def test_a_data_directory_has_one_executor(worker: Worker) -> None:
    """The second one says who has it and ends with 4; the first goes on."""
    second = Process("second", worker.executor.command, worker.directory / "second.log")
    await second.start()
    assert second.running is not None
    async with asyncio.timeout(30):
        code = await second.running.wait()

    assert code == 4
    assert f"process {worker.executor.pid}" in second.text()
    assert await answers(await worker.link())


def _supervised(console: Console, podman: Podman, worker: Worker) -> Process:
    command = [
        *(sys.executable, "-m", "clustercode", "worker", "--url", console.worker_url),
        *("--token-file", str(console.token_file), "--tenant", TENANT, "--worker-id", "w-supervised"),
        *("--engine-socket", str(podman.socket), "--data-dir", str(worker.directory / "supervised")),
    ]
    return Process("worker", command, worker.directory / "supervised.log")


async def test_the_supervisor_keeps_both_running_and_takes_them_along(
    worker: Worker, console: Console, podman: Podman
) -> None:
    """A killed gateway or executor is started again; SIGTERM ends all with 0; SIGKILL leaves no child."""
    supervisor = _supervised(console, podman, worker)
    await supervisor.start()
    link = await console.worker("w-supervised", 30)
    for name in ("gateway", "executor"):
        child = _child(supervisor, name)
        child.kill()
        await eventually(lambda name=name, pid=child.pid: _has_other_child(supervisor, name, pid))
        await link.wait_connected(30)
        await eventually(lambda: answers(link))
    assert await supervisor.stop() == 0

    await supervisor.start()
    await link.wait_connected(30)
    children = psutil.Process(supervisor.pid).children(recursive=True)
    assert len(children) >= 2
    await supervisor.stop(signal.SIGKILL)
    await eventually(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))


def _child(supervisor: Process, name: str) -> psutil.Process:
    return next(c for c in psutil.Process(supervisor.pid).children(recursive=True) if name in c.cmdline()[1:5])


def _has_other_child(supervisor: Process, name: str, pid: int) -> bool:
    found = [c for c in psutil.Process(supervisor.pid).children(recursive=True) if name in c.cmdline()[1:5]]
    return bool(found) and all(child.pid != pid for child in found)


async def test_a_creation_cut_by_a_kill_is_found_by_its_name(worker: Worker) -> None:
    """Asked again after the executor's restart, the same creation answers with the one DevBox."""
    link = await worker.link()
    box = await create(link, "once")
    await worker.executor.kill()
    await worker.executor.start()
    await eventually(lambda: answers(link))

    again = await link.request("DevBox.create", {"name": "once", "image": IMAGE})
    assert again["devbox"]["id"] == box


@pytest.mark.usefixtures("podman")
async def test_another_installation_s_devboxes_are_not_ours(worker: Worker, console: Console, podman: Podman) -> None:
    """Two workers on one engine neither list nor touch each other's DevBoxes."""
    link = await worker.link()
    box = await create(link)
    other_directory = worker.directory / "other"
    other_directory.mkdir()
    async with running_worker(podman, console, other_directory, worker_id="w-other") as other:
        other_link = await other.link()

        assert (await other_link.request("DevBox.list-all", {}))["devboxes"] == []
        assert await create(other_link) != box
