"""Dialling, refusals, registering and heartbeats, against an orchestrator that decides about each attempt."""

import asyncio
import platform
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from conformance.orchestrator import TOKEN, orchestrator
from console.app import Console
from tests.integration.conftest import (
    PROGRAM,
    TENANT,
    Podman,
    Process,
    eventually,
    executor_process,
    gateway_process,
    lasting_peer,
    quiet_port,
    serves,
    started,
)


def a_gateway(directory: Path, url: str, token_file: Path, *more: str) -> Process:
    """A gateway that is not started yet; its executor is wherever a test puts one."""
    return gateway_process(directory, url, token_file, "--name", "a name", *more, worker_id="w-1")


@pytest.fixture(scope="module")
async def place(podman: Podman) -> AsyncIterator[Path]:
    """A directory with an executor that serves."""
    with TemporaryDirectory(prefix="cc-") as name:
        executor = executor_process(podman, Path(name))
        async with started(executor):
            await serves(executor)
            yield Path(name)


async def ended(process: Process) -> int:
    """Wait for a process to end by itself; returns its exit code."""
    assert process.running is not None
    async with asyncio.timeout(60):
        return await process.running.wait()


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
async def test_a_refused_token_ends_the_gateway(place: Path, status: HTTPStatus) -> None:
    """One attempt, a sentence that says what to do, exit code 3, and the token in no log."""
    async with orchestrator(place, refuse_with=(status, {})) as cloud:
        gateway = a_gateway(place, cloud.worker_url, cloud.token_file, "--log-level", "DEBUG")
        async with started(gateway):
            assert await ended(gateway) == 3
            assert len(cloud.attempts) == 1
    assert "does not accept this worker's token" in gateway.text()
    assert TOKEN not in gateway.text()


async def test_a_refused_token_ends_the_worker_too(directory: Path, podman: Podman) -> None:
    """The supervisor does not hammer: it stops its executor and ends with the same code."""
    async with orchestrator(directory, refuse_with=(HTTPStatus.UNAUTHORIZED, {})) as cloud:
        command = [
            *(*PROGRAM, "worker", "--url", cloud.worker_url, "--token-file", str(cloud.token_file)),
            *("--data-dir", str(directory / "data"), "--engine-socket", str(podman.socket)),
        ]
        worker = Process("worker", command, directory / "worker.log")
        async with started(worker):
            assert await ended(worker) == 3
        assert len(cloud.attempts) == 1


async def test_of_two_instances_the_older_stops(place: Path, console: Console) -> None:
    """It says which machine the newer one is on and ends with 6, rather than displace it in turn; the newer stays."""
    older, newer = (a_gateway(place, console.worker_url, console.token_file) for _ in range(2))
    async with started(older):
        link = await console.worker("w-1", 60)
        async with started(newer):
            assert await ended(older) == 6
            assert link.connected
            assert newer.running is not None
            assert newer.running.returncode is None
    assert f"replaced by the one on {socket.gethostname()}" in older.text()


async def test_an_absent_orchestrator_is_waited_for(place: Path) -> None:
    """The gateway keeps trying and is connected once there is one."""
    port = quiet_port()
    token_file = place / "token"
    token_file.write_text(TOKEN)
    gateway = a_gateway(place, f"ws://127.0.0.1:{port}/ws/worker", token_file)
    async with started(gateway):
        await eventually(lambda: "Dialing again" in gateway.text())
        async with orchestrator(place, port=port) as cloud:
            _, register = await cloud.peer()

    assert register["name"] == "a name"


@pytest.mark.parametrize(
    ("status", "is_path"), [(HTTPStatus.NOT_FOUND, True), (HTTPStatus.OK, True), (HTTPStatus.BAD_GATEWAY, False)]
)
async def test_an_answer_without_a_websocket_is_told_as_it_came(place: Path, status: HTTPStatus, is_path: bool) -> None:
    """Something answers, so it says what, and doubts the path unless the server is in trouble; it goes on trying."""
    async with orchestrator(place, refuse_with=(status, {})) as cloud:
        gateway = a_gateway(place, cloud.worker_url, cloud.token_file)
        gateway.log = place / f"{status}.log"
        async with started(gateway):
            await eventually(lambda: len(cloud.attempts) > 1)
            await eventually(lambda: gateway.text().count("Dialing again") > 1)
    assert f"it answers HTTP {status}" in gateway.text()
    assert ("path in its address" in gateway.text()) == is_path
    assert "cannot be reached" not in gateway.text()


async def test_the_console_says_who_came(place: Path, console: Console, caplog: pytest.LogCaptureFixture) -> None:
    """By the name that its owner gave it."""
    with caplog.at_level("INFO", "console"):
        async with started(a_gateway(place, console.worker_url, console.token_file)):
            await console.worker("w-1", 60)
    assert "worker w-1 connected (a name, agent" in caplog.text


async def test_it_registers_with_the_fixed_fields_and_beats(place: Path) -> None:
    """Names and types of the published protocol and nothing else; the handshake's headers too."""
    async with (
        orchestrator(place) as cloud,
        started(a_gateway(place, cloud.worker_url, cloud.token_file)),
    ):
        peer, register = await lasting_peer(cloud)
        beats = [await peer.expect(type="worker.heartbeat")]
        # The first may come before the executor knows where its engine keeps things.
        while "diskTotal" not in beats[-1]["payload"]:
            beats.append(await peer.expect(type="worker.heartbeat"))

    assert {key: type(value) for key, value in register.items()} == {
        "name": str,
        "hostname": str,
        "platform": str,
        "cpuCount": int,
        "memoryTotal": int,
        "containerEngines": list,
        "agentVersion": str,
        "mode": str,
        "workerId": str,
        "tenantId": str,
        "capabilities": list,
        "securityFloor": str,
        "sessions": list,
        "devboxes": list,
    }
    assert peer.headers["X-ClusterCode-Worker-Id"] == "w-1"
    assert peer.headers["X-ClusterCode-Tenant-Id"] == TENANT
    assert peer.headers["User-Agent"].startswith("clustercode-worker/")
    assert register["hostname"] == socket.gethostname()
    assert register["platform"] == platform.system().lower()
    assert register["cpuCount"] == psutil.cpu_count()
    assert register["memoryTotal"] == psutil.virtual_memory().total
    assert "podman" in register["containerEngines"]
    assert register["agentVersion"]
    assert (register["name"], register["mode"]) == ("a name", "byom")
    assert "terminal.ack" in register["capabilities"]
    assert (register["workerId"], register["tenantId"], register["securityFloor"]) == ("w-1", TENANT, "standard")
    for beat in beats:
        payload = beat["payload"]
        assert isinstance(payload["cpuUsage"], float | int)
        assert all(isinstance(payload[name], int) for name in ("memoryFree", "containersRunning"))
        assert 0 <= payload["cpuUsage"] <= 100
        assert payload["containersRunning"] == 0
        assert payload["gatewayStatus"] == "connected"
        assert payload["memoryFree"] > 0
    assert beats[-1]["payload"]["diskTotal"] > beats[-1]["payload"]["diskFree"] > 0
    assert set(beats[-1]["payload"]) == {
        *("cpuUsage", "memoryFree", "diskTotal", "diskFree", "containersRunning", "gatewayStatus"),
    }


async def test_an_executor_s_socket_that_others_may_use_is_refused(directory: Path) -> None:
    """Whoever could put a socket there would get all that orchestrators send: exit code 4, and what to run."""
    rpc = directory / "data" / "rpc"
    rpc.mkdir(parents=True)
    rpc.chmod(0o777)
    async with orchestrator(directory) as cloud:
        gateway = a_gateway(directory, cloud.worker_url, cloud.token_file)
        async with started(gateway):
            assert await ended(gateway) == 4
        assert cloud.attempts == []
    assert "chmod" in gateway.text()


async def test_a_socket_that_is_opened_to_others_meanwhile_is_not_used(podman: Podman, directory: Path) -> None:
    """What was right at the start is looked at again before each call: UNAVAILABLE until it is right again."""
    executor = executor_process(podman, directory)
    async with orchestrator(directory) as cloud, started(executor):
        await serves(executor)
        gateway = a_gateway(directory, cloud.worker_url, cloud.token_file)
        async with started(gateway):
            peer, _ = await cloud.peer()
            (directory / "data" / "rpc").chmod(0o777)
            answer = await peer.ask("DevBox.list", {"tenantId": TENANT})

            assert answer["error"]["code"] == "UNAVAILABLE"
            assert "chmod" in answer["error"]["message"]
            (directory / "data" / "rpc").chmod(0o750)
            assert (await peer.ask("DevBox.list", {"tenantId": TENANT}))["ok"]


async def test_an_executor_does_not_serve_where_others_could_enter(directory: Path, podman: Podman) -> None:
    """A directory that is open to others ends it with 4 and a sentence."""
    rpc = directory / "data" / "rpc"
    rpc.mkdir(parents=True)
    rpc.chmod(0o757)
    executor = executor_process(podman, directory)
    async with started(executor):
        assert await ended(executor) == 4
    assert "closed to others" in executor.text()
