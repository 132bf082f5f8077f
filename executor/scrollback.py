"""Rolling output of one terminal, addressed by absolute byte offset. No I/O, no clock."""

_FIRST_BYTES = 4096


class OffsetPruned(Exception):
    """The bytes asked for are no longer held; ``base`` is the oldest that is."""

    def __init__(self, base: int) -> None:
        super().__init__(f"the oldest byte held is {base}")
        self.base = base


class Scrollback:
    """A ring of bytes that grows lazily to its capacity, then forgets its oldest.

    Offsets only grow: ``base`` is the oldest byte still held, ``end`` the next to come. Reading below ``base``
    raises `OffsetPruned`, never returns other bytes. Whoever owns the terminal appends, anyone may read.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.base = 0
        self.end = 0
        self._ring = bytearray(min(_FIRST_BYTES, capacity))

    def append(self, data: bytes | memoryview) -> None:
        """Add output at ``end``; beyond the capacity the oldest bytes go and ``base`` moves up."""
        size = len(data)
        if size > self.capacity:
            self.end += size - self.capacity
            self.base = self.end
            data = data[size - self.capacity :]
            size = self.capacity
        self._make_room(self.end - self.base + size)
        ring = self._ring
        start = self.end % len(ring)
        head = min(size, len(ring) - start)
        ring[start : start + head] = data[:head]
        ring[: size - head] = data[head:]
        self.end += size
        self.base = max(self.base, self.end - self.capacity)

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Return at most ``max_bytes`` from ``offset``; empty at ``end``. Raises `OffsetPruned` below ``base``."""
        if offset < self.base:
            raise OffsetPruned(self.base)
        size = min(max_bytes, self.end - offset)
        if size <= 0:
            return b""
        ring = memoryview(self._ring)
        start = offset % len(ring)
        head = min(size, len(ring) - start)
        if head == size:
            return bytes(ring[start : start + size])
        return b"".join((ring[start:], ring[: size - head]))

    def _make_room(self, wanted: int) -> None:
        old = len(self._ring)
        if wanted <= old or old == self.capacity:
            return
        new = old
        while new < wanted and new < self.capacity:
            new = min(new * 2, self.capacity)
        held = self.read(self.base, self.end - self.base)
        self._ring = bytearray(new)
        start = self.base % new
        head = min(len(held), new - start)
        self._ring[start : start + head] = held[:head]
        self._ring[: len(held) - head] = held[head:]
