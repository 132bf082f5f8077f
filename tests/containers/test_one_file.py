"""``dist/worker-agent`` alone in a container that has no Python: only the file, an engine's socket and a directory."""

import asyncio
import json
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from testcontainers.core.container import DockerContainer

from conformance.orchestrator import Orchestrator, orchestrator
from conformance.scene import Scene, scene
from tests.containers.conftest import ROOT, TARGET, started
from tests.integration.conftest import Podman, eventually, remove_all

FILE = ROOT / "dist" / "worker-agent"
BARE = "localhost/debian:bookworm"
"""Debian and no more: what the DevBoxes' images are built on."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """The file must be there: see `make dist`."""
    if not FILE.exists():
        pytest.fail("dist/worker-agent is missing: run 'make dist'.")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path, for sockets."""
    path = Path(tempfile.mkdtemp(prefix="cc-"))
    try:
        yield path
    finally:
        remove_all(path / "data")
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def listening(directory: Path) -> AsyncIterator[Orchestrator]:
    """An orchestrator with a token of its own."""
    async with orchestrator(directory, token=secrets.token_urlsafe(32)) as running:
        yield running


@pytest.fixture
def agent(podman: Podman, directory: Path, listening: Orchestrator) -> Iterator[DockerContainer]:
    """The file as the only program of a container, with what compose.yaml gives the executor, and a network."""
    data = directory / "data"
    data.mkdir(mode=0o700)
    service = {
        "image": BARE,
        "command": ["worker-agent"],
        "network_mode": "host",
        "pid": "host",
        "environment": {
            "ORCHESTRATOR_WS_URL": listening.worker_url,
            "ORCHESTRATOR_TOKEN_FILE": "/token",
            "WORKER_ID": "w-one-file",
            "TENANT_ID": "local",
            "AGENT_MODE": "byom",
            "DATA_DIR": str(data),
            "ENGINE_SOCKET": str(podman.socket),
            "SECURITY_FLOOR": "open",
        },
        "volumes": [
            f"{FILE}:/usr/local/bin/worker-agent:ro",
            f"{listening.token_file}:/token:ro",
            f"{data}:{data}",
            f"{podman.socket}:{podman.socket}",
            "/sys/fs/cgroup:/sys/fs/cgroup:ro",
        ],
    }
    with started(service, podman) as container:
        yield container


@pytest.fixture
async def running(agent: DockerContainer, listening: Orchestrator) -> AsyncIterator[Scene]:  # noqa: ARG001 - started
    """The agent, registered; its DevBoxes go at the end."""
    async with scene(listening, TARGET, 60) as found:
        yield found


def inside(agent: DockerContainer, script: str) -> str:
    """Run a script in the agent's container; returns what it prints."""
    done = agent.get_wrapped_container().exec_run(["sh", "-c", script])
    assert done.exit_code == 0, done.output.decode()
    return str(done.output.decode())


def processes(agent: DockerContainer) -> dict[str, psutil.Process]:
    """The agent's processes, by what each is: none of them has another between itself and the supervisor."""
    container = agent.get_wrapped_container()
    container.reload()
    worker = psutil.Process(container.attrs["State"]["Pid"])
    return {"worker": worker} | {child.cmdline()[1]: child for child in worker.children(recursive=True)}


async def ended(agent: DockerContainer) -> int:
    """Wait until the agent has ended; returns its exit code."""
    return int((await asyncio.to_thread(agent.get_wrapped_container().wait, timeout=60))["StatusCode"])


async def test_it_opens_a_terminal_where_there_is_no_python(agent: DockerContainer, running: Scene) -> None:
    """It registers, creates a DevBox, opens a terminal, says what the machine lacks, and ends with 0 on SIGTERM."""
    assert inside(agent, "command -v python3 || command -v python || echo none") == "none\n"

    box = await running.create()
    told = [message["payload"]["message"] for message in running.peer.waiting if message["type"] == "progress"]
    assert any("gets no network" in text and "squid and socat" in text for text in told), told
    await running.peer.open(box["id"], "t-one-file", tenantId=running.tenant)
    await running.peer.type("t-one-file", b"echo he''llo\n")
    await running.peer.shows("t-one-file", b"hello\r\n")
    await running.peer.type("t-one-file", b"exit 3\n")
    assert (await running.peer.exit_of("t-one-file"))["exitCode"] == 3
    await running.clear()

    all_of_it = processes(agent)
    agent.get_wrapped_container().kill("SIGTERM")
    assert await ended(agent) == 0, agent.get_logs()[0].decode()[-2000:]
    assert [process for process in all_of_it.values() if process.is_running()] == []
    output, errors = agent.get_logs()
    logged = [json.loads(line) for line in output.decode().splitlines()]
    assert {line["process"] for line in logged} >= {"worker", "gateway", "executor"}
    assert errors == b""


async def test_without_squid_devboxes_have_no_network_or_the_machines(running: Scene) -> None:
    """Standard and offline ones have none, open ones the machine's."""
    names = {}
    for profile in ("standard", "offline", "open"):
        box = await running.create(profile=profile)
        names[profile] = (await running.run(box["id"], "ls /sys/class/net")).split()
    await running.clear()

    assert names["standard"] == names["offline"] == ["lo"]
    assert set(names["open"]) == set(psutil.net_if_addrs())


async def test_its_processes_are_itself_again_and_end_with_it(agent: DockerContainer, running: Scene) -> None:
    """A killed gateway is started again from what was unpacked once; who kills the agent leaves nothing behind."""
    first = processes(agent)
    assert first.keys() == {"worker", "gateway", "executor", "egress"}
    (program,) = {process.cmdline()[0] for name, process in first.items() if name != "worker"}
    assert program.startswith("/var/cache/clustercode/")
    assert inside(agent, "ls /var/cache/clustercode | wc -l") == "1\n"

    first["gateway"].kill()
    await running.peer.closed.wait()
    await running.connected()
    second = processes(agent)
    assert second["gateway"].cmdline() == [program, "gateway", "--handed-over"]
    assert second["executor"] == first["executor"]

    second["worker"].kill()
    await ended(agent)
    await eventually(lambda: not any(process.is_running() for process in second.values()))
