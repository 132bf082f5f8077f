"""Keeps secret values out of what this process says: its log lines, and the sentences of its refusals.

Nothing of ours puts them there, but the engine and programs in a DevBox may repeat what they were given, and those
words go into refusals. One for the process, as its log is.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

_MASK = "***"
_MIN_CHARS = 6
"""A shorter value would blacken words that have nothing to do with it, and is no secret."""


class Redaction:
    """Secret values that are in use, by whose they are."""

    def __init__(self) -> None:
        self._forms: dict[str, set[str]] = {}

    def remember(self, owner: str, values: Iterable[str]) -> None:
        """Mask these values from now on, in place of those that this owner had."""
        kept = [value for value in values if len(value) >= _MIN_CHARS]
        # A line of its own each, too: whoever prints a key prints it by lines.
        lines = {line for value in kept for line in value.splitlines() if len(line) >= _MIN_CHARS}
        self._forms[owner] = {*kept, *lines, *(quote(value, safe="") for value in kept)}

    def forget(self, owner: str) -> None:
        """Let an owner's values be. Safe to repeat."""
        self._forms.pop(owner, None)

    @contextmanager
    def during(self, owner: str, *values: str) -> Iterator[None]:
        """Mask values while the block runs."""
        self.remember(owner, values)
        try:
            yield
        finally:
            self.forget(owner)

    def text(self, text: str) -> str:
        """Return text with every secret value masked, the longest first, for one may hold another."""
        forms = {form for forms in self._forms.values() for form in forms if form in text}
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, _MASK)
        return text


class RedactingFormatter(logging.Formatter):
    """Formats as another formatter does, and masks."""

    def __init__(self, formatter: logging.Formatter, redaction: Redaction) -> None:
        super().__init__()
        self._formatter = formatter
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, tracebacks included."""
        return self._redaction.text(self._formatter.format(record))


SECRETS = Redaction()
"""Those of this process."""


def redact_logs() -> None:
    """Mask in all that is logged from now on."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(RedactingFormatter(handler.formatter or logging.Formatter(), SECRETS))
