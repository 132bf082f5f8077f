"""What the gateway measures of the machine by itself."""

import sys
from typing import Literal

import psutil

Platform = Literal["linux", "darwin", "windows"]


class Machine:
    """Figures of this machine. CPU usage is the mean since it was last asked for."""

    def __init__(self) -> None:
        self.platform: Platform = platform_name(sys.platform)
        self.cpu_count: int = psutil.cpu_count() or 1
        self.memory_total: int = psutil.virtual_memory().total
        psutil.cpu_percent(interval=None)  # The first call only starts the interval.

    def cpu_usage(self) -> float:
        """Return the percentage of all processors in use since the last call, 0 to 100."""
        return min(100.0, max(0.0, psutil.cpu_percent(interval=None)))

    def memory_free(self) -> int:
        """Return the bytes that programs can still get without swapping."""
        return psutil.virtual_memory().available


def platform_name(platform: str) -> Platform:
    """Return the protocol's name of a ``sys.platform``. Pure."""
    return {"darwin": "darwin", "win32": "windows", "cygwin": "windows"}.get(platform, "linux")  # type: ignore[return-value]
