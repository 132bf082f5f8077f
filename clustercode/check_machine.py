"""The machine itself: data directory, disk, inodes, memory, and what a rootless engine needs of it."""

import os
import shutil
import sys
from pathlib import Path

from clustercode import checks
from clustercode.checks import Check

_SUB_ID_FILES = (Path("/etc/subuid"), Path("/etc/subgid"))
_USER_NAMESPACES = Path("/proc/sys/kernel/unprivileged_userns_clone")
_MOST_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_LINGER = Path("/var/lib/systemd/linger")
_SYSTEMD = Path("/run/systemd/system")


def check_machine(data_dir: Path, storage: Path | None) -> list[Check]:
    """Look at the disks of the data directory and of the engine's storage, and at memory."""
    from gateway.machine import Machine  # noqa: PLC0415 - loads psutil

    found: list[Check] = [_data_dir(data_dir)]
    machine = Machine()
    seen = set()
    places = [(data_dir, "Remove what is not needed there, or choose another DATA_DIR.")]
    if storage is not None:
        places.append((storage, "Remove images that no DevBox uses: podman image prune --all (or docker)."))
    for place, fix in places:
        there = next((path for path in (place, *place.parents) if path.exists()), None)
        if there is None or (device := there.stat().st_dev) in seen:
            continue
        seen.add(device)
        usage, files = shutil.disk_usage(there), os.statvfs(there)
        found += [
            checks.disk(str(place), usage.total, usage.free, fix),
            checks.inodes(str(place), files.f_files, files.f_favail),
        ]
    return [*found, checks.memory(machine.memory_total, machine.memory_free())]


def _data_dir(data_dir: Path) -> Check:
    there = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check("data directory", "fail", f"{data_dir} cannot be used", "Choose another with DATA_DIR.")
    return Check("data directory", "pass", str(data_dir))


def check_egress() -> Check:
    """Look for the programs through which DevBoxes reach the names that they may."""
    from executor.egress_programs import program  # noqa: PLC0415 - only the doctor asks

    missing = [name for name in ("squid", "socat") if program(name) is None]
    if missing:
        fix = f"As root: apt-get install {' '.join(missing)} (or dnf install)"
        return Check("egress", "warn", f"no {' and '.join(missing)}: only open DevBoxes have a network", fix)
    return Check("egress", "pass", "squid and socat are there")


def check_rootless() -> list[Check]:
    """Look at what an ordinary user's Podman needs; nothing where this is root, or no Linux."""
    if sys.platform != "linux" or os.geteuid() == 0:
        return []
    import pwd  # noqa: PLC0415 - not on Windows

    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    name = "rootless"
    found = []
    lacking = [str(path) for path in _SUB_ID_FILES if not checks.has_sub_ids(_text(path), user, uid)]
    if lacking:
        ranges = "--add-subuids 100000-165535 --add-subgids 100000-165535"
        fix = f"As root: usermod {ranges} {user}; then podman system migrate"
        found.append(Check(name, "fail", f"{user} has no sub-ids in {' and '.join(lacking)}", fix))
    programs = [program for program in ("newuidmap", "newgidmap") if shutil.which(program) is None]
    if programs:
        found.append(Check(name, "fail", f"{' and '.join(programs)} are missing", "As root: apt-get install uidmap"))
    if _text(_USER_NAMESPACES).strip() == "0" or _text(_MOST_USER_NAMESPACES).strip() == "0":
        fix = "As root: sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=28633"
        found.append(Check(name, "fail", "this kernel gives ordinary users no user namespaces", fix))
    elif _text(_APPARMOR).strip() == "1":
        fix = "If Podman fails: update its package, which brings an AppArmor profile of its own."
        found.append(Check(name, "warn", "AppArmor restricts user namespaces (Ubuntu 24.04 and later)", fix))
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}")
    if not runtime.is_dir() or not os.access(runtime, os.W_OK):
        fix = f"Log in anew, or as root: mkdir -p {runtime} && chown {user} {runtime} && chmod 700 {runtime}"
        found.append(Check(name, "fail", f"the runtime directory {runtime} is not there or not yours", fix))
    if _SYSTEMD.is_dir() and not (_LINGER / user).exists():
        fix = f"loginctl enable-linger {user}"
        found.append(Check(name, "warn", "DevBoxes end when you log out", fix))
    return found or [Check(name, "pass", f"{user} may run containers")]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
