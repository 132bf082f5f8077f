"""Binary frames: 13 bytes of header, then data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import frames, limits
from protos.errors import InvalidArgument


@given(
    kind=st.sampled_from(frames.FrameKind), channel=st.integers(0, 2**32 - 1), offset=st.integers(0, 2**64 - 1),
    data=st.binary(max_size=100),
)  # fmt: skip
def test_what_is_written_is_read(kind: frames.FrameKind, channel: int, offset: int, data: bytes) -> None:
    """Every header, every length."""
    frame = frames.encode_header(kind, channel, offset) + data

    assert frames.decode(frame) == frames.Frame(kind, channel, offset, data)


@pytest.mark.parametrize(
    "frame", [b"", b"x" * 12, b"\x00" * 13, b"\x03" + b"\x00" * 12, b"\x01" * (14 + limits.MAX_CHUNK_BYTES)]
)
def test_a_frame_that_is_none_is_refused(frame: bytes) -> None:
    """Too short, of no kind, too long."""
    with pytest.raises(InvalidArgument):
        frames.decode(frame)
