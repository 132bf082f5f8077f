"""A viewer of a display between its relay and its RPC: what is held is bounded, bytes are in order, the end is told."""

import asyncio
import struct

import pytest

from executor.display import DisplayBytes, DisplayOver, DisplayViewer
from executor.exec_stream import READ_BYTES
from protos.errors import InvalidArgument
from protos.limits import MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES, MAX_PENDING_INPUT_BYTES

WINDOW = 128 * 1024


class Stream:
    """Stands in for the engine's socket."""

    def __init__(self) -> None:
        self.unwritten_bytes = 0
        self.written = b""
        self.looks = 0

    def write(self, data: bytes) -> None:
        self.written += data

    def check_room(self) -> None:
        self.looks += 1


def viewer() -> tuple[DisplayViewer, Stream]:
    stream = Stream()
    one = DisplayViewer(session_id="d", tenant="t", devbox_id="b", window_bytes=WINDOW)
    one.connect(stream)  # type: ignore[arg-type]
    return one, stream


def output(data: bytes, kind: int = 1) -> memoryview:
    """What the engine sends for one write of the relay."""
    return memoryview(struct.pack("!BxxxI", kind, len(data)) + data)


async def test_bytes_come_in_order_and_in_chunks() -> None:
    """Each chunk has the offset of its first byte; none is longer than a frame carries."""
    one, _ = viewer()
    data = bytes(range(256)) * 400
    one.output(output(data[:1000]))
    one.output(output(data[1000:]))

    first, second = await one.next(), await one.next()

    assert isinstance(first, DisplayBytes)
    assert isinstance(second, DisplayBytes)
    assert (first.offset, second.offset) == (0, MAX_CHUNK_BYTES)
    assert first.data + second.data == data


async def test_what_the_relay_says_of_errors_is_not_the_displays() -> None:
    """Standard error never reaches the viewer."""
    one, _ = viewer()
    one.output(output(b"socat: gone", kind=2))
    one.output(output(b"RFB"))

    assert await one.next() == DisplayBytes(0, b"RFB")


async def test_room_is_what_the_window_leaves() -> None:
    """Held and sent bytes count until they are acknowledged; an acknowledgement has the stream looked at again."""
    one, stream = viewer()
    one.output(output(b"x" * 100_000))
    assert one.room() == WINDOW - 100_000
    await one.next()
    assert one.room() == WINDOW - 100_000
    one.ack(MAX_CHUNK_BYTES)

    assert one.room() == WINDOW - 100_000 + MAX_CHUNK_BYTES
    assert stream.looks == 1
    with pytest.raises(InvalidArgument, match="has sent 65536"):
        one.ack(MAX_CHUNK_BYTES + 1)


async def test_the_last_bytes_come_before_the_end() -> None:
    """A relay that ends is told of after what it had sent."""
    one, _ = viewer()
    one.output(output(b"last"))
    one.ended()

    assert await one.next() == DisplayBytes(0, b"last")
    assert isinstance(await one.next(), DisplayOver)


async def test_after_the_end_output_is_thrown_away() -> None:
    """So that a relay which is stuck in a write can end; the first reason counts."""
    one, stream = viewer()
    one.output(output(b"x" * WINDOW))
    one.finish("The display was closed.")
    one.finish("Another reason.")

    assert one.room() == READ_BYTES
    assert stream.looks == 2
    one.output(output(b"more"))
    assert await one.next() == DisplayOver("The display was closed.")


async def test_input_waits_for_a_socket_that_is_full() -> None:
    """Nothing is written while too much waits, and no message is larger than the protocol's."""
    one, stream = viewer()
    await one.write(b"first")
    stream.unwritten_bytes = MAX_PENDING_INPUT_BYTES + 1
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(one.write(b" second"))
        await asyncio.sleep(0)
        assert not writing.done()
        assert stream.written == b"first"
        stream.unwritten_bytes = 0
        one.input_taken()

    assert stream.written == b"first second"
    with pytest.raises(InvalidArgument):
        await one.write(b"x" * (MAX_MESSAGE_BYTES + 1))
