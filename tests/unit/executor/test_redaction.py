"""Masking of secret values, as text."""

import logging

from executor.redaction import RedactingFormatter, Redaction


def test_values_are_masked_as_they_are_written() -> None:
    """Whole, line by line, and as addresses have them; the longest first."""
    redaction = Redaction()
    redaction.remember("box", ["s3cret/value", "s3cret", "first line\nsecond line"])

    assert redaction.text("got s3cret/value and s3cret%2Fvalue, s3cret") == "got *** and ***, ***"
    assert redaction.text("> second line <") == "> *** <"


def test_short_values_blacken_nothing() -> None:
    """A value of "1" or "yes" is no secret, and would mask half of every sentence."""
    redaction = Redaction()
    redaction.remember("box", ["1", "yes", ""])

    assert redaction.text("yes, 1 of 11") == "yes, 1 of 11"


def test_what_is_forgotten_is_not_masked() -> None:
    """Each owner by itself; replaced values count no more."""
    redaction = Redaction()
    redaction.remember("a", ["first-value"])
    redaction.remember("a", ["other-value"])
    with redaction.during("b", "third-value"):
        assert redaction.text("first-value other-value third-value") == "first-value *** ***"
    redaction.forget("a")
    redaction.forget("a")

    assert redaction.text("other-value third-value") == "other-value third-value"


def test_tracebacks_in_the_log_are_masked() -> None:
    """Whatever an exception repeats."""
    redaction = Redaction()
    redaction.remember("box", ["s3cret-value"])
    error = ValueError("s3cret-value")
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed: %s", ("s3cret-value",), (ValueError, error, None))
    text = RedactingFormatter(logging.Formatter(), redaction).format(record)

    assert "s3cret-value" not in text
    assert "failed: ***" in text
