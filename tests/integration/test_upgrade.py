"""An upgrade: gateway and executor are replaced by another build while terminals stream and an image is built."""

import asyncio
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import psutil
import pytest

from console.terminal_client import Terminal
from console.workers import WorkerLink
from protos.errors import Unavailable
from tests.integration.conftest import IMAGE, Podman, Process, Worker, answers, eventually
from tests.integration.test_images import Engine, Watched
from tests.integration.test_resume import MIB, RAW, create_with_program, known

DISTRIBUTION = "clustercode-worker"
PACKAGES = ("clustercode", "executor", "gateway", "protos")
ROOT = Path(__file__).parents[2]
NEW_VERSION = "99.0.1"
NAME = "cc-test-upgraded"


@pytest.fixture
def new_build(directory: Path) -> dict[str, str]:
    """Another build of the program: a copy of it under another version. Returns the environment that runs it."""
    tree = directory / "new"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    installed_now = distribution(DISTRIBUTION)
    metadata = installed_now.read_text("METADATA") or installed_now.read_text("PKG-INFO")  # what `make dist` leaves
    assert metadata is not None
    installed = tree / f"clustercode_worker-{NEW_VERSION}.dist-info" / "METADATA"
    installed.parent.mkdir()
    installed.write_text(re.sub(r"(?m)^Version: .*", f"Version: {NEW_VERSION}", metadata, count=1))
    environment = {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}  # or the directory we run in would go first
    where = "import executor.app, gateway.app; print(executor.app.__file__, gateway.app.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [str(tree / process / "app.py") for process in ("executor", "gateway")]
    return environment


async def replace(process: Process, new_build: dict[str, str], *, at_once: bool) -> None:
    """Stop a process as an upgrade does, or as one who sends SIGTERM twice; start the new build in its place."""
    assert process.running is not None
    process.running.send_signal(signal.SIGTERM)
    if at_once:
        await eventually(lambda: "topping: " in process.text())
        process.running.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        await process.running.wait()
    process.environment = new_build
    await process.start()


@dataclass
class SlowBuild:
    """An image whose only step ends when it is let go on."""

    link: WorkerLink
    marker: str

    async def ask(self, watched: Watched) -> str:
        """Build it; returns the image's id."""
        step = f"echo at work $((1 + 1)); until [ -e /workspace/{self.marker} ]; do sleep 0.1; done"
        payload = {"name": NAME, "containerfile": f"FROM {IMAGE}\nRUN {step}\n"}
        return str((await self.link.request("image.build", payload, on_progress=watched))["imageId"])

    def processes(self) -> list[int]:
        """Ids of the processes that work at it."""
        return [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if process.info["cmdline"] and self.marker in " ".join(process.info["cmdline"])
        ]

    def go_on(self) -> None:
        """Let the step end."""
        for pid in self.processes():
            workspace = Path("/proc", str(pid), "root/workspace")
            if workspace.is_dir():
                (workspace / self.marker).touch()


def lines(output: bytes) -> list[int]:
    """Numbers of the lines that were shown, each where it came first: tmux may paint a screen more than once."""
    return list(dict.fromkeys(int(number) for number in re.findall(rb"line-(\d+)-", output)))


@pytest.fixture
def engine(podman: Podman, worker: Worker) -> Iterator[Engine]:
    """What is on the engine of this worker's builds; at the end nothing is."""
    engine = Engine(podman, worker)
    yield engine
    while left := engine.ours():
        podman.run("rmi", "-f", *left)


@pytest.mark.long
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "drained"])
async def test_an_upgrade_loses_nothing(
    worker: Worker, engine: Engine, podman: Podman, new_build: dict[str, str], at_once: bool
) -> None:
    """The gateway is replaced: nobody notices. Then the executor: what cannot go on is told, the rest is there again.

    A terminal goes on byte for byte under the new gateway, and is told that it ended with the old executor. All lines
    of a persistent shell are there. A build's answer comes through the new gateway; one that the executor was at is
    answered so, leaves nothing, and works when it is asked for again.
    """
    link = await worker.link()
    box = await create_with_program(link)
    write = "i=0; until [ -e stop ]; do i=$((i + 1)); echo line-$i-; sleep 0.02; done; echo end-$i-; exec cat"
    shell = await Terminal(link, box, persistent="main", command=write, workdir="/workspace").open()
    size = 16 * MIB
    terminal = await Terminal(link, box, command=f"{RAW}exec python3 /workspace/stream.py {size}").open()
    received, shown = bytearray(), bytearray()
    while len(received) < MIB:
        received += await terminal.read()
    shown += await shell.read_until(b"line-20-")
    layers, working = engine.layers(), engine.working()
    build = SlowBuild(link, secrets.token_hex(8))
    watched = Watched("at work 2")

    async with asyncio.TaskGroup() as group:
        asked = group.create_task(build.ask(watched))
        await watched.wait()
        await replace(worker.gateway, new_build, at_once=at_once)
        await link.wait_disconnected()
        for each in (terminal, shell):
            await each.resume()
        build.go_on()
    assert link.register is not None
    assert link.register.agent_version == NEW_VERSION
    first = asked.result()
    while len(received) < 2 * MIB:
        received += await terminal.read()
    shown += await shell.read_until(f"line-{lines(bytes(shown))[-1] + 20}-".encode())
    assert terminal.gaps == shell.gaps == []
    assert lines(bytes(shown)) == [*range(1, len(lines(bytes(shown))) + 1)]

    podman.run("rmi", "-f", first)
    layers, working = engine.layers(), engine.working()
    build = SlowBuild(link, secrets.token_hex(8))
    watched = Watched("at work 2")

    async def refused() -> None:
        with pytest.raises(Unavailable):
            await build.ask(watched)

    async with asyncio.TaskGroup() as group:
        group.create_task(refused())
        await watched.wait()
        await replace(worker.executor, new_build, at_once=at_once)
    await eventually(lambda: answers(link), 60)
    while not terminal.refusals:
        received += await terminal.read()
    assert "again" in terminal.refusals[0].message
    assert received == known(size)[: len(received)]
    await eventually(lambda: not build.processes() and engine.working() <= working, 60)
    await eventually(lambda: engine.layers() <= layers and "-holder" not in podman.run("ps", "-a"), 60)

    podman.run("exec", f"clustercode-{box}", "touch", "/workspace/stop")
    screen = ("exec", f"clustercode-{box}", "tmux", "-L", "clustercode-main", "capture-pane", "-pt", "main")
    await eventually(lambda: "end-" in podman.run(*screen))
    again = await Terminal(link, box, persistent="main").open()
    shown = bytearray(await again.read_until(b"end-"))
    while not (end := re.search(rb"end-(\d+)-", shown)):
        shown += await again.read()
    assert lines(bytes(shown)) == [*range(1, int(end[1]) + 1)]
    await eventually(lambda: not _streams())

    watched = Watched("at work 2")
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(build.ask(watched))
        await watched.wait()
        build.go_on()
    assert asked.result()
    assert link.connections == 2


def _streams() -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and process.info["cmdline"][1:2] == ["/workspace/stream.py"]
    ]
