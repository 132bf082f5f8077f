"""What makes a worker a service, by platform: files, and the commands that take them up. Decides; does nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Literal

from clustercode.errors import Unusable

_PROGRAM = "/usr/local/bin/clustercode"
"""What the files of ``deploy/`` have in place of the program's path."""
_UNITS = ("clustercode-executor.service", "clustercode-egress.service", "clustercode-gateway.service")
_SYSTEM = PurePosixPath("/etc/systemd/system")
_ETC = PurePosixPath("/etc/clustercode")


@dataclass(frozen=True)
class File:
    """One file to be written; ``keep``: people change it, so one that is there stays, also when all else goes."""

    path: PurePosixPath
    text: str
    keep: bool = False


@dataclass(frozen=True)
class Service:
    """A service as this machine wants it."""

    files: Sequence[File]
    prepare: Sequence[Sequence[str]]
    """Commands once the files are there."""
    start: Sequence[Sequence[str]]
    stop: Sequence[Sequence[str]]
    note: str
    """What else there is to know and do."""
    data_dir: Path | None = None
    """Where the executor's data is, if the service says so."""


def service(*, platform: str, root: bool, mode: Literal["byom", "fleet"], program: str, home: PurePosixPath) -> Service:
    """Return the service for a platform (as `sys.platform` names it); raises `Unusable` where there is none."""
    if platform == "darwin":
        return _launch_agent(program, home)
    if platform != "linux":
        raise Unusable("A service is installed on Linux (systemd) and macOS (launchd) only; run 'clustercode worker'.")
    if mode == "byom":
        return _user_unit(program, home)
    if not root:
        raise Unusable("A managed worker runs as users of its own, which only root can set up: run this as root.")
    return _managed(program)


def _user_unit(program: str, home: PurePosixPath) -> Service:
    unit = "clustercode-worker.service"
    path = home / ".config/systemd/user" / unit
    return Service(
        files=[File(path, _text(f"systemd/{unit}", program))],
        prepare=[("systemctl", "--user", "daemon-reload")],
        start=[("systemctl", "--user", "enable", "--now", unit)],
        stop=[("systemctl", "--user", "disable", "--now", unit)],
        note="Without lingering it ends when you log out, a rootless engine's DevBoxes with it, and does not start "
        "with the machine. Allow it once:\n  loginctl enable-linger\n"
        "Its log: journalctl --user -u clustercode-worker. It does not see your shell's variables: keep settings with "
        "'clustercode config set'.",
    )


def _managed(program: str) -> Service:
    units = [File(_SYSTEM / unit, _text(f"systemd/{unit}", program)) for unit in _UNITS]
    sysusers = PurePosixPath("/etc/sysusers.d/clustercode.conf")
    return Service(
        files=[
            File(sysusers, _text("systemd/clustercode.sysusers", program)),
            File(_SYSTEM / "podman.socket.d/clustercode.conf", _text("systemd/podman.socket.conf", program)),
            *units,
            *(
                File(_ETC / name, _text(f"etc/{name}", program), keep=True)
                for name in ("executor.yaml", "gateway.yaml")
            ),
        ],
        prepare=[
            ("systemd-sysusers", str(sysusers)),
            ("systemctl", "daemon-reload"),
            ("systemctl", "restart", "podman.socket"),
        ],
        start=[("systemctl", "enable", "--now", *_UNITS)],
        stop=[("systemctl", "disable", "--now", *reversed(_UNITS))],
        note=f"Set {_ETC}/gateway.yaml and executor.yaml right, and put the token into {_ETC}/token (0600, root's).\n"
        "Egress needs Squid and socat.\nIts logs: journalctl -u 'clustercode-*'.",
        data_dir=Path("/var/lib/clustercode"),
    )


def _launch_agent(program: str, home: PurePosixPath) -> Service:
    name = "io.clustercode.worker.plist"
    path = home / "Library/LaunchAgents" / name
    text = _text(f"launchd/{name}", program).replace("<string>HOME/", f"<string>{home}/")
    return Service(
        files=[File(path, text)],
        prepare=[],
        start=[("launchctl", "load", "-w", str(path))],
        stop=[("launchctl", "unload", "-w", str(path))],
        note=f"It runs while you are logged in. Its log: {home}/Library/Logs/clustercode-worker.log. It does not see "
        "your shell's variables: keep settings with 'clustercode config set'.",
    )


def _text(name: str, program: str) -> str:
    return files("deploy").joinpath(name).read_text().replace(_PROGRAM, program)
