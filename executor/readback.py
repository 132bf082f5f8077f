"""What an engine really gave a DevBox, compared with what its profile promises.

Engines drop limits without a word (containers/podman#13891; rootless Podman on cgroup v1 holds none), so their word is
not taken: the kernel is asked, by ``/proc`` and the control groups of the DevBox's main process. Reads only.
"""

import re
from collections.abc import Callable, Iterator
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
    status = dict(re.findall(r"^(\w+):\s*(.*)$", _read(process / "status"), re.MULTILINE))
    if pid <= 0 or status.get("NSpid", "").split()[-1:] != ["1"]:
        raise Unreadable
    return [
        *_privileges(status, promised),
        *_limits(process, root, promised),
        *_network(process, promised),
        *_root_filesystem(process, promised),
    ]


def missing_limits(container: dict[str, Any], promised: BoxOptions, root: Path = Path("/")) -> tuple[str, ...]:
    """Return the names of limits that are promised and do not hold, of a DevBox that may run or not."""
    broken = declared(container, promised)
    pid = int(container["State"].get("Pid") or 0)
    if pid > 0:
        with suppress(Unreadable):  # it has just ended; what starts is looked at then
            broken += _limits(root / "proc" / str(pid), root, promised)
    return tuple(dict.fromkeys(found.promise for found in broken if found.promise in ("memory", "cpus", "pids")))


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
    groups = _groups(process, root)
    limits = promised.limits
    memory = _tightest(groups["memory"], ("memory.limit_in_bytes", "memory.max"), _number)
    yield from _limit("memory", limits.memory_bytes, memory, _mib)
    yield from _limit("pids", limits.pids, _tightest(groups["pids"], ("pids.max",), _number), _plain)
    cpus = [
        *_values(groups["cpu"], "cpu.max", _cpu_max),
        *_values(groups["cpu"], "", _cfs_quota),
    ]
    yield from _limit("cpus", limits.cpus, min(cpus, default=None), _plain)


def _network(process: Path, promised: BoxOptions) -> Iterator[Broken]:
    if promised.network == "host":
        return
    lines = _read(process / "net" / "dev").splitlines()[2:]
    others = [name for line in lines if (name := line.partition(":")[0].strip()) != "lo"]
    if others:
        yield Broken("network", f"it has the interfaces {', '.join(others)}")


def _root_filesystem(process: Path, promised: BoxOptions) -> Iterator[Broken]:
    if not promised.read_only:
        return
    try:
        mounts = _read(process / "mountinfo")
    except Unreadable:
        return
    # proc(5): id, parent, device, root, mount point, options. The last one mounted on / is what is seen.
    roots = [fields[5] for line in mounts.splitlines() if len(fields := line.split()) > 5 and fields[4] == "/"]
    if not roots or "ro" not in roots[-1].split(","):
        yield Broken("read-only root", "its root filesystem is writable")


# --- control groups ---------------------------------------------------------------------------------------------------


def _groups(process: Path, root: Path) -> dict[str, list[Path]]:
    """Return, for each controller, the directories of the process's group and of all above it (v1, v2 and both)."""
    found: dict[str, list[Path]] = {"memory": [], "cpu": [], "pids": []}
    for line in _read(process / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        parts = group.strip("/").split("/")
        if ".." in parts:
            continue
        for controller in found:
            if not controllers:
                base = root / "sys/fs/cgroup"
            elif controller in controllers.split(","):
                base = root / "sys/fs/cgroup" / controllers
            else:
                continue
            # Limits of groups above hold too; some engines put the process in a group below the limited one.
            found[controller] += [base.joinpath(*parts[:depth]) for depth in range(len(parts), 0, -1)]
    return found


def _tightest(groups: list[Path], names: tuple[str, ...], value: Callable[[str], float | None]) -> float | None:
    return min((found for name in names for found in _values(groups, name, value)), default=None)


def _values(groups: list[Path], name: str, value: Callable[[str], float | None]) -> Iterator[float]:
    """Yield what the groups say, leaving out those that have no such file or no bound."""
    for group in groups:
        try:
            text = (
                _read(group / name)
                if name
                else f"{_read(group / 'cpu.cfs_quota_us')} {_read(group / 'cpu.cfs_period_us')}"
            )
        except Unreadable:
            continue
        found = value(text)
        if found is not None:
            yield found


def _number(text: str) -> float | None:
    return float(text) if text.strip().isdigit() else None


def _cpu_max(text: str) -> float | None:
    quota, _, period = text.strip().partition(" ")
    return float(quota) / float(period) if quota.isdigit() and period.isdigit() else None


def _cfs_quota(text: str) -> float | None:
    quota, period = text.split()
    return float(quota) / float(period) if quota.isdigit() and float(period) > 0 else None


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


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        raise Unreadable from None
