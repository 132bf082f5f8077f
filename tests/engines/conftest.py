"""Three engines side by side on one machine, each private to these tests: none of the machine's own is touched."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.canary import podman_places

ROOT = Path(__file__).parents[2]
IMAGES = ("localhost/clustercode-test:latest", "localhost/devbox:latest", "localhost/devbox-display:latest")
USER = f"cc-engine-{secrets.token_hex(3)}"
"""Owns the rootless Podman; made here, and removed with all that is theirs."""


@dataclass
class Engine:
    """An engine that answers on ``socket``; ``command`` is its command line; ``user`` runs the worker."""

    name: str
    socket: Path
    command: list[str]
    user: str | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def holds_limits(self) -> bool:
        """Whether it can bound what runs: a rootless engine does on control groups of version 2 alone."""
        return self.user is None or "cgroupVersion: v2" in self.run("info")

    def as_user(self, *command: str) -> list[str]:
        """Return a command that whoever has the engine runs; for a `Process` with `worker_environment`."""
        if self.user is None:
            return list(command)
        return ["setpriv", "--reuid", self.user, "--regid", self.user, "--clear-groups", *command]

    @property
    def worker_environment(self) -> dict[str, str]:
        """The environment of a worker that ``user`` runs."""
        return {**shared_path(), **self.environment} if self.user else {}

    def own(self, directory: Path) -> None:
        """Give a new directory to whoever has the engine, in one that all may enter."""
        directory.mkdir(mode=0o700)
        directory.parent.chmod(0o755)
        if self.user is not None:
            shutil.chown(directory, self.user, self.user)

    def places(self) -> list[str]:
        """Where it keeps what it knows."""
        if self.command[0] == "podman":
            return podman_places(self.run)
        home = self.socket.with_suffix("")
        return [f"{home}/data/{name}" for name in ("containers", "volumes", "network")] + [f"{home}/exec"]

    def clear(self, install: str) -> None:
        """Remove what an installation has here."""
        label = f"label=io.clustercode.install={install}"
        with_dependents = ("--depend",) if self.command[0] == "podman" else ()  # those beside a DevBox depend on it
        if boxes := self.run("ps", "-aq", "--filter", label).split():
            self.run("rm", "-f", *with_dependents, *boxes)
        if volumes := self.run("volume", "ls", "-q", "--filter", label).split():
            self.run("volume", "rm", *volumes)
        deadline = time.monotonic() + 120
        while images := self.run("images", "-aq", "--filter", f"label=io.clustercode.builder={install}").split():
            with suppress(subprocess.CalledProcessError):  # Docker removes no image before those that are built on it
                self.run("rmi", "-f", *set(images))
            assert time.monotonic() < deadline, f"images of {install} stay: {images}"
            time.sleep(0.1)

    def run(self, *arguments: str, stdin: int | None = None) -> str:
        """Run the engine's command line; returns what it prints."""
        return subprocess.run(
            [*self.command, *arguments], check=True, stdout=subprocess.PIPE, text=True, stdin=stdin, timeout=600,
            user=self.user, group=self.user, env={**os.environ, **self.environment}, cwd="/",
        ).stdout  # fmt: skip


def interpreter(*, of_all: bool = False) -> list[str]:
    """The program that runs us; ``of_all``: one that every user of this machine may start."""
    if not of_all or (Path(sys.executable).resolve().parents[0].stat().st_mode & 0o001 and not _hidden(sys.executable)):
        return [sys.executable, "-m", "clustercode"]
    return ["/usr/bin/python3", "-m", "clustercode"]


def _hidden(program: str) -> bool:
    return any(not parent.stat().st_mode & 0o001 for parent in Path(program).resolve().parents)


def shared_path() -> dict[str, str]:
    """The environment in which `interpreter` (of all) finds our packages."""
    return {"PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))])}


@contextmanager
def served(command: list[str], socket: Path, log: Path, **options: object) -> Iterator[None]:
    """Run an engine's service until the context ends."""
    with log.open("ab") as out:
        process = subprocess.Popen(  # type: ignore[call-overload] # options are Popen's
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, **options
        )
    try:
        deadline = time.monotonic() + 60
        while not socket.exists():
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, f"{command[0]} opened no socket: {log.read_text()[-2000:]}"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def load(engine: Engine) -> None:
    """Give an engine the images that were built on the machine's Podman."""
    with subprocess.Popen(["podman", "save", "--multi-image-archive", *IMAGES], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        engine.run("load", "--quiet", stdin=saving.stdout.fileno())
    assert saving.returncode == 0


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """For sockets and logs, open to all users."""
    with tempfile.TemporaryDirectory(prefix="cc-engines-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def rootful(directory: Path) -> Iterator[Engine]:
    """Podman as root: the one that the other tests use."""
    socket = directory / "podman.sock"
    with served(["podman", "system", "service", "--time=0", f"unix://{socket}"], socket, directory / "podman.log"):
        yield Engine("rootful Podman", socket, ["podman"])


@pytest.fixture(scope="session")
def docker(directory: Path) -> Iterator[Engine]:
    """Docker without a bridge, for our DevBoxes need none: so nothing of the machine's network changes."""
    if shutil.which("dockerd") is None:
        pytest.fail("These tests need Docker: run them by 'make test-long', which installs it.")
    home, socket = directory / "docker", directory / "docker.sock"
    command = [
        "dockerd", "--host", f"unix://{socket}", "--data-root", f"{home}/data", "--exec-root", f"{home}/exec",
        "--pidfile", f"{home}/pid", "--bridge", "none", "--iptables=false", "--ip6tables=false",
    ]  # fmt: skip
    home.mkdir()
    try:
        with served(command, socket, directory / "docker.log"):
            engine = Engine("Docker", socket, ["/usr/bin/docker", "--host", f"unix://{socket}"])
            load(engine)
            yield engine
    finally:  # where mounts are private it leaves its own: its data on itself, and a namespace
        for line in Path("/proc/mounts").read_text().splitlines():
            if line.split()[1].startswith(f"{home}/"):
                subprocess.run(["umount", "--lazy", line.split()[1]], check=False, capture_output=True)


@pytest.fixture(scope="session")
def rootless(directory: Path) -> Iterator[Engine]:
    """Podman of an ordinary user, made for these tests."""
    subprocess.run(["useradd", "--create-home", USER], check=True)
    user = pwd.getpwnam(USER)
    runtime = Path(f"/run/user/{user.pw_uid}")
    runtime.mkdir(mode=0o700, parents=True)
    os.chown(runtime, user.pw_uid, user.pw_gid)
    for device in ("/dev/net/tun", "/dev/fuse"):
        if Path(device).exists():
            Path(device).chmod(0o666)
    storage = Path(user.pw_dir) / ".config/containers/storage.conf"
    storage.parent.mkdir(parents=True)
    storage.write_text('[storage]\ndriver = "overlay"\n')
    subprocess.run(["chown", "-R", f"{USER}:{USER}", user.pw_dir], check=True)
    environment = {"HOME": user.pw_dir, "XDG_RUNTIME_DIR": str(runtime), "USER": USER, "LOGNAME": USER}
    socket = runtime / "podman.sock"
    engine = Engine("rootless Podman", socket, ["podman"], USER, environment)
    try:
        service = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
        options = {"user": USER, "group": USER, "env": {**os.environ, **environment}, "cwd": "/", "extra_groups": []}
        with served(service, socket, directory / "rootless.log", **options):
            load(engine)
            yield engine
        engine.run("system", "reset", "--force")
    finally:
        subprocess.run(["pkill", "-KILL", "-u", USER], check=False)
        deadline = time.monotonic() + 30
        while (code := subprocess.run(["userdel", "--remove", USER], check=False, capture_output=True).returncode) == 8:
            assert time.monotonic() < deadline, f"processes of {USER} do not end"
            time.sleep(0.1)  # userdel(8): it is in use, by what was killed and is not gone yet
        assert code == 0
        shutil.rmtree(runtime, ignore_errors=True)
