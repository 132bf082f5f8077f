"""Connection: what a refused handshake and a close say."""

from datetime import UTC, datetime

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from gateway.connection import ending_of, retry_after_s
from gateway.errors import Replaced

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
        ("Sun, 22 Nov 2026 12:00:30 +99999999999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    """A date in the past asks for nothing, and what is neither is ignored."""
    assert retry_after_s(header, NOW) == seconds


def test_both_sides_close_codes_count() -> None:
    """A 1009 is remembered whoever sent it; the reason is the code of who closed first; none stands for 1006."""
    theirs, ours = Close(1009, ""), Close(1000, "")

    first = ending_of(ConnectionClosedError(theirs, ours, rcvd_then_sent=True), 7.0)
    second = ending_of(ConnectionClosedError(theirs, ours, rcvd_then_sent=False), 7.0)
    none = ending_of(ConnectionClosedError(None, None), 0.0)

    assert (first.close_codes, first.reason, first.registered_s) == ({1009, 1000}, "close_1009", 7.0)
    assert (second.close_codes, second.reason) == ({1009, 1000}, "close_1000")
    assert (none.close_codes, none.reason) == ({1006}, "close_1006")


def test_a_replaced_connection_is_the_last() -> None:
    """Whatever name the orchestrator gives, and also where it gives none."""
    for reason, said in (("by the one on other-machine", "other-machine"), ("", "does not say")):
        with pytest.raises(Replaced, match=said):
            ending_of(ConnectionClosedError(Close(4001, reason), Close(4001, ""), rcvd_then_sent=True), 100.0)
