"""What the gateway measures of the machine by itself."""

import sys
from typing import Literal

import psutil

Platform = Literal["linux", "darwin", "windows"]


class Machine:
    """Figures of this machine. CPU usage is the mean since it was last asked for."""

    def __init__(self) -> None:
        self.platform: Platform = (
            "darwin" if sys.platform == "darwin" else "windows" if sys.platform == "win32" else "linux"
        )
        self.cpu_count: int = psutil.cpu_count() or 1
        self.memory_total: int = psutil.virtual_memory().total
        psutil.cpu_percent(interval=None)  # The first call only starts the interval.

    def cpu_usage(self) -> float:
        """Return the percentage of all processors in use since the last call, 0 to 100."""
        return min(100.0, max(0.0, psutil.cpu_percent(interval=None)))

    def memory_free(self) -> int:
        """Return the bytes that programs can still get without swapping."""
        return psutil.virtual_memory().available
