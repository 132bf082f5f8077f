"""What the kernel says of processes: CPU time, memory, and which of them belong to a container."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds that these processes have used so far; those that are gone count nothing."""
    total = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def conmon_pids(container: str) -> list[int]:
    """Return the engine's helper processes of one container: one for itself, one or two for each exec."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() in ("conmon", "podman") and container in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def inside_pids(container_pid: int) -> list[int]:
    """Return the processes in a container, by its pid namespace."""
    home = Path(f"/proc/{container_pid}/ns/pid").readlink()
    found = []
    for pid in psutil.pids():
        try:
            if Path(f"/proc/{pid}/ns/pid").readlink() == home:
                found.append(pid)
        except OSError:
            continue
    return found


@dataclass(frozen=True)
class Memory:
    """Memory of some processes together, in bytes."""

    rss: int
    pss: int
    uss: int

    @classmethod
    def of(cls, pids: Iterable[int]) -> "Memory":
        """Look now."""
        each = [psutil.Process(pid).memory_full_info() for pid in pids]
        return cls(sum(m.rss for m in each), sum(m.pss for m in each), sum(m.uss for m in each))
