"""Echo: one byte to a raw-mode ``cat`` and back."""

from bench.arena import Arena
from bench.contender import ECHO_ARGV
from bench.figures import Bar, Result, Table, middle, percentile, ratios, times

_SLICES = 10
"""Each round goes round all contenders so often, so that what else the machine does meets all of them alike."""
_WARM_UP = 5


async def measure(arena: Arena) -> Result:
    """Let all echo in turn."""
    contenders = arena.contenders
    terminals = [await contender.open(ECHO_ARGV) for contender in contenders]
    p50: list[list[float]] = [[] for _ in contenders]
    p99: list[list[float]] = [[] for _ in contenders]
    for number in range(arena.options.rounds):
        took: list[list[float]] = [[] for _ in contenders]
        for part in range(_SLICES):
            for i in arena.in_turn(number + part):
                await terminals[i].echo(_WARM_UP)
                took[i] += await terminals[i].echo(arena.options.echoes // _SLICES)
        for i, mine in enumerate(took):
            p50[i].append(percentile(mine, 50) * 1e6)
            p99[i].append(percentile(mine, 99) * 1e6)
    rows, bars = [], []
    peer = len(contenders) - 1
    for i, contender in enumerate(contenders):
        to_raw, to_peer = ratios(p50[i], p50[0]), ratios(p50[i], p50[peer])
        p99_to_peer = ratios(p99[i], p99[peer])
        rows.append((
            contender.name, f"{middle(p50[i]):.0f}", f"{middle(p99[i]):.0f}", times(to_raw),
            times(ratios(p99[i], p99[0])), f"{middle(to_peer):.2f}×", f"{middle(p99_to_peer):.2f}×",
        ))  # fmt: skip
        if 0 < i < peer:
            kind = contender.name.split(", ")[1]
            bars.append(Bar(f"echo p50 / raw socket, {kind}", middle(to_raw), 4.5, 2.5, decides=True))
            bars.append(Bar(f"echo p50 / terminado, {kind}", middle(to_peer), 1.5, 0.9))
            bars.append(Bar(f"echo p99 / terminado, {kind}", middle(p99_to_peer), 1.2, 0.8))
    title = f"Echo: one byte to a raw-mode cat and back, {arena.options.rounds} rounds of {arena.options.echoes}"
    heads = ("", "p50 µs", "p99 µs", "p50 / raw", "p99 / raw", "p50 / peer", "p99 / peer")
    return Result([Table(title, heads, rows)], bars)
