"""`console.input_buffer`: nothing typed is lost, nothing is typed twice, whatever is cut when."""

from hypothesis import given
from hypothesis import strategies as st

from console.input_buffer import MAX_IN_FLIGHT_BYTES, InputBuffer
from protos import limits


def drain(buffer: InputBuffer) -> list[tuple[int, bytes]]:
    pieces = []
    while (piece := buffer.next_piece()) is not None:
        pieces.append(piece)
    return pieces


def test_pieces_are_small_and_wait_for_acknowledgement() -> None:
    """No piece is larger than a frame, and no more is in flight than the bound; an acknowledgement opens it."""
    buffer = InputBuffer()
    buffer.type(bytes(MAX_IN_FLIGHT_BYTES + 10))

    pieces = drain(buffer)

    assert all(len(data) <= limits.MAX_CHUNK_BYTES for _, data in pieces)
    assert buffer.sent == MAX_IN_FLIGHT_BYTES
    buffer.acknowledged(10)
    assert drain(buffer) == [(MAX_IN_FLIGHT_BYTES, bytes(10))]


def test_acknowledgements_that_make_no_sense_change_nothing() -> None:
    """An offset that was never sent, or was acknowledged before, is ignored."""
    buffer = InputBuffer()
    buffer.type(b"ls\r")
    drain(buffer)
    buffer.acknowledged(99)
    buffer.acknowledged(2)
    buffer.acknowledged(1)

    assert (buffer.base, buffer.end) == (2, 3)


def test_what_another_viewer_typed_meanwhile_drops_ours() -> None:
    """Input that no longer fits the session's offset is not typed into the middle of something else."""
    buffer = InputBuffer()
    buffer.type(b"rm x")
    buffer.resume(100)

    assert drain(buffer) == []
    assert buffer.end == 100


class Program:
    """The far end: takes what continues its input and drops repeats, as the executor does."""

    def __init__(self) -> None:
        self.input = bytearray()

    def take(self, offset: int, data: bytes) -> None:
        assert offset <= len(self.input)
        self.input += data[len(self.input) - offset :]


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=100_000),  # typed
            st.sampled_from(["send", "ack"]),
            st.integers(min_value=0, max_value=3),  # a cut that swallowed so many pieces
        ),
        max_size=30,
    )
)
def test_any_cuts_any_acks_same_input(steps: list[bytes | str | int]) -> None:
    """However often the connection is cut, the program reads exactly what was typed."""
    buffer, program, typed = InputBuffer(), Program(), bytearray()
    for step in steps:
        match step:
            case bytes():
                buffer.type(step)
                typed += step
            case "send":
                piece = buffer.next_piece() or (len(program.input), b"")
                program.take(*piece)
            case "ack":
                buffer.acknowledged(len(program.input))
            case _:
                for _ in range(int(step)):
                    buffer.next_piece()  # lost on the way
                buffer.resume(len(program.input))
    while buffer.base < buffer.end:
        for piece in drain(buffer):
            program.take(*piece)
        buffer.acknowledged(len(program.input))

    assert program.input == typed
