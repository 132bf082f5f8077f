"""As a service: the units hold what they say, and installing shows, asks, writes and takes back."""

import asyncio
import os
import plistlib
import socket
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

import pytest

from clustercode.errors import Unusable
from clustercode.service_files import File, service
from tests.integration.commands import run
from tests.integration.conftest import Podman, executor_process, gateway_process, started

PROGRAM = str(Path(sys.executable).with_name("clustercode"))
HOME = PurePosixPath("/home/ada")


def pair() -> dict[str, File]:
    """The files of a managed worker, by name."""
    wanted = service(platform="linux", root=True, mode="fleet", program=PROGRAM, home=HOME)
    return {file.path.name: file for file in wanted.files}


def analyze(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze: `make services` brings it."""
    return subprocess.run(
        ["systemd-analyze", *arguments],
        cwd=directory, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "XDG_RUNTIME_DIR": str(directory), "HOME": str(directory)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "most"),
    [("clustercode-gateway.service", 14), ("clustercode-executor.service", 8), ("clustercode-egress.service", 28)],
)
def test_systemd_accepts_the_pair_and_finds_it_tight(directory: Path, unit: str, most: int) -> None:
    """No warning, and an exposure of at most 1.4, 0.8 and 2.8 of 10 (``systemd-analyze security``)."""
    for file in pair().values():
        if file.path.suffix == ".service":
            (directory / file.path.name).write_text(file.text)

    verified = analyze("verify", "--recursive-errors=no", f"./{unit}", directory=directory)
    assert (verified.returncode, verified.stderr) == (0, "")
    scored = analyze("security", "--offline=true", f"--threshold={most}", f"./{unit}", directory=directory)
    assert scored.returncode == 0, scored.stdout[-200:]


def test_systemd_accepts_the_unit_of_one_s_own(directory: Path) -> None:
    """No warning."""
    wanted = service(platform="linux", root=False, mode="byom", program=PROGRAM, home=HOME)
    (file,) = wanted.files
    assert file.path == HOME / ".config/systemd/user/clustercode-worker.service"
    (directory / file.path.name).write_text(file.text)

    verified = analyze("verify", "--user", f"./{file.path.name}", directory=directory)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_launch_agent_is_a_property_list() -> None:
    """With this program, this home, and no hammering after a refused token."""
    wanted = service(platform="darwin", root=False, mode="byom", program="/opt/x/clustercode", home=HOME)
    (file,) = wanted.files
    agent = plistlib.loads(file.text.encode())

    assert file.path == HOME / "Library/LaunchAgents/io.clustercode.worker.plist"
    assert agent["Label"] == file.path.stem
    assert agent["ProgramArguments"] == ["/opt/x/clustercode", "worker"]
    assert agent["StandardErrorPath"] == "/home/ada/Library/Logs/clustercode-worker.log"
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ThrottleInterval"] >= 60


def test_what_cannot_be_a_service_is_refused_with_what_to_do() -> None:
    """A managed worker without root, and platforms without a manager that we know."""
    with pytest.raises(Unusable, match="run this as root"):
        service(platform="linux", root=False, mode="fleet", program=PROGRAM, home=HOME)
    with pytest.raises(Unusable, match="clustercode worker"):
        service(platform="win32", root=False, mode="byom", program=PROGRAM, home=HOME)


async def test_installing_shows_asks_writes_and_takes_back(directory: Path) -> None:
    """Nothing is written before a yes; what is shown is what is written; uninstalling leaves nothing of it."""
    path = directory / ".config/systemd/user/clustercode-worker.service"
    byom = ("worker", "--mode", "byom")
    refused = await run(*byom, "--install", home=directory, stdin="n\n")
    assert refused.code == 1
    assert not path.exists()

    installed = await run(*byom, "--install", home=directory, stdin="y\n")
    assert installed.code == 0, installed.err
    assert path.read_text() in installed.out
    assert f"ExecStart={PROGRAM} worker\n" in path.read_text()
    assert "loginctl enable-linger" in installed.out
    assert "systemctl --user enable --now clustercode-worker.service" in installed.out

    removed = await run(*byom, "--uninstall", home=directory, stdin="")
    assert removed.code == 0, removed.err
    assert not path.exists()
    assert "its DevBoxes stay" in removed.out


async def test_a_service_takes_no_flags(directory: Path) -> None:
    """They would be forgotten."""
    refused = await run("worker", "--mode", "byom", "--install", "--name", "x", home=directory)
    assert refused.code == 2
    assert "clustercode config set" in refused.err


async def test_each_process_says_when_it_is_ready_and_that_it_lives(podman: Podman) -> None:
    """READY=1 once, then WATCHDOG=1 again and again, to whoever started it and to nobody else."""
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        place = Path(name)
        (place / "token").write_text("a-token")
        executor = executor_process(podman, place)
        gateway = gateway_process(place, "ws://127.0.0.1:1/ws/worker", place / "token")
        heard: dict[str, socket.socket] = {}
        try:
            for process in (executor, gateway):
                heard[process.name] = told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                told.bind(f"{place}/{process.name}.notify")
                told.setblocking(False)
                process.environment = {"NOTIFY_SOCKET": told.getsockname(), "WATCHDOG_USEC": "200000"}
            async with started(executor, gateway), asyncio.timeout(60):
                for told in heard.values():
                    states = []
                    while "READY=1" not in states or states[-3:] != ["WATCHDOG=1"] * 3:
                        states.append((await asyncio.get_running_loop().sock_recv(told, 100)).decode())
                    assert states.count("READY=1") == 1
        finally:
            for told in heard.values():
                told.close()
