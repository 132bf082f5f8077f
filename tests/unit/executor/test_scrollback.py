"""The scrollback gives back exactly what was written, by offset, or says that it is gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.scrollback import OffsetPruned, Scrollback


@given(
    capacity=st.integers(1, 20_000),
    pieces=st.lists(st.binary(max_size=6000), max_size=12),
    data=st.data(),
)
def test_any_cut_and_any_resume_gives_the_same_bytes(capacity: int, pieces: list[bytes], data: st.DataObject) -> None:
    """Whatever was appended in whatever pieces, reading from any offset held yields the bytes written there."""
    written = b"".join(pieces)
    scrollback = Scrollback(capacity)
    for piece in pieces:
        scrollback.append(piece)

    assert scrollback.end == len(written)
    assert scrollback.base == max(0, len(written) - capacity)
    offset = data.draw(st.integers(scrollback.base, scrollback.end))
    size = data.draw(st.integers(0, capacity + 1))
    assert scrollback.read(offset, size) == written[offset : offset + size]


def test_reading_what_is_gone_says_what_is_held() -> None:
    """Other bytes are never returned in place of those asked for."""
    scrollback = Scrollback(4)
    scrollback.append(b"abcdef")

    with pytest.raises(OffsetPruned) as error:
        scrollback.read(1, 10)
    assert error.value.base == 2
    assert scrollback.read(2, 10) == b"cdef"


def test_it_grows_no_further_than_needed() -> None:
    """An idle terminal costs kilobytes, not its whole capacity."""
    scrollback = Scrollback(1024 * 1024)
    scrollback.append(b"x" * 5000)

    assert len(scrollback._ring) <= 8192
