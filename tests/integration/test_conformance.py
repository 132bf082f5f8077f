"""Our worker keeps the published protocol: the checks of ``clustercode conformance``, one test each."""

import asyncio
import json
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from conformance import suite
from conformance.orchestrator import TOKEN, orchestrator
from conformance.scene import Scene, Target, scene
from tests.integration.conftest import (
    DEVBOX_IMAGE,
    PROGRAM,
    Podman,
    executor_process,
    gateway_process,
    remove_all,
    started,
)

TARGET = Target(DEVBOX_IMAGE, "localhost/devbox-display:latest")


@pytest.fixture(scope="module")
async def subject(podman: Podman) -> AsyncIterator[Scene]:
    """One worker for all checks, as a stranger's would be."""
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        directory = Path(name)
        executor = executor_process(podman, directory)
        try:
            async with orchestrator(directory) as listening:
                gateway = gateway_process(directory, listening.worker_url, listening.token_file)
                async with started(executor, gateway), scene(listening, TARGET, 60) as running:
                    yield running
            remove_built(podman, directory)
        finally:
            remove_all(directory / "data")


def remove_built(podman: Podman, directory: Path) -> None:
    """Remove the layers that the engine keeps of builds."""
    label = f"label=io.clustercode.builder={(directory / 'data/install').read_text().strip()}"
    while images := podman.run("images", "-aq", "--no-trunc", "--filter", label).split():
        podman.run("rmi", "-f", *set(images))


@pytest.mark.parametrize("name", list(suite.CHECKS))
async def test_our_worker_keeps_the_protocol(subject: Scene, name: str) -> None:
    """Each check holds; what is limited on this engine is said by the worker itself."""
    (result,) = [result async for result in suite.run(subject, [name])]

    assert result.outcome in ("passed", "limited"), f"{result.claim} Found: {result.detail}"


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
