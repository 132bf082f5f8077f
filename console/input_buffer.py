"""Keystrokes of one terminal that may still be needed again. No I/O, no clock."""

from protos import limits

MAX_IN_FLIGHT_BYTES = 256 * 1024


class InputBuffer:
    """Input addressed by absolute byte offset: kept until acknowledged, sent in pieces, sent again after a reconnect.

    ``base <= sent <= end``: below ``base`` all is acknowledged, below ``sent`` all is on its way.
    """

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.sent = base
        self._bytes = bytearray()

    @property
    def end(self) -> int:
        """The offset of the next byte to be typed."""
        return self.base + len(self._bytes)

    def type(self, data: bytes) -> None:
        """Append keystrokes."""
        self._bytes += data

    def next_piece(self) -> tuple[int, bytes] | None:
        """Return offset and bytes to send next, or None while enough is in flight."""
        size = min(self.end - self.sent, limits.MAX_CHUNK_BYTES, self.base + MAX_IN_FLIGHT_BYTES - self.sent)
        if size <= 0:
            return None
        offset, start = self.sent, self.sent - self.base
        self.sent += size
        return offset, bytes(self._bytes[start : start + size])

    def acknowledged(self, offset: int) -> None:
        """Forget what reached the program; an offset that makes no sense changes nothing."""
        if self.base < offset <= self.sent:
            del self._bytes[: offset - self.base]
            self.base = offset

    def resume(self, offset: int) -> None:
        """Go on from what the worker has, after a reconnect: all above is sent again, all below never was lost."""
        if self.base <= offset <= self.end:
            del self._bytes[: offset - self.base]
        else:  # another viewer typed meanwhile, or it is a new session: ours no longer fits
            self._bytes.clear()
        self.base = self.sent = offset
