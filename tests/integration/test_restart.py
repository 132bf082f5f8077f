"""Either process may die or be stopped at any time: DevBoxes go on, and what comes back finds them."""

import asyncio
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest

from console.app import Console
from console.terminal_client import Terminal
from console.workers import WorkerLink
from protos.errors import Unavailable
from tests.integration.conftest import (
    IMAGE,
    PROGRAM,
    TENANT,
    Podman,
    Process,
    Worker,
    answers,
    create,
    eventually,
    remove_all,
    running_worker,
    started,
)


async def heartbeat_says(link: WorkerLink, status: str) -> str:
    """Wait for a heartbeat with this gatewayStatus; returns its detail."""
    await eventually(lambda: link.heartbeat is not None and link.heartbeat.gateway_status == status, 120)
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


async def test_what_is_absent_is_said_and_waited_for(console: Console, directory: Path) -> None:
    """Without executor, without engine, or with one that hangs, a worker stays connected, answers UNAVAILABLE with the
    reason, says it in its heartbeat, and recovers by itself.

    A command that the engine lost is killed before it is answered. Workers side by side, with engines of their own.
    """
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for what in (absent_executor, absent_engine, stuck_engine):
            place = directory / what.__name__
            (place / "e").mkdir(parents=True)
            podman = Podman(place / "e")
            podman.start()
            stack.callback(podman.stop)
            worker = await stack.enter_async_context(running_worker(podman, console, place, worker_id=what.__name__))
            group.create_task(what(worker, podman), name=what.__name__)


async def absent_executor(worker: Worker, _: Podman) -> None:
    link = await worker.link()
    await worker.executor.kill()
    with pytest.raises(Unavailable, match="executor"):
        await link.request("DevBox.list", {})
    assert "executor" in await heartbeat_says(link, "executor-unavailable")
    await worker.executor.start()
    await heartbeat_says(link, "connected")

    assert await answers(link)
    assert link.connections == 1


async def absent_engine(worker: Worker, podman: Podman) -> None:
    link = await worker.link()
    box = await create(link)
    terminal = await Terminal(link, box, command="exec sleep 831").open()
    async with asyncio.TaskGroup() as group:
        lost = group.create_task(_refused(link, {"devboxId": box, "command": "echo began; sleep 832"}))
        await eventually(lambda: _runs(worker, "sleep 831") and _runs(worker, "sleep 832"))
        podman.stop()
        with pytest.raises(Unavailable, match="engine"):
            await link.request("DevBox.exec", {"devboxId": box, "command": "true"})
        assert "engine" in await heartbeat_says(link, "engine-unavailable")
        podman.start()
        await heartbeat_says(link, "connected")
    assert "lost the command" in lost.result()
    assert not _runs(worker, "sleep 832"), "it runs on though it was answered"

    assert (await link.request("DevBox.exec", {"devboxId": box, "command": "echo on"}))["stdout"] == "on\n"
    assert await terminal.wait_exit() == -1, "the engine took the terminal's stream along"
    await eventually(lambda: not _runs(worker, "sleep 831"))
    async with Terminal(link, box) as again:
        await again.write(b"echo $((6*7))\n")
        await again.read_until(b"42")
    for process in (worker.gateway, worker.executor):
        assert process.running is not None
        assert process.running.returncode is None
    assert link.connections == 1


async def stuck_engine(worker: Worker, podman: Podman) -> None:
    link = await worker.link()
    podman.freeze()
    try:
        assert "engine" in await heartbeat_says(link, "engine-unavailable")
    finally:
        podman.thaw()
    await heartbeat_says(link, "connected")

    assert await answers(link)
    assert link.connections == 1


async def test_an_executor_that_hangs_at_a_reconnect_loses_no_session(worker: Worker) -> None:
    """Who cannot ask it does not say that there are none, and registers again when it answers."""
    link = await worker.link()
    terminal = await Terminal(link, await create(link)).open()
    assert worker.console is not None
    assert worker.executor.running is not None
    worker.executor.running.send_signal(signal.SIGSTOP)
    try:
        await worker.console.worker_socket.disconnect(worker.worker_id)
        await eventually(lambda: link.connections == 2)
        assert link.register is not None
        assert link.register.container_engines == []
        assert link.sessions.find(terminal.session_id) is not None
    finally:
        worker.executor.running.send_signal(signal.SIGCONT)
    await eventually(lambda: bool(link.register and link.register.container_engines))

    assert [session.session_id for session in link.register.sessions] == [terminal.session_id]
    await terminal.resume()
    assert terminal.answer is not None
    assert terminal.answer.resumed


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
        await link.wait_connected(60)
        await link.request("DevBox.exec", {"devboxId": box, "command": "touch /workspace/go"})

    assert asked.result()["stdout"] == "ran\n"


async def test_a_data_directory_has_one_executor(worker: Worker) -> None:
    """The second one says who has it and ends with 4; the first goes on."""
    second = Process("second", worker.executor.command, worker.directory / "second.log")
    await second.start()
    assert second.running is not None
    async with asyncio.timeout(60):
        code = await second.running.wait()

    assert code == 4
    assert f"process {worker.executor.pid}" in second.text()
    assert await answers(await worker.link())


def supervised(console: Console, directory: Path, *more: str) -> Process:
    """``clustercode worker``, not started yet."""
    command = [
        *(*PROGRAM, "worker", "--url", console.worker_url, "--token-file", str(console.token_file)),
        *("--tenant", TENANT, "--worker-id", "w-supervised", "--data-dir", str(directory / "data"), *more),
    ]
    return Process("worker", command, directory / "supervised.log")


def children(supervisor: Process) -> dict[str, psutil.Process]:
    """Its processes that live, by what they are."""
    found = {}
    for child in psutil.Process(supervisor.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            words = child.cmdline()
            found.update({name: child for name in ("gateway", "executor", "system service") if name in " ".join(words)})
    return found


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two
        return False


async def test_the_supervisor_keeps_both_running(podman: Podman, console: Console, directory: Path) -> None:
    """A killed gateway or executor is started again, and with it all works; SIGTERM ends all with 0."""
    supervisor = supervised(console, directory, "--engine-socket", str(podman.socket))
    async with started(supervisor):
        link = await console.worker("w-supervised", 60)
        for name in ("gateway", "executor"):
            killed = children(supervisor)[name]
            killed.kill()
            await eventually(lambda name=name, killed=killed: children(supervisor).get(name, killed).pid != killed.pid)
            await link.wait_connected(60)
            await eventually(lambda: answers(link))
        left = children(supervisor)

        assert await supervisor.stop() == 0
        assert set(left) == {"gateway", "executor"}
        assert not any(child.is_running() for child in left.values())


async def test_a_killed_supervisor_leaves_no_process(console: Console, directory: Path) -> None:
    """Gateway, executor and the engine's service that it started end with it, whatever kills it; DevBoxes go on."""
    supervisor = supervised(console, directory)
    try:
        async with started(supervisor):
            link = await console.worker("w-supervised", 60)
            await eventually(lambda: answers(link))
            box = await create(link)
            await Terminal(link, box, command="sleep 861").open()
            left = children(supervisor)
            await supervisor.kill()
            await eventually(lambda: not any(_lives(child) for child in left.values()))

            assert {"gateway", "executor"} <= set(left), "and the service, where the machine has none"
            assert "running" in Podman.run("inspect", "-f", "{{.State.Status}}", f"clustercode-{box}")
    finally:
        remove_all(directory / "data")


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
