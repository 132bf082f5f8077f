"""Answers that could not be delivered, kept for the next connection. No I/O."""

import logging
from collections import deque
from collections.abc import Iterator

MAX_FRAMES = 1000
MAX_BYTES = 8 * 1024 * 1024

log = logging.getLogger(__name__)


class Outbox:
    """Frames in order; beyond either bound the oldest is dropped, with a line in the log.

    A dropped answer is not lost work: the executor keeps the first answer for a repeat of the same id.
    """

    def __init__(self, max_frames: int = MAX_FRAMES, max_bytes: int = MAX_BYTES) -> None:
        self._frames: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size_bytes(self) -> int:
        """Bytes of all frames."""
        return self._bytes

    def put(self, what: str, frame: bytes) -> None:
        """Keep a frame; ``what`` names it in the log."""
        self._frames.append((what, frame))
        self._bytes += len(frame)
        while self._frames and (len(self._frames) > self._max_frames or self._bytes > self._max_bytes):
            dropped, old = self._frames.popleft()
            self._bytes -= len(old)
            log.warning("Dropped the undelivered %s (%d bytes): too many wait for a connection", dropped, len(old))

    def drain(self) -> Iterator[tuple[str, bytes]]:
        """Yield the frames in order. A frame is taken out when the next one is asked for, so a failure keeps it."""
        while self._frames:
            what, frame = self._frames[0]
            yield what, frame
            if self._frames and self._frames[0][1] is frame:
                self._frames.popleft()
                self._bytes -= len(frame)
