"""Binary frames of the WebSocket protocol ``clustercode.v1+binary``: 13 bytes of header, then raw bytes.

Big-endian: kind (u8), channel (u32, given in the answer to open, valid for one connection), offset (u64, of the
first byte in that direction).
"""

import struct
from enum import IntEnum
from typing import NamedTuple

from protos.errors import InvalidArgument
from protos.limits import MAX_CHUNK_BYTES

_HEADER = struct.Struct("!BIQ")
HEADER_BYTES = _HEADER.size


class FrameKind(IntEnum):
    """What the bytes of a frame belong to."""

    TERMINAL = 1
    DISPLAY = 2


class Frame(NamedTuple):
    """One decoded frame."""

    kind: FrameKind
    channel: int
    offset: int
    data: bytes


def encode_header(kind: FrameKind, channel: int, offset: int) -> bytes:
    """Return the 13 bytes that go before the data."""
    return _HEADER.pack(kind, channel, offset)


def decode(frame: bytes) -> Frame:
    """Take a received frame apart; raises `InvalidArgument` for one that is too short, too long or of no kind."""
    if len(frame) < HEADER_BYTES:
        raise InvalidArgument(f"A binary frame has at least {HEADER_BYTES} bytes of header; this one has {len(frame)}.")
    if len(frame) > HEADER_BYTES + MAX_CHUNK_BYTES:
        raise InvalidArgument(f"A binary frame carries at most {MAX_CHUNK_BYTES} bytes; split it.")
    kind, channel, offset = _HEADER.unpack_from(frame)
    try:
        return Frame(FrameKind(kind), channel, offset, frame[HEADER_BYTES:])
    except ValueError:
        raise InvalidArgument(f"Frames are of kind 1 (terminal) or 2 (display), not {kind}.") from None
