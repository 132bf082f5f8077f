"""A DevBox that does its worst: another one's terminal answers meanwhile, and the bad one is stopped without exec."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from console.terminal_client import Terminal
from console.workers import WorkerLink
from protos.errors import DeadlineExceeded, Refusal
from tests.integration.canary import SECRET_ENV, Watch, check_files
from tests.integration.conftest import DEVBOX_IMAGE, Podman, Worker, create, eventually

MIB = 1024**2
ECHOES = 20
FILL = "cat /dev/zero >%s/full 2>/dev/null; echo end >/workspace/filled; exec sleep 1000"


@dataclass
class Witness:
    """A terminal in another DevBox."""

    terminal: Terminal
    echoes: int = 0

    async def answers(self) -> None:
        """It echoes, again and again; the deadline is only there to end a test that fails."""
        for _ in range(ECHOES):
            self.echoes += 1
            await self.terminal.write(b"echo echo-$((%d+0))\n" % self.echoes)
            await self.terminal.read_until(b"echo-%d\r\n" % self.echoes, 60)


@pytest.fixture(autouse=True)
def no_secret_gets_out(podman: Podman, shared_worker: Worker, link: WorkerLink) -> Iterator[None]:  # noqa: ARG001 - after it
    """The canary is in its DevBox and in one file, whatever that DevBox does."""
    yield
    watch = Watch()
    watch.look()
    kept = [path.name for path in (shared_worker.data / "secrets").iterdir()]
    assert len(kept) == 1
    check_files(shared_worker.data, kept, [*podman.places(), podman.directory, shared_worker.directory])
    assert watch.found == set()


@pytest.fixture
async def witness(link: WorkerLink) -> AsyncIterator[Witness]:
    async with Terminal(link, await create(link, "witness")) as terminal:
        yield Witness(terminal)


async def stopped_without_exec(link: WorkerLink, podman: Podman, box: str) -> None:
    """The worker stops it, and nothing of it runs."""
    stopped = await link.request("DevBox.stop", {"devboxId": box, "timeoutSeconds": 0}, timeout_s=60)
    assert stopped["devbox"]["state"] == "exited"
    assert podman.run("inspect", "-f", "{{.State.Running}}", f"clustercode-{box}").strip() == "false"


@pytest.mark.parametrize(
    ("bomb", "sign"),
    [
        pytest.param("b() { b | b & }; b; exec sleep 1000", "", id="fork"),
        pytest.param("while :; do tail /dev/zero; echo killed >/workspace/killed; done", "killed", id="memory"),
        pytest.param(FILL % "/tmp", "", id="tmpfs"),  # its memory is the DevBox's: either is full
        pytest.param(FILL % "/dev/shm", "filled", id="shm"),
    ],
)
async def test_a_bomb_harms_its_own_devbox(
    link: WorkerLink, podman: Podman, witness: Witness, bomb: str, sign: str
) -> None:
    """Processes, memory, tmpfs: at the limit nothing but the bad DevBox feels it."""
    limits = {"memoryBytes": 96 * MIB, "pids": 64}
    box = await create(link, "bad", profile="strict", resources=limits, secretEnv=SECRET_ENV)
    await link.request("DevBox.exec.background", {"devboxId": box, "command": bomb})
    await witness.answers()
    if sign:
        volume = podman.run("volume", "inspect", "-f", "{{.Mountpoint}}", f"clustercode-{box}-workspace").strip()
        await eventually((Path(volume) / sign).exists, 60)
    else:
        with suppress(Refusal):  # whether it can still start something or not, it is answered
            await link.request("DevBox.exec", {"devboxId": box, "command": "true", "timeoutMs": 5000}, timeout_s=60)
    await witness.answers()

    await stopped_without_exec(link, podman, box)
    await witness.answers()


async def test_twenty_terminals_that_flood_delay_nobody(link: WorkerLink, podman: Podman, witness: Witness) -> None:
    """`yes` in each, all of them read as fast as it goes."""
    box = await create(link, "bad", secretEnv=SECRET_ENV)

    async def read(terminal: Terminal) -> None:
        while await terminal.read():
            pass

    async with AsyncExitStack() as stack:
        floods = [await stack.enter_async_context(Terminal(link, box, command="yes")) for _ in range(20)]
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read(flood), name="reader") for flood in floods]
            await eventually(lambda: all(flood.received > 0 for flood in floods))
            await witness.answers()
            await stopped_without_exec(link, podman, box)
            await asyncio.wait(readers, timeout=60)
            ended = [reader.done() for reader in readers]
            for reader in readers:
                reader.cancel()
    await witness.answers()

    assert all(ended)


async def test_pipes_that_are_held_open_hold_nobody_up(link: WorkerLink, podman: Podman, witness: Witness) -> None:
    """A command whose children keep its output open is answered: by its end, or at the latest by its deadline."""
    box = await create(link, "bad", secretEnv=SECRET_ENV)
    held = {"devboxId": box, "command": "trap '' HUP TERM; sleep 861 & sleep 862 & echo begun", "timeoutMs": 1500}

    async def answer() -> str:
        try:
            return str((await link.request("DevBox.exec", held, timeout_s=60))["stdout"])
        except DeadlineExceeded:
            return "begun\n"

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(), name="held") for _ in range(10)]
        await witness.answers()

    assert [task.result() for task in tasks] == ["begun\n"] * 10
    await stopped_without_exec(link, podman, box)


async def test_a_tmux_that_is_killed_ends_its_terminal_only(link: WorkerLink, witness: Witness) -> None:
    """Its viewer is told the end, the next one under that name gets a new shell."""
    box = await create(link, "bad", image=DEVBOX_IMAGE, secretEnv=SECRET_ENV)
    terminal = await Terminal(link, box, persistent="main").open()
    await terminal.write(b"echo rea''dy\n")
    await terminal.read_until(b"ready")
    await link.request("DevBox.exec", {"devboxId": box, "command": "pkill -KILL tmux"})
    while await terminal.read():
        pass
    await witness.answers()
    async with Terminal(link, box, persistent="main") as again:
        await again.write(b"echo new''er\n")
        await again.read_until(b"newer")
        await again.close()

    assert terminal.is_finished
