"""Dialling, refusals, registering and heartbeats, against an orchestrator that decides about each attempt."""

import asyncio
import platform
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import TENANT, Podman, Process
from tests.integration.orchestrator import TOKEN, orchestrator

PROGRAM = (sys.executable, "-m", "clustercode")


def a_gateway(directory: Path, url: str, token_file: Path, *more: str) -> Process:
    """A gateway that is not started yet; its executor is wherever a test puts one."""
    command = [
        *(*PROGRAM, "gateway", "--url", url, "--token-file", str(token_file), "--tenant", TENANT),
        *("--worker-id", "w-1", "--name", "a name", "--executor-socket", str(directory / "data/rpc/executor.sock")),
        *more,
    ]
    return Process("gateway", command, directory / "gateway.log")


def an_executor(directory: Path, podman: Podman) -> Process:
    """The executor of `a_gateway`, not started yet."""
    command = [
        *(*PROGRAM, "executor", "--tenants", TENANT, "--data-dir", str(directory / "data")),
        *("--engine-socket", str(podman.socket)),
    ]
    return Process("executor", command, directory / "executor.log")


@asynccontextmanager
async def running(process: Process) -> AsyncIterator[Process]:
    """A process while the context is open; its log is shown when a test fails."""
    await process.start()
    try:
        yield process
    except BaseException:
        print(process.text()[-4000:])
        raise
    finally:
        assert process.running is not None
        if process.running.returncode is None:
            await process.stop()


async def ended(process: Process) -> int:
    """Wait for a process to end by itself; returns its exit code."""
    assert process.running is not None
    async with asyncio.timeout(30):
        return await process.running.wait()


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
async def test_a_refused_token_ends_the_gateway(directory: Path, status: HTTPStatus) -> None:
    """One attempt, a sentence that says what to do, exit code 3, and the token in no log."""
    async with orchestrator(directory, refuse_with=(status, {})) as cloud:
        gateway = a_gateway(directory, cloud.worker_url, cloud.token_file, "--log-level", "DEBUG")
        await gateway.start()

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
        await worker.start()

        assert await ended(worker) == 3
        assert len(cloud.attempts) == 1


@pytest.mark.parametrize("status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE])
async def test_retry_after_is_obeyed(directory: Path, status: HTTPStatus) -> None:
    """The next attempt comes no sooner than asked."""
    async with (
        orchestrator(directory, refuse_with=(status, {"Retry-After": "3"})) as cloud,
        running(a_gateway(directory, cloud.worker_url, cloud.token_file)),
    ):
        await cloud.attempted(2)

    assert cloud.attempts[1] - cloud.attempts[0] >= 3


async def test_an_absent_orchestrator_is_waited_for(directory: Path) -> None:
    """The gateway keeps trying and is connected once there is one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    token_file = directory / "token"
    token_file.write_text(TOKEN)
    async with running(a_gateway(directory, f"ws://127.0.0.1:{port}/ws/worker", token_file)) as gateway:
        while "Dialing again" not in gateway.text():
            await asyncio.sleep(0.05)
        async with orchestrator(directory, port=port) as cloud:
            _, register = await cloud.peer()

    assert register["name"] == "a name"


async def test_it_registers_with_the_fixed_fields_and_beats(directory: Path, podman: Podman) -> None:
    """Names and types of the published protocol, with an executor beside it; the handshake's headers too."""
    async with (
        orchestrator(directory) as cloud,
        running(an_executor(directory, podman)),
        running(a_gateway(directory, cloud.worker_url, cloud.token_file)),
    ):
        peer, register = await cloud.peer()
        if not register["containerEngines"]:  # the gateway was first: it registers again with the engines
            peer, register = await cloud.peer()
        beats = [await peer.expect(type="worker.heartbeat") for _ in range(2)]

    assert peer.headers["X-ClusterCode-Worker-Id"] == "w-1"
    assert peer.headers["X-ClusterCode-Tenant-Id"] == TENANT
    assert peer.headers["User-Agent"].startswith("clustercode-worker/")
    assert register["hostname"] == socket.gethostname()
    assert register["platform"] == platform.system().lower()
    assert register["cpuCount"] == psutil.cpu_count()
    assert register["memoryTotal"] == psutil.virtual_memory().total
    assert "podman" in register["containerEngines"]
    assert register["agentVersion"]
    assert register["mode"] == "byom"
    assert (register["workerId"], register["tenantId"], register["securityFloor"]) == ("w-1", TENANT, "standard")
    for beat in beats:
        payload = beat["payload"]
        assert 0 <= payload["cpuUsage"] <= 100
        assert payload["containersRunning"] == 0
        assert payload["gatewayStatus"] == "connected"
        assert payload["memoryFree"] > 0
    # The first beat may come before the executor knows where its engine keeps things.
    assert beats[-1]["payload"]["diskTotal"] > beats[-1]["payload"]["diskFree"] > 0


async def test_an_executor_s_socket_that_others_may_use_is_refused(directory: Path) -> None:
    """Whoever could put a socket there would get all that orchestrators send: exit code 4, and what to run."""
    rpc = directory / "data" / "rpc"
    rpc.mkdir(parents=True)
    rpc.chmod(0o777)
    async with orchestrator(directory) as cloud:
        gateway = a_gateway(directory, cloud.worker_url, cloud.token_file)
        await gateway.start()

        assert await ended(gateway) == 4
        assert cloud.attempts == []
    assert "chmod" in gateway.text()


async def test_an_executor_does_not_serve_where_others_could_enter(directory: Path, podman: Podman) -> None:
    """A directory that is open to others ends it with 4 and a sentence."""
    rpc = directory / "data" / "rpc"
    rpc.mkdir(parents=True)
    rpc.chmod(0o757)
    executor = an_executor(directory, podman)
    await executor.start()

    assert await ended(executor) == 4
    assert "closed to others" in executor.text()
