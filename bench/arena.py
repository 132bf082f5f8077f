"""Where everything meets: one container, the engine, our worker, the peer, and the options of this run."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.contender import Contender
from bench.engine import Engine
from bench.orchestrator import Link, Orchestrator
from bench.raw_socket import RawSocket
from bench.worker import Worker


@dataclass(frozen=True)
class Options:
    """How thorough."""

    rounds: int
    echoes: int
    flood_bytes: int
    keystrokes: int
    terminals: int


@dataclass(frozen=True)
class Arena:
    """All that measures use; made once per run."""

    options: Options
    engine: Engine
    orchestrator: Orchestrator
    worker: Worker
    link: Link
    path: str
    devbox_id: str
    container: str
    container_pid: int
    start_s: float
    raw: RawSocket
    contenders: Sequence[Contender]
    """The raw socket first, terminado last."""

    def in_turn(self, number: int) -> list[int]:
        """Return the contenders' numbers in the order of one round: each begins once in a while."""
        count = len(self.contenders)
        order = [(number + i) % count for i in range(count)]
        return order if number % 2 == 0 else order[::-1]
