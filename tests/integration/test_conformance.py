"""``clustercode conformance`` against a worker that breaks the protocol.

That ours keeps it, tests/containers and tests/engines show with the same checks."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from conformance.orchestrator import TOKEN
from tests.integration.commands import environment, run
from tests.integration.conftest import IMAGE, PROGRAM, Podman, Process, eventually, remove_all, started


async def test_a_worker_that_breaks_the_protocol_fails_by_name(directory: Path) -> None:
    """The command says for each check what was due and what was found, writes its report, and exits with 1."""
    (directory / "given").write_text(TOKEN)
    report = directory / "report.json"
    options = ("--token-file", str(directory / "given"), "--report", str(report), "--only", "messages: a")
    process = await asyncio.create_subprocess_exec(*PROGRAM, "conformance", *options, stdout=subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while not (found := re.search(rb"ws://\S+", line := await process.stdout.readline())):
            assert line, "it ended"
        await yes_man(found[0].decode())
        table = (await process.stdout.read()).decode()
        code = await process.wait()

    assert code == 1
    assert re.search("FAILED .* messages: an unknown command is answered", table)
    assert "due:   UNIMPLEMENTED, never silence." in table
    assert "found: DevBox.fly with None was done, where UNIMPLEMENTED was due" in table
    outcomes = {result["name"]: result["outcome"] for result in json.loads(report.read_text())["results"]}
    assert set(outcomes.values()) == {"failed"}


async def test_the_printed_command_connects_our_worker(directory: Path, podman: Podman) -> None:
    """As it stands there, in a shell that knows nothing of this program."""
    options = ("--only", "messages: an unknown command is answered")
    environ = environment(
        directory, PATH=os.defpath, DATA_DIR=str(directory / "data"), ENGINE_SOCKET=str(podman.socket)
    )
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "conformance", *options, stdout=subprocess.PIPE, env=environ
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while not (line := (await process.stdout.readline()).decode()).startswith("    "):
            assert line, "it ended"
        worker = Process("worker", ["sh", "-c", f"exec {line.strip()}"], directory / "worker.log", environ)
        async with started(worker):
            table = (await process.stdout.read()).decode()
            code = await process.wait()

    assert code == 0, table
    assert "1 passed, 0 passed with limits, 0 failed" in table


@pytest.mark.parametrize("check", ["devboxes: a devbox lives", "images: a build that fails"])
async def test_a_run_that_is_stopped_removes_what_it_had_begun(directory: Path, podman: Podman, check: str) -> None:
    """In the middle of creating a DevBox or of a build: nothing of it is on the worker's engine afterwards."""
    environ = environment(
        directory, PATH=os.defpath, DATA_DIR=str(directory / "data"), ENGINE_SOCKET=str(podman.socket)
    )
    checks = Process(
        "conformance", [*PROGRAM, "conformance", "--image", IMAGE, "--only", check], directory / "log", environ
    )
    try:
        async with started(checks):
            await eventually(lambda: "--tenant local" in checks.text())
            (command,) = [line.strip() for line in checks.text().splitlines() if line.startswith("    ")]
            worker = Process("worker", ["sh", "-c", f"exec {command}"], directory / "worker.log", environ)
            async with started(worker):
                install = directory / "data" / "install"
                await eventually(lambda: install.exists() and install.read_text().strip() != "")
                labels = [
                    f"label=io.clustercode.{name}={install.read_text().strip()}" for name in ("install", "builder")
                ]

                def made() -> str:
                    return "".join(podman.run("ps", "-aq", "--filter", label) for label in labels)

                await eventually(lambda: made() != "")
                assert await checks.stop(signal.SIGTERM) == 1
                assert made() == ""
                images = podman.run("images", "-aq", "--filter", labels[1])
    finally:
        remove_all(directory / "data")
    assert images == ""


async def yes_man(url: str) -> None:
    """A worker that answers everything with nothing, until it is left alone."""
    register = {
        "name": "yes", "hostname": "yes", "platform": "linux", "cpuCount": 1, "memoryTotal": 1, "mode": "byom",
        "containerEngines": ["podman"], "agentVersion": "1", "workerId": "w", "tenantId": "t",
    }  # fmt: skip
    async with connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as ws:
        await ws.send(json.dumps({"type": "worker.register", "payload": register}))
        with suppress(ConnectionClosed):
            while message := json.loads(await ws.recv()):
                if "id" in message:
                    await ws.send(json.dumps({"type": "response", "id": message["id"], "ok": True, "payload": {}}))


async def test_an_address_that_cannot_be_listened_on_is_a_sentence(directory: Path) -> None:
    """One that is taken, and one that is not this machine's."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for where in (("--port", port), ("--host", "192.0.2.1")):
            ended = await run("conformance", *where, home=directory)
            assert ended.code == 4
            assert re.match(r"Error: Cannot listen on .*: .*\. Choose others\.\n$", ended.err), ended.err
