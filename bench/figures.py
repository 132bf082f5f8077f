"""Numbers, and what they are held against. No I/O."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def ratios(values: Sequence[float], floor: Sequence[float]) -> list[float]:
    """Return value/floor round by round."""
    return [value / base for value, base in zip(values, floor, strict=True)]


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def times(values: Sequence[float]) -> str:
    """Return a ratio with its spread: the median over the rounds, and the rounds' extremes."""
    return f"{middle(values):.2f}× ({min(values):.2f}–{max(values):.2f})"


@dataclass(frozen=True)
class Bar:
    """One figure with the mark it must reach and the one we would like it to reach."""

    name: str
    value: float
    must: float
    ambition: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    unit: str = "×"
    decides: bool = False
    """Whether the bench fails when it is missed."""

    def reaches(self, mark: float | None) -> bool:
        """Whether the figure is on the right side of a mark."""
        if mark is None:
            return False
        return self.value <= mark if self.sense == "at most" else self.value >= mark


@dataclass(frozen=True)
class Table:
    """A title, column heads and rows, as text."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass
class Result:
    """What a measure found."""

    tables: list[Table] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
