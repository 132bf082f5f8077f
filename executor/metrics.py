"""Figures of the executor for Prometheus, fetched through its socket. Counted from the first time somebody asks."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from protos.errors import Refusal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Histogram

PREFIX = "clustercode_executor_"
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_HELP = {
    "sessions": "Open terminal sessions",
    "displays": "Open viewers of displays",
    "scrollback_bytes": "Terminal output held in memory",
    "engine_up": "Whether the engine answered when it was asked last",
    "work_in_flight": "Commands under way",
}


class Metrics:
    """What this process counts. Safe to call before anybody asked."""

    def __init__(self) -> None:
        self._registry: CollectorRegistry | None = None
        self._engine: Histogram | None = None

    @contextmanager
    def engine_call(self, name: str | None) -> Iterator[None]:
        """Count a call of the engine, with its latency and the code that it ended with; None: a stream, not counted."""
        begun, code = monotonic(), "OK"
        try:
            yield
        except Refusal as refusal:
            code = refusal.code
            raise
        finally:
            if self._engine is not None and name is not None:
                self._engine.labels(name, code).observe(monotonic() - begun)

    async def text(self, now: Callable[[], Mapping[str, float]]) -> bytes:
        """Return all figures in Prometheus' text format, with those that ``now`` gives."""
        # The first time it is loaded from disk: not on the loop.
        return await asyncio.to_thread(self._text, now())

    def _text(self, now: Mapping[str, float]) -> bytes:
        from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, generate_latest  # noqa: PLC0415

        if self._registry is None:
            registry = CollectorRegistry()
            ProcessCollector(namespace=PREFIX.rstrip("_"), registry=registry)
            self._engine = Histogram(
                f"{PREFIX}engine_call_seconds",
                "Calls of the engine, by what was called and the code it ended with",
                ("call", "code"),
                buckets=BUCKETS_S,
                registry=registry,
            )
            self._registry = registry
        gauges = CollectorRegistry()
        for name, value in now.items():
            Gauge(f"{PREFIX}{name}", _HELP[name], registry=gauges).set(value)
        return generate_latest(self._registry) + generate_latest(gauges)
