"""Outbox: bounded in number and bytes, oldest dropped, nothing lost by a failure half way."""

import pytest

from gateway.outbox import Outbox


def frames(outbox: Outbox) -> list[bytes]:
    """Take all frames out."""
    return [frame for _, frame in outbox.drain()]


def test_frames_come_out_in_order_and_once() -> None:
    """What was put first comes out first, and only once."""
    outbox = Outbox()
    outbox.put("a", b"1")
    outbox.put("b", b"2")

    assert frames(outbox) == [b"1", b"2"]
    assert frames(outbox) == []


def test_the_oldest_is_dropped_beyond_the_number(caplog: pytest.LogCaptureFixture) -> None:
    """One line in the log names what was dropped, without its contents."""
    outbox = Outbox(max_frames=2)
    for text in (b"secret", b"2", b"3"):
        outbox.put("answer to DevBox.list 7", text)

    assert frames(outbox) == [b"2", b"3"]
    assert "answer to DevBox.list 7" in caplog.text
    assert "secret" not in caplog.text


def test_the_oldest_are_dropped_beyond_the_bytes() -> None:
    """A large frame pushes out as many as it takes; one that is too large by itself goes too."""
    outbox = Outbox(max_bytes=10)
    for size in (4, 4, 9):
        outbox.put("x", b"x" * size)
    kept = frames(outbox)
    outbox.put("y", b"y" * 11)

    assert kept == [b"x" * 9]
    assert len(outbox) == 0


def test_a_failure_half_way_keeps_the_frame_that_failed() -> None:
    """A frame leaves only after it was sent: the connection may close under it."""
    outbox = Outbox()
    for text in (b"1", b"2", b"3"):
        outbox.put("x", text)
    for _, frame in outbox.drain():
        if frame == b"2":
            break

    assert frames(outbox) == [b"2", b"3"]


def test_a_frame_put_while_draining_comes_out_too() -> None:
    """Answers that arrive while the outbox is sent wait their turn behind it."""
    outbox = Outbox()
    outbox.put("x", b"1")
    seen = []
    for _, frame in outbox.drain():
        seen.append(frame)
        if frame == b"1":
            outbox.put("y", b"2")

    assert seen == [b"1", b"2"]


def test_a_frame_dropped_while_it_is_sent_takes_no_other_with_it() -> None:
    """The bound may push out the very frame in hand; the next one stays."""
    outbox = Outbox(max_frames=1)
    outbox.put("x", b"1")
    seen = []
    for _, frame in outbox.drain():
        seen.append(frame)
        if frame == b"1":
            outbox.put("y", b"2")

    assert seen == [b"1", b"2"]
    assert len(outbox) == 0
