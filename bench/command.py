"""A command there and back: the list of DevBoxes through our path, next to the raw API's list of containers."""

import time

from bench.arena import Arena
from bench.engine import Api
from bench.figures import Bar, Result, Table, middle, percentile, ratios, times
from bench.orchestrator import TENANT

_COMMANDS = 50
_LABEL = "io.clustercode.managed=true"


async def measure(arena: Arena) -> Result:
    """Ask both in turn."""
    raw: list[float] = []
    ours: list[float] = []
    with Api(arena.engine) as api:
        for _ in range(arena.options.rounds):
            raw_took, ours_took = [], []
            for _ in range(_COMMANDS):  # one of each in turn: the engine may be slow for a while
                began = time.perf_counter()
                api.containers(_LABEL)
                raw_took.append(time.perf_counter() - began)
                began = time.perf_counter()
                await arena.link.request("DevBox.list", {"tenantId": TENANT})
                ours_took.append(time.perf_counter() - began)
            raw.append(percentile(raw_took, 50))
            ours.append(percentile(ours_took, 50))
    to_raw = ratios(ours, raw)
    table = Table(
        f"A command there and back, {arena.options.rounds} rounds of {_COMMANDS}",
        ("", "p50 ms", "/ raw"),
        [
            ("raw API, list of containers", f"{middle(raw) * 1e3:.2f}", "1.00×"),
            ("our path, DevBox.list", f"{middle(ours) * 1e3:.2f}", times(to_raw)),
        ],
        "With Podman DevBox.list is one call of its own list, and one more for each DevBox that does not run.",
    )
    return Result([table], [Bar("command round trip / raw API", middle(to_raw), 2.0, 1.5)])
