"""What makes a worker a service, by platform: files, and the commands that take them up. Decides; does nothing."""

from collections.abc import Collection, Sequence
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
_SYSUSERS = PurePosixPath("/etc/sysusers.d/clustercode.conf")

GATEWAY_USER, EXECUTOR_USER = "clustercode-gateway", "clustercode-executor"
"""As the units and the file for systemd-sysusers name them."""
_GROUP, _ENGINE_GROUP = "clustercode", "clustercode-engine"


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
    users: Sequence[Sequence[str]] = ()
    """Commands that make the users it runs as, needed once whether or not a service manager runs."""
    leaves: str = ""
    """What stays when its files go."""


def service(
    *,
    platform: str,
    root: bool,
    mode: Literal["byom", "fleet"],
    program: str,
    home: PurePosixPath,
    has_sysusers: bool = True,
    known: Collection[str] = (),
) -> Service:
    """Return the service for a platform (as `sys.platform` names it); raises `Unusable` where there is none.

    ``has_sysusers``: systemd-sysusers(8) can be run here; ``known``: names of users and groups that are there.
    """
    if platform == "darwin":
        return _launch_agent(program, home)
    if platform != "linux":
        raise Unusable("A service is installed on Linux (systemd) and macOS (launchd) only; run 'clustercode worker'.")
    if mode == "byom":
        return _user_unit(program, home)
    if not root:
        raise Unusable("A managed worker runs as users of its own, which only root can set up: run this as root.")
    return _managed(program, user_commands(known) if not has_sysusers else [("systemd-sysusers", str(_SYSUSERS))])


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


def user_commands(known: Collection[str]) -> list[tuple[str, ...]]:
    """Return what makes the users and groups of clustercode.sysusers without systemd; ``known`` are there already."""
    groups = [("groupadd", "--system", group) for group in (_GROUP, _ENGINE_GROUP) if group not in known]
    plain = ("useradd", "--system", "--no-create-home", "--home-dir", "/", "--shell", "/usr/sbin/nologin")
    users = [
        (*plain, "--gid", _GROUP, *more, "--comment", comment, user)
        for user, comment, more in (
            (GATEWAY_USER, "ClusterCode gateway", ()),
            (EXECUTOR_USER, "ClusterCode executor", ("--groups", _ENGINE_GROUP)),
        )
        if user not in known
    ]
    return [*groups, *users]


def _managed(program: str, users: Sequence[Sequence[str]]) -> Service:
    units = [File(_SYSTEM / unit, _text(f"systemd/{unit}", program)) for unit in _UNITS]
    return Service(
        files=[
            File(_SYSUSERS, _text("systemd/clustercode.sysusers", program)),
            File(_SYSTEM / "podman.socket.d/clustercode.conf", _text("systemd/podman.socket.conf", program)),
            *units,
            *(
                File(_ETC / name, _text(f"etc/{name}", program), keep=True)
                for name in ("executor.yaml", "gateway.yaml")
            ),
        ],
        prepare=[
            ("systemctl", "daemon-reload"),
            ("systemctl", "restart", "podman.socket"),
        ],
        start=[("systemctl", "enable", "--now", *_UNITS)],
        stop=[("systemctl", "disable", "--now", *reversed(_UNITS))],
        note=f"Set {_ETC}/gateway.yaml and executor.yaml right, and put the token into {_ETC}/token (0600, root's).\n"
        "Egress needs Squid and socat.\nIts logs: journalctl -u 'clustercode-*'.",
        data_dir=Path("/var/lib/clustercode"),
        users=users,
        leaves=f"The users {GATEWAY_USER} and {EXECUTOR_USER} and the groups {_GROUP} and {_ENGINE_GROUP} stay, for "
        "files may be theirs, and so does /var/lib/clustercode. Remove them, once nothing needs them:\n"
        f"  userdel {GATEWAY_USER}; userdel {EXECUTOR_USER}; groupdel {_ENGINE_GROUP}; groupdel {_GROUP}",
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
