"""Connection: what a refused handshake and a close say."""

from datetime import UTC, datetime

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from gateway.connection import close_codes, retry_after_s

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("Sun, 22 Nov 2026 12:00:30 -0000", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    """A date in the past asks for nothing, and what is neither is ignored."""
    assert retry_after_s(header, NOW) == seconds


def test_both_sides_close_codes_count() -> None:
    """A 1009 is remembered whoever sent it; no code at all stands for 1006."""
    theirs, ours = Close(1009, ""), Close(1000, "")

    assert close_codes(ConnectionClosedError(theirs, ours, rcvd_then_sent=True)) == {1009, 1000}
    assert close_codes(ConnectionClosedError(None, None)) == {1006}
