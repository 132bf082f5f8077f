"""From what an engine says of a build to steps and whole lines. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAX_LINES_CHARACTERS = 32 * 1024
"""Of one piece of the log."""

_STEP = re.compile(r"(?:\[(\d{1,4})/(\d{1,4})\] )?S(?:TEP|tep) (\d{1,4})/(\d{1,4}) ?: (.*)")


@dataclass(frozen=True)
class BuildStep:
    """Something is begun; ``fraction`` of the whole that is done before it, where known."""

    message: str
    fraction: float | None


@dataclass(frozen=True)
class BuildLines:
    """Whole lines of the log."""

    text: str


BuildEvent = BuildStep | BuildLines


class BuildLog:
    """Collects text until a line is whole. ``names`` are what pinned images are called in front of people."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._pending = ""

    def feed(self, text: str) -> Iterator[BuildEvent]:
        """Yield what is complete with this text: its steps, then its lines."""
        whole, newline, rest = (self._pending + text).rpartition("\n")
        self._pending = rest
        if newline:
            yield from self._events(whole)
        if len(self._pending) > MAX_LINES_CHARACTERS:
            yield from self.end()

    def end(self) -> Iterator[BuildEvent]:
        """Yield what is left."""
        if self._pending:
            text, self._pending = self._pending, ""
            yield from self._events(text)

    def _events(self, text: str) -> Iterator[BuildEvent]:
        if "/" in text and ("STEP " in text or "Step " in text):
            lines = text.split("\n")
            for index, line in enumerate(lines):
                match = _STEP.match(line)
                if match:
                    lines[index] = self._named(line)
                    yield self._step(match)
            text = "\n".join(lines)
        for start in range(0, max(len(text), 1), MAX_LINES_CHARACTERS):
            yield BuildLines(text[start : start + MAX_LINES_CHARACTERS])

    def _step(self, match: re.Match[str]) -> BuildStep:
        stage, stages, step, steps = (int(number or 1) for number in match.groups()[:4])
        within = min((step - 1) / max(steps, 1), 1.0)
        fraction = min((stage - 1 + within) / max(stages, 1), 1.0)
        of_stage = f" of stage {stage}" if stages > 1 else ""
        return BuildStep(f"Step {step} of {steps}{of_stage}: {self._named(match[5])[:300]}", fraction)

    def _named(self, line: str) -> str:
        for pinned, name in self._names.items():
            line = line.replace(pinned, name)
        return line
