"""A terminal between its PTY and its viewer: offsets, window, grace, input; with a stream that only takes notes."""

import asyncio
from typing import cast

import pytest

from executor.config import TerminalLimits
from executor.exec_stream import ExecStream
from executor.terminal import Detached, Exited, InputAck, News, Output, Terminal, Viewer
from protos.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from protos.limits import MAX_CHUNK_BYTES, MAX_PENDING_INPUT_BYTES

SCROLLBACK = 64 * 1024
WINDOW = 32 * 1024


class Stream:
    """Stands in for the engine's socket."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.unwritten_bytes = 0
        self.room_checks = 0

    def write(self, data: bytes) -> None:
        self.written += data

    def check_room(self) -> None:
        self.room_checks += 1

    def close(self) -> None:
        pass


def a_terminal(**limits: float) -> tuple[Terminal, Stream]:
    terminal = Terminal(
        session_id="s",
        tenant="t",
        devbox_id="d",
        limits=TerminalLimits(scrollback_bytes=SCROLLBACK, window_bytes=WINDOW, **limits),  # type: ignore[arg-type]
    )
    stream = Stream()
    terminal.connect(cast("ExecStream", stream))
    return terminal, stream


def write(terminal: Terminal, data: bytes) -> None:
    terminal.output(memoryview(data))


async def told(viewer: Viewer) -> News:
    """Return what the viewer is told next, heard of as whoever carries it does."""
    while (news := viewer.news()) is None:
        heard = asyncio.Event()
        viewer.on_news = heard.set
        await heard.wait()
    return news


async def pending(viewer: Viewer) -> bool:
    """Whether the viewer is told nothing for now."""
    try:
        async with asyncio.timeout(0.01):
            await told(viewer)
    except TimeoutError:
        return True
    return False


async def test_output_comes_with_its_offset_in_chunks_within_the_window() -> None:
    """Then nothing until the viewer acknowledged."""
    terminal, _ = a_terminal()
    viewer = terminal.attach(None, None)
    write(terminal, b"x" * (WINDOW + 10))

    assert await told(viewer) == Output(0, b"x" * WINDOW)
    assert await pending(viewer)
    terminal.ack(viewer, 5)
    assert await told(viewer) == Output(WINDOW, b"x" * 5)
    terminal.ack(viewer, WINDOW + 5)
    assert await told(viewer) == Output(WINDOW + 5, b"x" * 5)
    assert WINDOW <= MAX_CHUNK_BYTES


async def test_a_viewer_continues_where_it_says() -> None:
    """From an offset, or from the oldest byte; never from the future."""
    terminal, _ = a_terminal()
    write(terminal, b"abcdef")

    assert await told(terminal.attach(4, None)) == Output(4, b"ef")
    assert await told(terminal.attach(None, None)) == Output(0, b"abcdef")
    with pytest.raises(InvalidArgument, match="beyond"):
        terminal.attach(7, None)


async def test_the_pty_is_paused_while_nobody_takes_its_output() -> None:
    """There is room for the scrollback's size beyond what is acknowledged, and again once it is."""
    terminal, stream = a_terminal()
    viewer = terminal.attach(None, None)
    write(terminal, b"x" * SCROLLBACK)

    assert terminal.room() == 0
    await told(viewer)
    checks = stream.room_checks
    terminal.ack(viewer, WINDOW)
    assert terminal.room() == WINDOW
    assert stream.room_checks > checks


async def test_after_the_grace_the_viewer_is_detached_and_the_oldest_output_goes() -> None:
    """The program goes on; whoever comes back gets what is held, and the offset says what is missing."""
    terminal, _ = a_terminal(grace_s=0.01)
    viewer = terminal.attach(None, None)
    write(terminal, b"a" * SCROLLBACK)
    while not isinstance(news := await told(viewer), Detached):
        pass

    assert "0.01 s" in news.reason
    assert terminal.room() > 0
    write(terminal, b"b" * 100)
    assert terminal.scrollback.base == 100
    back = terminal.attach(0, None)
    news = await told(back)
    assert isinstance(news, Output)
    assert news.offset == 100
    terminal.close()


async def test_progress_starts_the_grace_anew() -> None:
    """A slow viewer that acknowledges keeps everything."""
    terminal, _ = a_terminal(grace_s=60)
    viewer = terminal.attach(None, None)
    write(terminal, b"x" * SCROLLBACK)
    await told(viewer)
    for step in range(1, 6):
        begun = terminal._grace
        terminal.ack(viewer, step * 100)
        write(terminal, b"y" * 100)

        assert begun is not None
        assert begun.cancelled()
        assert terminal._grace not in (None, begun)
    assert viewer.detached is None
    assert terminal.scrollback.base == 500
    terminal.close()


async def test_the_newest_viewer_has_the_session() -> None:
    """The one before is told, and its words no longer count."""
    terminal, stream = a_terminal()
    first = terminal.attach(None, None)
    second = terminal.attach(None, None)
    write(terminal, b"x")

    assert isinstance(await told(first), Detached)
    assert await told(second) == Output(0, b"x")
    with pytest.raises(FailedPrecondition):
        terminal.write(first, None, b"typed")
    assert stream.written == b""


async def test_keystrokes_are_typed_once_and_in_order() -> None:
    """A repeat is trimmed by its offset; a gap is refused with the offset to go on from."""
    terminal, stream = a_terminal()
    viewer = terminal.attach(None, None)
    terminal.write(viewer, 0, b"abc")
    terminal.write(viewer, 0, b"abc")
    terminal.write(viewer, 1, b"bcde")
    terminal.write(viewer, None, b"f")
    with pytest.raises(InvalidArgument) as error:
        terminal.write(viewer, 9, b"z")

    assert stream.written == b"abcdef"
    assert error.value.details == {"inputOffset": 6}
    assert await told(viewer) == InputAck(6)
    terminal.close()


async def test_input_for_a_program_that_does_not_read_is_bounded() -> None:
    """Beyond the bound nothing of the message is taken."""
    terminal, stream = a_terminal()
    viewer = terminal.attach(None, None)
    stream.unwritten_bytes = MAX_PENDING_INPUT_BYTES - 2
    with pytest.raises(ResourceExhausted) as error:
        terminal.write(viewer, None, b"abc")

    assert error.value.details == {"inputOffset": 0}
    terminal.write(viewer, None, b"ab")
    assert stream.written == b"ab"
    terminal.close()


async def test_the_exit_comes_after_the_last_output() -> None:
    """With the exit code and the length of the whole output."""
    terminal, _ = a_terminal()
    viewer = terminal.attach(None, None)
    write(terminal, b"bye")
    terminal.finish(7)

    assert await told(viewer) == Output(0, b"bye")
    assert await told(viewer) == Exited(7, 3)


async def test_output_after_a_close_is_read_and_not_told() -> None:
    """However much there is of it; then the exit."""
    terminal, _ = a_terminal()
    viewer = terminal.attach(None, None)
    terminal.end()
    write(terminal, b"x" * (SCROLLBACK + 1))

    assert await pending(viewer)
    assert terminal.room() > 0
    terminal.finish(137)
    assert await told(viewer) == Exited(137, 0), "as far as it was told"


async def test_acknowledging_what_was_not_sent_is_refused() -> None:
    """A viewer cannot open its window beyond what it was given."""
    terminal, _ = a_terminal()
    viewer = terminal.attach(None, None)
    write(terminal, b"abc")
    with pytest.raises(InvalidArgument):
        terminal.ack(viewer, 3)
    await told(viewer)
    terminal.ack(viewer, 3)
    assert terminal.acked == 3
