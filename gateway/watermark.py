"""How far data runs ahead of an orchestrator that acknowledges nothing. No I/O: `connection` sends the pings.

WebSocket pings stand in for acknowledgements: a pong says that the orchestrator has read all that went before the
ping. Nobody's data is acknowledged to the executor before that, and a bounded number of bytes goes past it.
"""

from collections import deque
from typing import Generic, TypeVar

from protos.limits import MAX_CHUNK_BYTES

PING_EVERY_BYTES = 128 * 1024
MAX_AHEAD_BYTES = 256 * 1024

Source = TypeVar("Source")


class Watermark(Generic[Source]):
    """Counts data bytes, and remembers for each ping how far each source (a session) had got."""

    def __init__(self, window_bytes: int) -> None:
        # At most half a window, else a session with a full window would wait for a ping that never becomes due.
        self._ping_every = min(PING_EVERY_BYTES, window_bytes // 2)
        self._sent = self._pinged = self._confirmed = 0
        self._unpinged: dict[Source, int] = {}
        self._pings: deque[tuple[int, dict[Source, int]]] = (
            deque()
        )  # bounded by MAX_AHEAD_BYTES / _ping_every, and flushes

    def sent(self, source: Source, end: int, size: int) -> bool:
        """Note ``size`` bytes of ``source`` up to its offset ``end``; return whether a ping is due."""
        self._sent += size
        self._unpinged[source] = end
        return self._sent - self._pinged >= self._ping_every

    @property
    def full(self) -> bool:
        """Whether one more chunk could go beyond `MAX_AHEAD_BYTES`."""
        return self._sent - self._confirmed > MAX_AHEAD_BYTES - MAX_CHUNK_BYTES

    @property
    def unpinged(self) -> bool:
        """Whether bytes went out since the last ping."""
        return bool(self._unpinged)

    def ping(self) -> int:
        """Note that a ping goes out now; return its mark."""
        self._pinged = self._sent
        self._pings.append((self._sent, self._unpinged))
        self._unpinged = {}
        return self._sent

    def pong(self, mark: int) -> dict[Source, int]:
        """Note the pong of a ping and of all before it; return how far each source is confirmed by it."""
        confirmed: dict[Source, int] = {}
        while self._pings and self._pings[0][0] <= mark:
            self._confirmed, ends = self._pings.popleft()
            confirmed |= ends
        return confirmed

    def forget(self, source: Source) -> None:
        """Drop a source that is gone."""
        self._unpinged.pop(source, None)
        for _, ends in self._pings:
            ends.pop(source, None)
