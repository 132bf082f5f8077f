"""Watermark: pings often enough, never too far ahead, confirms only what went before a ping."""

import pytest

from gateway.watermark import MAX_AHEAD_BYTES, PING_EVERY_BYTES, Watermark
from protos import limits

KIB = 1024


def test_a_ping_is_due_after_half_a_window() -> None:
    """A session with a full window never waits for a ping that is not due."""
    mark: Watermark[str] = Watermark(128 * KIB)

    assert not mark.sent("a", 63 * KIB, 63 * KIB)
    assert mark.sent("a", 64 * KIB, 1 * KIB)


def test_a_large_window_pings_every_128_kib() -> None:
    """No more pings than the protocol asks for."""
    mark: Watermark[str] = Watermark(limits.MAX_WINDOW_BYTES)

    assert not mark.sent("a", PING_EVERY_BYTES - 1, PING_EVERY_BYTES - 1)
    assert mark.sent("b", 1, 1)


def test_a_pong_confirms_what_went_before_its_ping_and_nothing_after() -> None:
    """Bytes sent after the ping wait for the next one."""
    mark: Watermark[str] = Watermark(128 * KIB)
    mark.sent("a", 100, 100)
    mark.sent("b", 7, 7)
    ping = mark.ping()
    mark.sent("a", 150, 50)

    assert mark.pong(ping) == {"a": 100, "b": 7}
    assert mark.unpinged
    assert mark.pong(mark.ping()) == {"a": 150}
    assert not mark.unpinged


def test_a_later_pong_confirms_earlier_pings_too() -> None:
    """A peer may answer only the last of several pings."""
    mark: Watermark[str] = Watermark(128 * KIB)
    mark.sent("a", 100, 100)
    first = mark.ping()
    mark.sent("b", 5, 5)
    second = mark.ping()

    assert mark.pong(second) == {"a": 100, "b": 5}
    assert mark.pong(first) == {}


@pytest.mark.parametrize("chunk", [1, 1000, 30_000, limits.MAX_CHUNK_BYTES])
@pytest.mark.parametrize("window", [limits.MIN_WINDOW_BYTES, limits.DEFAULT_WINDOW_BYTES, limits.MAX_WINDOW_BYTES])
def test_data_never_runs_further_ahead_than_promised_and_a_ping_is_always_out(chunk: int, window: int) -> None:
    """Whatever the chunks, sending stops at the bound, and then there is a ping whose pong lets it go on."""
    mark: Watermark[str] = Watermark(window)
    end = 0
    pings = []
    while not mark.full:
        end += chunk
        if mark.sent("a", end, chunk):
            pings.append(mark.ping())

    assert end <= MAX_AHEAD_BYTES
    assert pings
    assert mark.pong(pings[-1]) == {"a": pings[-1]}
    assert not mark.full


def test_a_forgotten_source_is_not_confirmed() -> None:
    """A session that is gone gets no acknowledgement; its bytes still count."""
    mark: Watermark[str] = Watermark(128 * KIB)
    mark.sent("a", 100, 100)
    ping = mark.ping()
    mark.forget("a")

    assert mark.pong(ping) == {}
