"""How many processes of a DevBox the kernel has killed for want of memory, from the cgroup of its main process.

Engines tell of it late or not at all: Podman 4 only when the main process ends. The counter is the kernel's own.
"""

import re
from pathlib import Path

_MOST_BYTES = 64 * 1024


def count(pid: int, root: Path = Path("/")) -> int | None:
    """Return the count; None where it cannot be read: another machine's pid, or a container without the host's view."""
    if pid <= 0:
        return None
    try:
        groups = _read(root / "proc" / str(pid) / "cgroup")
    except OSError:
        return None
    for line in groups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        group = group.lstrip("/")
        if ".." in group.split("/"):
            continue
        if "memory" in controllers.split(","):
            path = root / "sys/fs/cgroup/memory" / group / "memory.oom_control"
        elif not controllers:
            path = root / "sys/fs/cgroup" / group / "memory.events"
        else:
            continue
        try:
            found = re.search(r"^oom_kill (\d+)$", _read(path), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found[1])
    return None


def _read(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(_MOST_BYTES)
