"""``clustercode demo`` and ``clustercode console``: what they print can be copied, and the demo leaves nothing."""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from tests.integration.commands import environment, execute
from tests.integration.conftest import IMAGE, PROGRAM, Podman, Process, eventually, started


def printed(text: str, words: str) -> str:
    """The command with these words that stands on a line of its own, or behind a label."""
    (found,) = re.findall(rf"^(?:Worker:)? +(\S.* {words}.*)$", text, re.MULTILINE)
    return str(found)


def of_demos(directory: Path) -> list[Path]:
    """The directories that demos made in it."""
    return list(directory.glob("clustercode-demo-*"))


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended, reaped or not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


async def test_a_demo_whose_terminal_is_closed_leaves_nothing(directory: Path, podman: Podman) -> None:
    """But images, which it names: neither DevBox nor volume, process or file. What it says to run instead runs."""
    environ = environment(directory, PATH=os.defpath, TMPDIR=str(directory), ENGINE_SOCKET=str(podman.socket))
    command = [*PROGRAM, "demo", "--port", "0", "--image", IMAGE]
    demo = Process("demo", command, directory / "demo.log", environ)
    async with started(demo):
        await eventually(lambda: "Open this address" in demo.text())
        (own,) = of_demos(directory)
        label = f"label=io.clustercode.install={(own / 'data' / 'install').read_text().strip()}"
        children = psutil.Process(demo.pid).children(recursive=True)
        assert podman.run("ps", "-q", "--filter", label)
        code = await demo.stop(signal.SIGHUP)

    assert code == 0
    assert "Everything is removed but for images" in demo.text()
    removal = printed(demo.text(), "rmi")
    assert removal.startswith("podman rmi ")
    named = removal.replace("podman rmi", "podman image inspect --format '{{.RepoTags}}'")
    stays = (await execute("sh", "-c", named, home=directory, PATH=os.environ["PATH"])).out
    assert IMAGE in stays
    assert "localhost/clustercode-egress:" in stays
    assert podman.run("ps", "-aq", "--filter", label) == podman.run("volume", "ls", "-q", "--filter", label) == ""
    assert of_demos(directory) == []
    await eventually(lambda: not any(map(runs, children)))
    instead = await execute("sh", "-c", f"{printed(demo.text(), 'console')} --help", home=directory, PATH=os.defpath)
    assert instead.code == 0, instead.err


async def test_the_command_that_the_console_prints_connects_a_worker(directory: Path, podman: Podman) -> None:
    """As it stands there; and the console says who came by its name."""
    environ = environment(directory, PATH=os.defpath)
    console = Process("console", [*PROGRAM, "console", "--port", "0"], directory / "console.log", environ)
    async with started(console):
        await eventually(lambda: "Worker: " in console.text())
        command = ["sh", "-c", f"exec {printed(console.text(), 'worker')}"]
        mine = {"DATA_DIR": str(directory / "data"), "ENGINE_SOCKET": str(podman.socket), "WORKER_NAME": "ada"}
        worker = Process("worker", command, directory / "worker.log", {**environ, **mine})
        async with started(worker):
            await eventually(lambda: "connected (ada, agent" in console.text())
