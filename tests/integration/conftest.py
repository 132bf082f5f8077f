"""A real engine, the two real processes and a real orchestrator (our console), for every test here.

Nothing is skipped: without an engine these tests fail and say what to do. After the session a census fails it if a
container, volume, network, image or process is left that was not there before.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from conformance.orchestrator import Json, Orchestrator, Peer
from console.app import Console, serve
from console.config import ConsoleConfig
from console.workers import WorkerLink
from protos.errors import Unavailable
from tests.integration.canary import CANARY, podman_places

IMAGE = "localhost/clustercode-test:latest"
"""BusyBox only: boxes of it start in a tenth of a second."""
DEVBOX_IMAGE = "localhost/devbox:latest"
"""The image people use: bash, git, tmux, Python."""
TENANT = "local"
OTHER_TENANT = "other"
PROGRAM = (sys.executable, "-m", "clustercode")


@dataclass
class Process:
    """One of our processes, its log in a file that a failing test shows."""

    name: str
    command: list[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    running: asyncio.subprocess.Process | None = None
    _begins: int = 0  # where in the log it was started last

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._begins = os.fstat(log.fileno()).st_size  # 0 of a terminal, which has no place to tell
            self.running = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process and wait for its end; returns its exit code."""
        assert self.running is not None
        with suppress(ProcessLookupError):
            self.running.send_signal(number)
        async with asyncio.timeout(60):
            return await self.running.wait()

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)

    @property
    def pid(self) -> int:
        assert self.running is not None
        return self.running.pid

    def text(self) -> str:
        """What it logged so far."""
        return self.log.read_text(errors="replace")

    def text_since_start(self) -> str:
        """What it logged since it was started last: an earlier one may have written to the same file."""
        return self.log.read_bytes()[self._begins :].decode(errors="replace")

    @property
    def rss(self) -> int:
        """Bytes of memory it holds now."""
        return int(psutil.Process(self.pid).memory_info().rss)


@dataclass
class Worker:
    """Gateway and executor as two processes, against one orchestrator: our console, unless a test has another."""

    gateway: Process
    executor: Process
    console: Console | None
    directory: Path
    worker_id: str

    async def link(self, timeout_s: float = 60) -> WorkerLink:
        """The orchestrator's side of it, once connected."""
        assert self.console is not None
        return await self.console.worker(self.worker_id, timeout_s)

    @property
    def data(self) -> Path:
        """The executor's data directory."""
        return self.directory / "data"


class Podman:
    """``podman system service`` on a socket of its own, and the command line beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "podman.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        log = (self.directory / "podman.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                ["podman", "system", "service", "--time=0", f"unix://{self.socket}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True,
            )  # fmt: skip
        for _ in range(3000):
            with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
                probe.connect(str(self.socket))
                return
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(0.02)
                pytest.fail(f"podman system service ended with {code}: {(self.directory / 'podman.log').read_text()}")
        pytest.fail("podman system service did not open its socket in a minute")

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)

    def freeze(self) -> None:
        """Let it hang: it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def places(self) -> list[str]:
        """Where it keeps what it knows."""
        return podman_places(self.run)

    @staticmethod
    def run(*arguments: str) -> str:
        """Run the podman command; returns what it prints.

        A list of Podman 4.3 fails if something on it is removed or ends meanwhile, so lists are asked for again.
        """
        for _ in range(20 if arguments[0] in ("ps", "images", "top") else 1):
            done = subprocess.run(["podman", *arguments], check=False, capture_output=True, text=True, timeout=60)
            if done.returncode == 0:
                break
        if done.returncode != 0:
            print(f"podman {' '.join(arguments)}: {done.stderr}")
        done.check_returncode()
        return done.stdout


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """The engine. It must be there: see `make engine`."""
    if shutil.which("podman") is None:
        pytest.fail("These tests need Podman: run them by 'make test', which installs it, or run 'make engine images'.")
    for image in (IMAGE, DEVBOX_IMAGE):
        if subprocess.run(["podman", "image", "exists", image], check=False).returncode != 0:
            pytest.fail(f"The image {image} is missing: run 'make images'.")
    before = _census()
    directory = Path(tempfile.mkdtemp(prefix="cc-engine-"))
    engine = Podman(directory)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
        with suppress(subprocess.CalledProcessError):  # one that was there before may be in use
            Podman.run("rmi", *Podman.run("images", "-q", "--filter", "label=io.clustercode.part=egress").split())
        shutil.rmtree(directory, ignore_errors=True)
    left = {kind: sorted(found - before[kind]) for kind, found in _census().items() if found - before[kind]}
    assert not left, f"the tests left something behind: {left}"


@asynccontextmanager
async def relayed(
    podman: Podman, directory: Path, alter: Callable[[bytes], tuple[bytes, bytes]]
) -> AsyncIterator[Path]:
    """The engine behind a relay on the socket returned; ``alter`` says of what is sent what the engine gets, and what
    is answered in its stead."""

    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter | None
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                if back is not None:
                    data, answer = alter(data)
                    back.write(answer)
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_unix_connection(podman.socket)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(carry(reader, engine_writer, writer), name="to engine")
                group.create_task(carry(engine_reader, writer, None), name="from engine")
        finally:
            engine_writer.close()
            writer.close()

    server = await asyncio.start_unix_server(serve, directory / "relayed.sock")
    try:
        yield directory / "relayed.sock"
    finally:
        server.close()


def _census() -> dict[str, set[str]]:
    """Everything of ours on this machine, by kind."""
    return {
        "containers": set(Podman.run("ps", "-aq", "--no-trunc").split()),
        "volumes": set(Podman.run("volume", "ls", "-q").split()),
        "networks": set(Podman.run("network", "ls", "-q").split()),
        "images": set(Podman.run("images", "-aq", "--no-trunc").split()),
        "processes": {
            f"{process.pid} {' '.join(process.info['cmdline'])[:120]}"
            for process in psutil.process_iter(["cmdline"])
            if process.info["cmdline"] and "clustercode" in " ".join(process.info["cmdline"][:4])
            and "pytest" not in " ".join(process.info["cmdline"][:3])
        },
    }  # fmt: skip


def quiet_port() -> int:
    """A port of loopback for another process to listen on: of those that no connection gets by itself meanwhile."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10_000, first_given), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port is free")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: Unix sockets take 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="cc-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def executor_process(podman: Podman, directory: Path, *arguments: str) -> Process:
    """An executor that is not started yet; its data is in ``directory / "data"``."""
    command = [*PROGRAM, "executor", "--tenants", TENANT, "--data-dir", str(directory / "data")]
    return Process(
        "executor", [*command, "--engine-socket", str(podman.socket), *arguments], directory / "executor.log"
    )


def gateway_process(
    directory: Path, url: str, token_file: Path, *arguments: str, worker_id: str = "w-test", log: str = "gateway.log"
) -> Process:
    """A gateway that is not started yet, for the executor of the same directory."""
    command = [*PROGRAM, "gateway", "--url", url, "--token-file", str(token_file), "--tenant", TENANT]
    rpc = directory / "data" / "rpc" / "executor.sock"
    return Process(
        "gateway",
        [*command, "--worker-id", worker_id, "--executor-socket", str(rpc), *arguments],
        directory / log,
    )


async def lasting_peer(cloud: Orchestrator) -> tuple[Peer, Json]:
    """The next connection that stays, and its register: one from before the engine was known is made anew then."""
    peer, register = await cloud.peer(60)
    while not register["containerEngines"]:
        peer, register = await cloud.peer(60)
    return peer, register


async def serves(executor: Process) -> None:
    """Wait until an executor that was started takes calls."""
    await eventually(lambda: "executor serves" in executor.text_since_start())


@asynccontextmanager
async def started(*processes: Process) -> AsyncIterator[None]:
    """Start processes; stop those that still run at the end, and show the logs of all if the test failed."""
    try:
        for process in processes:
            await process.start()
        yield
    except BaseException:
        for process in processes:
            print(f"--- {process.name} ---\n{process.text()[-6000:]}")
        raise
    finally:
        for process in processes:
            if process.running is not None and process.running.returncode is None:
                await process.stop()
        assert not [process.name for process in processes if CANARY in process.text()], "a log has the canary"


@asynccontextmanager
async def running_worker(
    podman: Podman,
    console: Console,
    directory: Path,
    *,
    url: str | None = None,
    executor_args: tuple[str, ...] = (),
    worker_id: str = "w-test",
) -> AsyncIterator[Worker]:
    """Gateway and executor, connected to the console (by ``url``); all of their DevBoxes are removed at the end."""
    executor = executor_process(podman, directory, *executor_args)
    gateway = gateway_process(directory, url or console.worker_url, console.token_file, worker_id=worker_id)
    worker = Worker(gateway, executor, console, directory, worker_id)
    try:
        async with started(gateway, executor):
            link = await worker.link()
            async with asyncio.timeout(60):  # a busy machine: the gateway may be connected before the executor serves
                while not (link.register and link.register.container_engines):
                    await asyncio.sleep(0.05)
            yield worker
    finally:
        remove_all(worker.data)


def remove_all(data: Path) -> None:
    """Remove what an installation has on the engine, whatever state its executor is in."""
    with suppress(FileNotFoundError):
        label = f"label=io.clustercode.install={(data / 'install').read_text().strip()}"
        if containers := Podman.run("ps", "-aq", "--filter", label).split():
            Podman.run("rm", "-f", "-t", "0", "--depend", *containers)  # those beside a DevBox depend on one another
        if volumes := Podman.run("volume", "ls", "-q", "--filter", label).split():
            Podman.run("volume", "rm", "-f", *volumes)


@pytest.fixture
async def console(directory: Path) -> AsyncIterator[Console]:
    """The orchestrator of one test."""
    async with serve(ConsoleConfig(data_dir=directory / "console", port=0)) as running:
        yield running


@pytest.fixture
async def worker(podman: Podman, console: Console, directory: Path) -> AsyncIterator[Worker]:
    """A worker of its own for one test that kills, cuts or measures something of it."""
    async with running_worker(podman, console, directory) as running:
        yield running


@pytest.fixture(scope="module")
async def shared_worker(podman: Podman) -> AsyncIterator[Worker]:
    """One worker for all tests of a module that leave its processes alone: starting one takes a good second.

    It serves two tenants, so that tests may act as the other one.
    """
    directory = Path(tempfile.mkdtemp(prefix="cc-"))
    try:
        async with (
            serve(ConsoleConfig(data_dir=directory / "console", port=0)) as console,
            running_worker(
                podman, console, directory, executor_args=("--mode", "fleet", "--tenants", f"{TENANT},{OTHER_TENANT}")
            ) as running,
        ):
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def link(shared_worker: Worker) -> AsyncIterator[WorkerLink]:
    """The orchestrator's side of the shared worker, which has no DevBoxes before and after."""
    link = await shared_worker.link()
    yield link
    await empty(link)


async def empty(link: WorkerLink) -> None:
    """Remove all of a worker's DevBoxes."""
    async with asyncio.TaskGroup() as group:
        for box in (await link.request("DevBox.list-all", timeout_s=60))["devboxes"]:
            of_box = {"tenantId": box["tenantId"], "devboxId": box["id"], "force": True}
            group.create_task(link.request("DevBox.remove", of_box, timeout_s=60), name=f"remove {box['name']}")


async def create(link: WorkerLink, name: str = "box", image: str = IMAGE, **more: object) -> str:
    """Create a DevBox that runs; returns its id."""
    answer = await link.request("DevBox.create", {"name": name, "image": image, **more})
    assert answer["devbox"]["state"] == "running"
    return str(answer["devbox"]["id"])


async def answers(link: WorkerLink) -> bool:
    """Whether the executor behind a link answers."""
    try:
        await link.request("DevBox.list", {})
    except Unavailable:
        return False
    return True


async def eventually(holds: Callable[[], bool] | Callable[[], Awaitable[bool]], timeout_s: float = 60) -> None:
    """Wait until something holds that nothing tells us of: another process's state. Raises `TimeoutError`."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = holds()
            if (await found) if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)
