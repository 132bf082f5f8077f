"""``clustercode status``: what the running worker says, however it is."""

import shlex
from pathlib import Path
from typing import Any

import grpc
import pytest

from console.app import Console
from protos import executor_pb2 as pb
from protos.executor_pb2_grpc import ExecutorServiceStub
from tests.integration.commands import run
from tests.integration.conftest import (
    PROGRAM,
    TENANT,
    Podman,
    Process,
    create,
    eventually,
    executor_process,
    running_worker,
    started,
)

TRUE: dict[str, Any] = {"worker_id": "w", "orchestrator": "wss://o.example", "since": "2026-01-01T00:00:00+00:00"}
LIES: tuple[dict[str, Any], ...] = (
    {"since": ""},
    {"since": "yesterday"},
    {"since": "2026-01-01T00:00:00"},
    {"since": "0001-01-01T00:00:00+00:00"},
    {"worker_id": "w\x1b]0;title\x07"},
    {"orchestrator": "x" * 5000},
    {"last_error": "no time"},
    {"last_error": "\x1b[2J", "last_error_at": "2026-01-01T00:00:00+00:00"},
)


async def test_status_tells_how_the_worker_is(podman: Podman, console: Console, directory: Path) -> None:
    """Connected, then cut off, then without its gateway: each with when and why."""
    async with running_worker(podman, console, directory) as worker:
        where = ("--data-dir", str(worker.data))

        async def says(*words: str) -> bool:
            shown = await run("status", *where, home=directory)
            return all(word in shown.out for word in words)

        link = await worker.link()
        await create(link, profile="offline")  # the quickest: it needs no network
        # The gateway tells of itself from time to time, so what it last told may be of the moment before.
        whole = ("connected since", "1 running, 1 in all", console.worker_url, "w-test", "podman", "free on its disk")
        await eventually(lambda: says(*whole, "0 terminals", "0 answers wait"))
        connected = await run("status", *where, home=directory)
        assert connected.code == 0
        assert all(len(line) <= 80 for line in connected.out.splitlines())

        worker.gateway.command[worker.gateway.command.index("--url") + 1] = "ws://127.0.0.1:1/ws/worker"
        await worker.gateway.stop()
        await worker.gateway.start()
        await eventually(lambda: says("not connected since", "Last error", "ago)"))
        assert (await run("status", *where, home=directory)).code == 1

    gone = await run("status", *where, home=directory)
    assert gone.code == 4
    assert "No worker runs here" in gone.err


async def test_status_without_a_gateway_or_an_engine(podman: Podman, directory: Path) -> None:
    """The executor alone still answers, says what is missing, and believes no gateway what would break this output."""
    executor = executor_process(podman, directory, "--engine-socket", str(directory / "no.sock"))
    async with started(executor):
        await eventually((directory / "data" / "operator" / "rpc.sock").exists)
        for lie in LIES:
            async with grpc.aio.insecure_channel(f"unix:{directory / 'data' / 'rpc' / 'executor.sock'}") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await ExecutorServiceStub(channel).ReportGateway(pb.ReportGatewayRequest(**{**TRUE, **lie}))
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        shown = await run("status", "--data-dir", str(directory / "data"), home=directory)

    assert shown.code == 1
    assert "no gateway has told of itself" in shown.out
    assert f"No container engine answers on {directory}/no.sock" in shown.out


async def test_no_docker_and_another_engine_are_said_at_the_start(podman: Podman, directory: Path) -> None:
    """With what to do, in the log: whoever asked for Docker is not left with a worker that looks well."""
    command = [*PROGRAM, "executor", "--docker", "--tenants", TENANT, "--data-dir"]
    hidden = f"mount -t tmpfs tmpfs /run; exec {shlex.join([*command, str(directory / 'absent')])}"
    absent = Process(
        "executor", ["unshare", "--mount", "sh", "-ec", hidden], directory / "absent.log", {"DOCKER_HOST": ""}
    )
    named = [*command, str(directory / "other"), "--engine-socket", str(podman.socket)]
    other = Process("executor", named, directory / "other.log")
    async with started(absent, other):
        await eventually(lambda: "or use Podman (--podman)" in absent.text())
        await eventually(lambda: "not docker. Start Docker" in other.text())
    assert "Docker does not answer" in absent.text() or "Docker is not installed" in absent.text()
