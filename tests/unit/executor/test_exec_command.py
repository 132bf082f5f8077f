"""Pieces of exec that are pure: the demultiplexer and what is kept of long output."""

from hypothesis import given
from hypothesis import strategies as st

from executor.exec_command import HeadAndTail
from executor.exec_stream import Demultiplexer


@given(
    frames=st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(max_size=50)), max_size=8),
    cuts=st.lists(st.integers(1, 20), min_size=1),
)
def test_streams_are_parted_however_they_arrive(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """Headers and data may be cut anywhere."""
    raw = b"".join(bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for kind, data in frames)
    demultiplexer = Demultiplexer()
    pieces: list[tuple[int, bytes]] = []
    step = 0
    while raw:
        cut = cuts[step % len(cuts)]
        pieces += demultiplexer.feed(memoryview(raw[:cut]))
        raw, step = raw[cut:], step + 1

    for kind in (1, 2):
        expected = b"".join(data for found, data in frames if found == kind)
        assert b"".join(data for found, data in pieces if found == kind) == expected


@given(max_bytes=st.integers(1, 100), pieces=st.lists(st.binary(max_size=40), max_size=10))
def test_head_and_tail_are_kept_and_the_middle_counted(max_bytes: int, pieces: list[bytes]) -> None:
    """Nothing is cut that fits; what is cut is from the middle."""
    kept = HeadAndTail(max_bytes)
    for piece in pieces:
        kept.add(piece)
    whole, result = b"".join(pieces), kept.result()

    assert len(result) + kept.cut == len(whole)
    if kept.cut == 0:
        assert result == whole
    else:
        head = max_bytes - max_bytes // 2
        assert result[:head] == whole[:head]
        assert whole.endswith(result[head:])
