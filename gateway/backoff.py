"""How long to wait before the next dial. No I/O, no clock, no randomness of its own."""

from typing import NamedTuple

DELAYS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Fixed by the protocol. Jitter takes up to a quarter off and never adds, so the steps stay in order."""

JITTER = 0.25

HEALTHY_AFTER_S = 10.0
"""A connection registered this long (one heartbeat's interval) proved healthy: the steps begin again."""

FORGET_TOO_BIG_AFTER_S = 600.0
"""A connection this long without a close for size clears the memory of such closes."""

MAX_RETRY_AFTER_S = 3600.0
"""No orchestrator sends us away for longer than this."""

CLOSE_TOO_BIG = 1009
CLOSE_TRY_LATER = 1013

UNREACHABLE = "unreachable"


class Ending(NamedTuple):
    """How an attempt ended."""

    registered_s: float = 0.0
    """Seconds between registering and the end; 0 if it never came to that."""
    close_codes: frozenset[int] = frozenset()
    """WebSocket close codes, the orchestrator's and ours."""
    retry_after_s: float | None = None
    """What a refused handshake asked for."""
    reason: str = UNREACHABLE
    """For figures: ``http_503``, ``close_1006`` and the like."""


class Backoff:
    """Steps through `DELAYS_S`.

    A close with 1009 (a message too big for one of us) steps up even after a healthy connection: the same message is
    likely to come again, and reconnecting at once would make a loop of it.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._too_big = 0

    def delay_s(self, ending: Ending, *, random: float) -> float:
        """Return the seconds to wait after an attempt that ended so; ``random`` is in [0, 1)."""
        if ending.registered_s >= HEALTHY_AFTER_S:
            self._failures = 0
        if ending.registered_s >= FORGET_TOO_BIG_AFTER_S:
            self._too_big = 0
        step = max(self._failures, self._too_big)
        self._failures += 1
        if CLOSE_TOO_BIG in ending.close_codes:
            self._too_big = min(self._too_big + 1, len(DELAYS_S) - 1)
            step = max(step, self._too_big)
        delay = DELAYS_S[min(step, len(DELAYS_S) - 1)] * (1 - JITTER * random)
        if CLOSE_TRY_LATER in ending.close_codes:
            delay = DELAYS_S[-1]
        if ending.retry_after_s is not None:
            delay = max(delay, min(ending.retry_after_s, MAX_RETRY_AFTER_S))
        return delay
