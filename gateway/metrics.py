"""Figures of the gateway, for Prometheus. Nothing is counted, and the library not even loaded, unless somebody asks."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.registry import Collector

PREFIX = "clustercode_gateway_"
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
OK = "OK"


class Figure(NamedTuple):
    """A value that somebody else keeps; a name that ends with ``_total`` is a counter's."""

    name: str
    help: str
    value: float


class Metrics:
    """What this process counts. Safe to call whether or not it is enabled."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._opening: dict[str, tuple[str, float]] = {}
        self._registry: CollectorRegistry | None = None
        self._commands: Histogram | None = None
        self._redials: Counter | None = None

    def enable(self, others: Callable[[], Iterable[Figure]]) -> None:
        """Count from now on; ``others`` are asked for at each look. Call at most once."""
        from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector  # noqa: PLC0415

        registry = self._registry = CollectorRegistry()
        ProcessCollector(namespace=PREFIX.rstrip("_"), registry=registry)
        self._commands = Histogram(
            f"{PREFIX}command_seconds",
            "Commands answered, by type and code, and how long each took",
            ("type", "code"),
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._redials = Counter(
            f"{PREFIX}reconnects",
            "Dials after the first, by why",
            ("reason",),
            registry=registry,
        )
        registry.register(_collector(others))

    def command(self, kind: str, code: str, seconds: float) -> None:
        """Count a command that was answered."""
        if self._commands is not None:
            self._commands.labels(kind, code).observe(seconds)

    def opening(self, kind: str, request_id: str | None) -> None:
        """Take note that a session is about to be opened."""
        if self._commands is not None and request_id is not None:
            self._opening[request_id] = (kind, self._now())

    def opened(self, request_id: str | None, code: str = OK) -> None:
        """Count a session that was opened, or refused."""
        if request_id is not None and (begun := self._opening.pop(request_id, None)) is not None:
            self.command(begun[0], code, self._now() - begun[1])

    def redial(self, reason: str) -> None:
        """Count another dial; openings of the connection before it are over."""
        self._opening.clear()
        if self._redials is not None:
            self._redials.labels(reason).inc()

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format; empty while not enabled."""
        if self._registry is None:
            return b""
        from prometheus_client import generate_latest  # noqa: PLC0415 - loaded by now

        return generate_latest(self._registry)


def _collector(figures: Callable[[], Iterable[Figure]]) -> "Collector":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Figures(Collector):
        def collect(self) -> Iterator[Metric]:
            for figure in figures():
                kind = CounterMetricFamily if figure.name.endswith("_total") else GaugeMetricFamily
                yield kind(f"{PREFIX}{figure.name}", figure.help, value=figure.value)

    return Figures()
