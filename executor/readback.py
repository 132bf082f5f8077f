"""What an engine really gave a DevBox, compared with what its profile promises.

Engines drop limits without a word (containers/podman#13891; rootless Podman on cgroup v1 holds none), so their word is
not taken: the kernel is asked, by ``/proc`` and the control groups of the DevBox's main process. Reads only.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor.policy import BoxOptions

_MOST_BYTES = 1024 * 1024
_SECCOMP_FILTER = 2
_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@dataclass(frozen=True)
class Broken:
    """A promise that does not hold: its name, and a half-sentence that says what is found instead."""

    promise: str
    found: str


class Unreadable(Exception):
    """The DevBox's main process cannot be looked at from here."""


def declared(container: dict[str, Any], promised: BoxOptions) -> list[Broken]:
    """Compare with what the engine says it will do (its inspect), before anything of the DevBox runs."""
    host = container["HostConfig"]
    network = host.get("NetworkMode") or ""
    broken = [
        *_limit("memory", promised.limits.memory_bytes, host.get("Memory") or None, _mib),
        *_limit("cpus", promised.limits.cpus, _declared_cpus(host), _plain),
        *_limit("pids", promised.limits.pids, _positive(host.get("PidsLimit")), _plain),
    ]
    if promised.network != "host" and network != "none" and not network.startswith("container:"):
        broken.append(Broken("network", f"its network is {network or 'the default'}"))
    if host.get("Privileged") and not promised.privileged:
        broken.append(Broken("capabilities", "it is privileged"))
    if promised.read_only and not host.get("ReadonlyRootfs"):
        broken.append(Broken("read-only root", "its root filesystem is writable"))
    return broken


def effective(pid: int, promised: BoxOptions, root: Path = Path("/")) -> list[Broken]:
    """Compare with what holds for a DevBox's running main process; raises `Unreadable`.

    ``root`` is where ``/proc`` and ``/sys/fs/cgroup`` are looked for. The root filesystem's mode can be read by its
    own user and by root alone; where it cannot, what `declared` found stands.
    """
    process = root / "proc" / str(pid)
    status = _status(process)
    return [
        *_privileges(status, promised),
        *_limits(process, root, promised),
        *_network(process, promised),
        *_root_filesystem(process, promised),
    ]


def missing_limits(container: dict[str, Any], promised: BoxOptions, root: Path = Path("/")) -> tuple[str, ...]:
    """Return the names of limits that are promised and do not hold, of a DevBox that may run or not.

    Raises `Unreadable` where its process cannot be looked at and ``container`` has not all that inspecting gives.
    """
    process = root / "proc" / str(int(container["State"].get("Pid") or 0))
    inspected = "HostConfig" in container
    broken = declared(container, promised) if inspected else []
    try:
        _status(process)
        broken += _limits(process, root, promised)
    except Unreadable:  # it has just ended; what starts is looked at then
        if not inspected:
            raise
    return tuple(dict.fromkeys(found.promise for found in broken if found.promise in ("memory", "cpus", "pids")))


def _status(process: Path) -> dict[str, str]:
    """Return what the kernel says of the first process of a DevBox; raises `Unreadable` where this is none."""
    status = dict(re.findall(r"^(\w+):\s*(.*)$", _read(f"{process}/status"), re.MULTILINE))
    if process.name == "0" or status.get("NSpid", "").split()[-1:] != ["1"]:
        raise Unreadable
    return status


def _privileges(status: dict[str, str], promised: BoxOptions) -> Iterator[Broken]:
    if not promised.all_capabilities:
        held = [f"{name} {status.get(name, '?')}" for name in _CAPABILITY_SETS if int(status.get(name, "1"), 16)]
        if held:
            yield Broken("capabilities", f"it has some ({', '.join(held)})")
    if promised.no_new_privileges and status.get("NoNewPrivs") != "1":
        yield Broken("no-new-privileges", "its processes may gain privileges")
    if promised.closes_sockets and status.get("Seccomp") != str(_SECCOMP_FILTER):
        yield Broken("seccomp", "its system calls are not filtered")


def _limits(process: Path, root: Path, promised: BoxOptions) -> Iterator[Broken]:
    limits = promised.limits
    bounds = _bounds(process, root, {"memory": limits.memory_bytes, "pids": limits.pids, "cpu": limits.cpus})
    yield from _limit("memory", limits.memory_bytes, bounds.get("memory"), _mib)
    yield from _limit("cpus", limits.cpus, bounds.get("cpu"), _plain)
    yield from _limit("pids", limits.pids, bounds.get("pids"), _plain)


def _network(process: Path, promised: BoxOptions) -> Iterator[Broken]:
    if promised.network == "host":
        return
    lines = _read(f"{process}/net/dev").splitlines()[2:]
    others = [name for line in lines if (name := line.partition(":")[0].strip()) != "lo"]
    if others:
        yield Broken("network", f"it has the interfaces {', '.join(others)}")


def _root_filesystem(process: Path, promised: BoxOptions) -> Iterator[Broken]:
    if not promised.read_only:
        return
    try:
        mounts = _read(f"{process}/mountinfo")
    except Unreadable:
        return
    # proc(5): id, parent, device, root, mount point, options. The last one mounted on / is what is seen.
    roots = [fields[5] for line in mounts.splitlines() if len(fields := line.split()) > 5 and fields[4] == "/"]
    if not roots or "ro" not in roots[-1].split(","):
        yield Broken("read-only root", "its root filesystem is writable")


# --- control groups ---------------------------------------------------------------------------------------------------


def _bounds(process: Path, root: Path, promised: Mapping[str, float | None]) -> dict[str, float]:
    """Return the tightest bound of each controller (v1, v2 and both), or the first found that keeps its promise.

    Limits of groups above hold too; some engines put the process in a group below the limited one.
    """
    found: dict[str, float] = {}
    for line in _read(f"{process}/cgroup").splitlines():
        controllers, _, group = line.partition(":")[2].partition(":")
        parts = group.strip("/").split("/")
        if ".." in parts:
            continue
        groups = ["/".join((controllers, *parts[:depth])) for depth in range(len(parts), 0, -1)]
        files = {name: _V1[name] for name in controllers.split(",") if name in _V1} if controllers else _V2
        for controller, (names, value) in files.items():
            enough = promised[controller]
            for directory in groups:
                if enough is None or found.get(controller, math.inf) <= enough:
                    break
                with suppress(Unreadable):  # it has no such file
                    bound = value(" ".join(_read(f"{root}/sys/fs/cgroup/{directory}/{name}") for name in names))
                    if bound is not None:
                        found[controller] = min(bound, found.get(controller, math.inf))
    return found


def _number(text: str) -> float | None:
    return float(text) if text.strip().isdigit() else None


def _cpu_max(text: str) -> float | None:
    quota, _, period = text.strip().partition(" ")
    return float(quota) / float(period) if quota.isdigit() and period.isdigit() else None


def _cfs_quota(text: str) -> float | None:
    quota, period = text.split()
    return float(quota) / float(period) if quota.isdigit() and float(period) > 0 else None


_Files = dict[str, tuple[tuple[str, ...], Callable[[str], float | None]]]

_V1: _Files = {
    "memory": (("memory.limit_in_bytes",), _number),
    "pids": (("pids.max",), _number),
    "cpu": (("cpu.cfs_quota_us", "cpu.cfs_period_us"), _cfs_quota),
}
_V2: _Files = {"memory": (("memory.max",), _number), "pids": (("pids.max",), _number), "cpu": (("cpu.max",), _cpu_max)}
"""Which files say what bounds a group, by controller, and how they are read."""


def _declared_cpus(host: dict[str, Any]) -> float | None:
    if host.get("NanoCpus"):
        return float(host["NanoCpus"]) / 1e9
    quota, period = host.get("CpuQuota") or 0, host.get("CpuPeriod") or 100_000
    return float(quota) / float(period) if quota > 0 else None


def _positive(value: int | None) -> int | None:
    return value if value and value > 0 else None


def _limit(name: str, promised: float | None, found: float | None, shown: Callable[[float], str]) -> Iterator[Broken]:
    if promised is None:
        return
    if found is None:
        yield Broken(name, f"{name} is not limited, to {shown(promised)} by promise")
    elif found > promised * (1 + 1e-9):
        yield Broken(name, f"{name} is limited to {shown(found)}, not to {shown(promised)}")


def _mib(value: float) -> str:
    return f"{value / 1024**2:.0f} MiB"


def _plain(value: float) -> str:
    return f"{value:g}"


def _read(path: str) -> str:
    """Return what a file of the kernel's says. Some are read for each DevBox of a list, so past Python's layers."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise Unreadable from None
    pieces, room = [], _MOST_BYTES
    try:
        while room > 0 and (piece := os.read(file, room)):
            pieces.append(piece)
            room -= len(piece)
    except OSError:
        raise Unreadable from None
    finally:
        os.close(file)
    return b"".join(pieces).decode(errors="replace")
