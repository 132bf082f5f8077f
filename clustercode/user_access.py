"""What two users need of this machine: looked at with the kernel's own eyes, and the data directory given to them.

::

    DATA_DIR/   0710   owner executor, group the gateway's, who passes through
      rpc/      2750   the same; what is made in it has the gateway's group: the socket

The gateway's group is how the executor's socket knows the gateway, so nobody else may be in it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clustercode import checks, program
from clustercode.configuration import Configuration
from clustercode.errors import Unusable
from clustercode.users import User, Users
from executor.engine_places import candidate_sockets
from executor.owner import as_owner_of

_TIMEOUT_S = 10.0
_ROOTFUL = Path("/run/podman/podman.sock")
_SYSTEMD_RUNS = Path("/run/systemd/system")
_SUB_IDS = (Path("/etc/subuid"), Path("/etc/subgid"))


@dataclass(frozen=True)
class Problem:
    """What keeps a user from working here, and what mends it."""

    what: str
    fix: str

    def __str__(self) -> str:
        """Say both."""
        return f"{self.what[:1].upper()}{self.what[1:]}. {self.fix}"


def prepare(configuration: Configuration, users: Users) -> None:
    """Give the data directory to these users; raises `Unusable` with what to do where something keeps them out."""
    for problem in problems(configuration, users):
        raise Unusable(str(problem))
    _share(configuration.get("dataDir"), users)
    for problem in _out_of_reach(configuration.get("dataDir"), users):
        raise Unusable(str(problem))
    runtime = Path(users.runtime_directory)
    if rootless(configuration, users.executor) and not runtime.exists():
        runtime.parent.mkdir(mode=0o755, exist_ok=True)
        runtime.mkdir(mode=0o700)
        os.chown(runtime, users.executor.uid, users.executor.gid)


def problems(configuration: Configuration, users: Users) -> Iterator[Problem]:
    """Yield what keeps these users from working here. Changes nothing."""
    yield from _program(users)
    if shutil.which("setpriv") is None:
        yield Problem("there is no program setpriv, which becomes another user", "Install util-linux.")
    if others := _others_in(users.gateway.gid, users):
        yield Problem(
            f"the gateway's user {users.gateway.name} shares its group with {', '.join(others)}, who could reach the "
            "executor's socket",
            "Name one with a group of its own: useradd --system --user-group NAME.",
        )
    data_dir: Path = configuration.get("dataDir")
    if data_dir.exists() and data_dir.stat().st_uid != users.executor.uid:
        yield _foreign(data_dir, users.executor)
        return
    # The directory itself is opened to the gateway at the start.
    yield from _out_of_reach(next(path for path in data_dir.parents if path.exists()), users)
    yield from _engine(configuration, users)


def refuse_foreign(data_dir: Path) -> None:
    """Without users of their own: raise `Unusable` where an executor of another user ran in a data directory."""
    try:
        owners = [path.stat().st_uid for path in (data_dir, data_dir / "rpc")]
    except OSError:
        owners = [data_dir.stat().st_uid] if data_dir.exists() else []  # whoever uses it next says what is wrong
    if found := [owner for owner in owners if owner != os.geteuid()]:
        name = _name(found[0])
        other = "" if found[0] == 0 else f", or as root with --gateway-user and --executor-user {name}"
        raise Unusable(
            f"A worker ran in {data_dir} whose executor was the user {name}. Start it as {name}{other}; or choose "
            "another directory with --data-dir."
        )


def _share(data_dir: Path, users: Users) -> None:
    """Make the directory and its ``rpc``, or set their groups. The executor owns them: no link of its is followed."""
    executor, gid = users.executor.uid, users.gateway.gid
    try:
        if not data_dir.exists():
            # Where one above it is another user's, nothing is root's business: a link there could lead anywhere.
            above = next((path for path in reversed(data_dir.parents) if path.exists() and path.stat().st_uid), None)
            with as_owner_of(above or Path("/")):
                data_dir.mkdir(mode=0o700, parents=True)
            if above is None:
                os.chown(data_dir, executor, users.executor.gid, follow_symlinks=False)
        with as_owner_of(data_dir):
            (data_dir / "rpc").mkdir(mode=0o700, exist_ok=True)
        for path, mode in ((data_dir, 0o710), (data_dir / "rpc", 0o2750)):
            follow = 0 if path == data_dir else os.O_NOFOLLOW  # where the directory is, root has said
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | follow)
            try:
                if os.fstat(descriptor).st_uid != executor:
                    raise Unusable(str(_foreign(path, users.executor)))
                os.fchown(descriptor, -1, gid)
                os.fchmod(descriptor, mode)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise Unusable(
            f"The data directory {data_dir} cannot be used: {error.strerror}. Choose another with --data-dir."
        ) from None


def _foreign(path: Path, executor: User) -> Problem:
    owner = _name(path.stat().st_uid)
    return Problem(
        f"the data directory {path} belongs to {owner}, not to the executor's user {executor.name}",
        f"Choose a new one with --data-dir; DevBoxes of an engine of {owner}'s own stay with that. Or, where both use "
        f"the same engine, stop that worker and hand it over: chown -Rh {executor.name}: {path}",
    )


def _program(users: Users) -> Iterator[Problem]:
    paths = [Path(sys.executable)] if program.is_one_file() else [Path(sys.executable), Path(__file__)]
    for user in (users.gateway, users.executor):
        if not all(_may(user, "-r", path) for path in paths) or not _may(user, "-x", paths[0]):
            yield Problem(
                f"the user {user.name} cannot run this program ({paths[0]})",
                "Install it where all users may read it, for example in /opt.",
            )


def _out_of_reach(directory: Path, users: Users) -> Iterator[Problem]:
    for user in (users.gateway, users.executor):
        if not _may(user, "-x", directory):
            yield Problem(
                f"the user {user.name} cannot reach {directory}: it, or one above it, is closed to others, as root's "
                "home is",
                "Choose another with --data-dir, for example /var/lib/clustercode.",
            )


def _engine(configuration: Configuration, users: Users) -> Iterator[Problem]:
    """Yield why the executor's user could use no engine, or the gateway's could.

    An engine that is not there yet is for the executor to say.
    """
    for socket in _shared_sockets(configuration):
        if socket.exists() and _may(users.gateway, "-w", socket):
            yield Problem(
                f"the gateway's user {users.gateway.name} may use the engine's socket {socket} too, and so may whoever "
                "takes over the gateway",
                "Give the socket mode 0660 and a group that is not the gateway's.",
            )
    user = users.executor
    if not rootless(configuration, user):
        sockets = [socket for socket in _shared_sockets(configuration) if socket.exists()]
        if sockets and not any(_may(user, "-w", socket) for socket in sockets):
            yield Problem(
                f"the executor's user {user.name} may not use the engine's socket {sockets[0]}",
                f"Give the socket a group and mode 0660, and the user that group (usermod -aG GROUP {user.name}): "
                "'clustercode worker --mode fleet --install' does so for Podman's, with clustercode-engine. Or name "
                "no socket: then Podman runs rootless as this user.",
            )
        return
    lacks = []
    if not Path(user.home).is_dir() or not _may(user, "-w", Path(user.home)):
        lacks.append("a home directory of its own")
    if not all(checks.has_sub_ids(_text(path), user.name, user.uid) for path in _SUB_IDS):
        lacks.append("ids in /etc/subuid and /etc/subgid")
    if shutil.which("newuidmap") is None:
        lacks.append("the program newuidmap (apt-get install uidmap)")
    if _SYSTEMD_RUNS.exists() and not Path(users.runtime_directory).exists():
        lacks.append(f"{users.runtime_directory} (loginctl enable-linger {user.name})")
    if lacks:
        yield Problem(
            f"the executor's user {user.name} cannot run Podman rootless: it lacks {', '.join(lacks)}",
            "Name one that can ('useradd --create-home NAME' makes it), or let this one use the machine's through a "
            f"group: --engine-socket {_ROOTFUL}",
        )


def rootless(configuration: Configuration, user: User) -> bool:
    """Tell whether the executor's user is to run a Podman of its own: no other is said, and root's is closed to it."""
    if configuration.get("engineSocket") is not None or configuration.get("runtime") == "docker":
        return False
    return not any(socket.exists() and _may(user, "-w", socket) for socket in _shared_sockets(configuration))


def _shared_sockets(configuration: Configuration) -> list[Path]:
    """Return where an engine of the machine's may be: the one that is named, else those that root would try."""
    if (named := configuration.get("engineSocket")) is not None:
        return [named]
    return candidate_sockets(configuration.get("runtime"), os.environ, 0, sys.platform)


def _may(user: User, right: str, path: Path) -> bool:
    """Ask the kernel whether a user may do something with a file: ``-r``, ``-w`` or ``-x``, as test(1) knows them."""
    try:
        asked = subprocess.run(  # noqa: S603 - ours
            ["/usr/bin/test", right, path], check=False, env={}, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S,
            **user.identity,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def _others_in(gid: int, users: Users) -> list[str]:
    import grp  # noqa: PLC0415 - not on Windows
    import pwd  # noqa: PLC0415 - the same

    members = {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == gid} | set(grp.getgrgid(gid).gr_mem)
    return sorted(members - {users.gateway.name, users.executor.name, "root"})


def _name(uid: int) -> str:
    import pwd  # noqa: PLC0415 - not on Windows

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
