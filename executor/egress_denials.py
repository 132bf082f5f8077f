"""How often a user is told that a connection was refused: each host once a minute, a DevBox at most so many. Pure."""

from collections import OrderedDict

HOST_AGAIN_S = 60.0
PER_DEVBOX = 20
"""Hosts a DevBox is told of within `HOST_AGAIN_S`."""
_REMEMBERED = 10_000


class Denials:
    """Remembers what was told, bounded."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()

    def is_news(self, devbox_id: str, host: str, now: float) -> bool:
        """Say whether to tell of this one, and remember that; ``now`` is of a clock that only goes forward."""
        while self._told and next(iter(self._told.values())) <= now - HOST_AGAIN_S:
            self._told.popitem(last=False)
        if (devbox_id, host) in self._told or len(self._told) >= _REMEMBERED:
            return False
        if sum(box == devbox_id for box, _ in self._told) >= PER_DEVBOX:
            return False
        self._told[devbox_id, host] = now
        return True
