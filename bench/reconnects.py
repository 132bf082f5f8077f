"""What a restart of the orchestrator looks like when all workers come back: ten thousand of them, simulated.

Each is a real `gateway.backoff.Backoff`, driven by a simulated clock; nothing is dialled. The orchestrator goes away at
second 0 and comes back after a while; it then serves so many handshakes a second and refuses the others with 503.
Run ``python -m bench.reconnects`` to print the figures and draw docs/reconnects.svg; the seed is fixed.
"""

import heapq
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gateway.backoff import Backoff, Ending

WORKERS = 10_000
AWAY_S = 60.0
CLOSING_S = 1.0
"""All connections are gone this long after the first one."""
SERVED_PER_S = 1_000
LONG_S = 3600.0
"""How long each was connected before."""

PLOT = Path(__file__).parent.parent / "docs" / "reconnects.svg"


@dataclass
class Arrivals:
    """Handshakes by the second in which they came."""

    jitter: bool
    all: Counter[int]
    served: Counter[int]

    def peak(self, since: float = 0.0) -> int:
        """Return the most handshakes in one second since then."""
        return max(count for second, count in self.all.items() if second >= since)

    @property
    def connected_s(self) -> int:
        """Seconds from the orchestrator's return until the last worker was connected."""
        return max(self.served) + 1 - int(AWAY_S)


def simulate(*, jitter: bool, seed: int = 1) -> Arrivals:
    """Let all workers lose their connection and come back."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    arrivals = Arrivals(jitter, Counter(), Counter())

    def delay_s(backoff: Backoff, ending: Ending) -> float:
        return backoff.delay_s(ending, random=chance.random() if jitter else 0.0)

    dials: list[tuple[float, int]] = []
    backoffs = [Backoff() for _ in range(WORKERS)]
    for worker, backoff in enumerate(backoffs):
        lost_s = CLOSING_S * worker / WORKERS
        heapq.heappush(dials, (lost_s + delay_s(backoff, Ending(LONG_S, frozenset({1012}))), worker))
    while dials:
        now, worker = heapq.heappop(dials)
        second = int(now)
        arrivals.all[second] += 1
        if now >= AWAY_S and arrivals.served[second] < SERVED_PER_S:
            arrivals.served[second] += 1
        else:
            heapq.heappush(dials, (now + delay_s(backoffs[worker], Ending()), worker))
    return arrivals


def draw(panels: list[Arrivals]) -> str:
    """Return an SVG with one panel above the other, on the same scales."""
    width, height, left, top, gap = 860, 170, 70, 34, 62
    until = max(max(panel.all) for panel in panels) // 10 * 10 + 10
    most = max(panel.peak() for panel in panels)
    step = 2000 if most > 4000 else 500

    def x(second: float) -> float:
        return left + second * width / until

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {top + 2 * (height + gap)}"',
        'font-family="sans-serif" font-size="12" fill="#222">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for index, panel in enumerate(panels):
        bottom = top + height + index * (height + gap)
        title = "With the jitter that workers have" if panel.jitter else "Without jitter"
        parts.append(
            f'<text x="{left}" y="{bottom - height - 10}" font-size="14">{title}: handshakes a second '
            f"(at most {panel.peak()}; {panel.peak(AWAY_S)} once it is back)</text>"
        )
        for count in range(0, most + step, step):
            y = bottom - count * height / most
            if y < bottom - height - 1:
                break
            parts.append(
                f'<path d="M{left} {y:.1f}h{width}" stroke="#ddd"/>'
                f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{count}</text>'
            )
        parts.append(
            f'<rect x="{left}" y="{bottom - height}" width="{x(AWAY_S) - left:.1f}" height="{height}" fill="#f3e9e6"/>'
        )
        for counts, colour in ((panel.all, "#b5533c"), (panel.served, "#2f6f4f")):
            bars = "".join(
                f"M{x(second):.1f} {bottom}v{-count * height / most:.1f}h{width / until:.2f}V{bottom}z"
                for second, count in sorted(counts.items())
            )
            parts.append(f'<path d="{bars}" fill="{colour}"/>')
        parts += [
            f'<text x="{x(second):.1f}" y="{bottom + 16}" text-anchor="middle">{second} s</text>'
            for second in range(0, until + 1, 20)
        ]
    parts.append(
        f'<text x="{left}" y="{top + 2 * height + gap + 38}">Shaded: the orchestrator is away. Red: refused or '
        f"unanswered. Green: served, at most {SERVED_PER_S} a second.</text></svg>\n"
    )
    return "\n".join(parts)


def main() -> None:
    """Print the figures and draw the plot."""
    panels = [simulate(jitter=jitter) for jitter in (False, True)]
    for panel in panels:
        print(
            f"{'with' if panel.jitter else 'without'} jitter: at most {panel.peak()} handshakes a second, "
            f"{panel.peak(AWAY_S)} once it is back; all connected {panel.connected_s} s after its return"
        )
    PLOT.write_text(draw(panels))


if __name__ == "__main__":
    main()
