"""One terminal session: an exec's PTY, its scrollback, and at most one viewer at a time.

Output is addressed by absolute byte offset. Three rules make it lossless within the grace, and bounded always:

* ``acked`` is the offset up to which the viewer has everything. It starts at the offset the viewer came with.
* A viewer is sent at most ``window`` bytes beyond ``acked``.
* The PTY is read only while the scrollback has room for what is not acked; then the program waits. After ``grace_s``
  without progress the viewer, if there is one, is detached, and from then on the oldest output is dropped, so that
  nobody's lost laptop stops a build. The next viewer or acknowledgement ends the dropping.

No queue of its own for input: the engine's socket takes it, and what that has not taken is counted and bounded.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from executor.config import TerminalLimits
from executor.exec_stream import READ_BYTES, ExecStream
from executor.scrollback import Scrollback
from protos.errors import ErrorCode, FailedPrecondition, InvalidArgument, Refusal, ResourceExhausted
from protos.limits import MAX_CHUNK_BYTES, MAX_PENDING_INPUT_BYTES

_INPUT_ACK_DELAY_S = 0.05
"""Acknowledgements of keystrokes wait this long for company: they are off the echo's path."""


@dataclass(frozen=True)
class Output:
    """Bytes for the viewer."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class InputAck:
    """Input below ``offset`` was written to the engine's socket."""

    offset: int


@dataclass(frozen=True)
class Exited:
    """The program ended; last."""

    exit_code: int
    offset: int


@dataclass(frozen=True)
class Detached:
    """The viewer is no longer this session's; last."""

    reason: str


@dataclass(frozen=True)
class Refused:
    """Something the viewer asked for was not done; the session goes on."""

    code: ErrorCode
    message: str
    input_offset: int


News = Output | InputAck | Refused | Exited | Detached
"""What a viewer is told."""

_MAX_REFUSALS = 16
"""Of those that wait to be told; a viewer that sends nonsense without reading loses the oldest."""


_CRUMB_WAIT_S = 0.02
"""How long a viewer with little credit left waits for an acknowledgement before it is sent that little all the same.
Half windows of whole chunks cost a fifth less CPU than crumbs (docs/performance.md)."""


class Viewer:
    """One attachment to a terminal. ``on_news`` is called when `news` may have something to tell."""

    def __init__(self, terminal: "Terminal", offset: int, window_bytes: int) -> None:
        self.terminal = terminal
        self.sent = offset
        self.window_bytes = window_bytes
        self.on_news: Callable[[], None] = lambda: None
        self.resumed = False  # the session was there before
        self.told_end = False
        self.detached: str | None = None
        self.input_acked = terminal.written_input_offset
        self.input_ack_due = False
        self._refusals: deque[Refused] = deque(maxlen=_MAX_REFUSALS)
        self._is_over = False
        # More waits than the credit left, and that is less than a chunk: see `_CRUMB_WAIT_S`.
        self._crumb_due: asyncio.TimerHandle | None = None
        self._takes_crumb = False

    def refuse(self, refusal: Refusal) -> None:
        """Have the viewer told that something was not done."""
        # Not the exception: with it would wait, in its frames, the whole message that was refused.
        self._refusals.append(Refused(refusal.code, refusal.message, self.terminal.input_offset))
        self.on_news()

    def news(self) -> News | None:
        """Return what the viewer is to be told next, if there is anything; nothing after what is last."""
        if self._is_over:
            return None
        if self.detached is not None:
            self._is_over = True
            return Detached(self.detached)
        if self._refusals:
            return self._refusals.popleft()
        return self._input_ack() or self._exit() or self._output()

    def _input_ack(self) -> InputAck | None:
        terminal = self.terminal
        if not self.input_ack_due and terminal.exit_code is None:
            return None
        self.input_ack_due = False
        if terminal.written_input_offset <= self.input_acked:
            return None
        self.input_acked = terminal.written_input_offset
        return InputAck(self.input_acked)

    def _exit(self) -> Exited | None:
        terminal = self.terminal
        if terminal.exit_code is None or not (terminal.is_closed or self.sent == terminal.scrollback.end):
            return None
        self._is_over = self.told_end = True
        return Exited(terminal.exit_code, self.sent)

    def _output(self) -> Output | None:
        scrollback = self.terminal.scrollback
        if self.terminal.is_closed:
            return None
        self.sent = max(self.sent, scrollback.base)  # dropped meanwhile: the jump in offsets says so
        data = scrollback.read(self.sent, self._sendable(scrollback.end - self.sent))
        if not data:
            return None
        offset, self.sent = self.sent, self.sent + len(data)
        return Output(offset, data)

    def _sendable(self, waiting: int) -> int:
        """Return how much of the output that waits goes out now."""
        credit = self.window_bytes - (self.sent - self.terminal.acked)
        if 0 < credit < min(MAX_CHUNK_BYTES, self.window_bytes // 2, waiting) and not self._takes_crumb:
            if self._crumb_due is None:
                self._crumb_due = asyncio.get_running_loop().call_later(_CRUMB_WAIT_S, self._take_crumb)
            return 0
        self._takes_crumb = False
        if self._crumb_due is not None:
            self._crumb_due.cancel()
            self._crumb_due = None
        return max(0, min(MAX_CHUNK_BYTES, credit))

    def _take_crumb(self) -> None:
        self._crumb_due = None
        self._takes_crumb = True
        self.on_news()


class Terminal:
    """A session's state between its PTY and its viewer. Receives the PTY's bytes as `ExecOutput`. Never blocks."""

    def __init__(self, *, session_id: str, tenant: str, devbox_id: str, limits: TerminalLimits) -> None:
        self.session_id = session_id
        self.tenant = tenant
        self.devbox_id = devbox_id
        self.scrollback = Scrollback(limits.scrollback_bytes)
        self.acked = 0
        self.input_offset = 0
        self.written_input_offset = 0  # what the engine's socket has taken of it
        self.exit_code: int | None = None
        self.is_closed = False  # ended on request: nobody waits for the rest of its output
        self.ended_event = asyncio.Event()
        self.viewer: Viewer | None = None
        self.was_attached = False
        self._limits = limits
        self._stream: ExecStream | None = None
        self._dropping = False
        self._grace: asyncio.TimerHandle | None = None
        self._input_ack: asyncio.TimerHandle | None = None

    def connect(self, stream: ExecStream) -> None:
        """Take the PTY's stream, once, after it was started."""
        self._stream = stream

    # --- the PTY's side: ExecOutput -------------------------------------------------------------------------

    def room(self) -> int:
        """Return how much output may be read now."""
        if self._dropping or self.is_closed:
            return READ_BYTES
        return self.scrollback.capacity - (self.scrollback.end - self.acked)

    def output(self, data: memoryview) -> None:
        """Take output of the program."""
        self.scrollback.append(data)
        self.acked = max(self.acked, self.scrollback.base)
        self._watch_room()
        if self.viewer is not None:
            self.viewer.on_news()

    def input_taken(self) -> None:
        """Note that the engine's socket has taken all input."""
        self._note_written()
        self._schedule_input_ack()

    def ended(self) -> None:
        """Note that the PTY's stream is over."""
        self.ended_event.set()

    # --- the viewer's side ----------------------------------------------------------------------------------

    def attach(self, from_offset: int | None, window_bytes: int | None) -> Viewer:
        """Give the session to a viewer, from an offset or from the oldest byte held. One that had it is detached."""
        base, end = self.scrollback.base, self.scrollback.end
        offset = base if from_offset is None else from_offset
        if offset > end:
            raise InvalidArgument(f"fromOffset {offset} is beyond the {end} bytes this session has written so far.")
        self.detach("Another viewer has taken this session over.")
        offset = max(offset, base)
        self.acked = offset
        self.was_attached = True
        self.viewer = Viewer(self, offset, window_bytes or self._limits.window_bytes)
        self._progress()
        return self.viewer

    def detach(self, reason: str) -> None:
        """Take the session from its viewer, if it has one; the viewer is told why."""
        if self.viewer is not None:
            self.viewer.detached = reason
            self.viewer.on_news()
            self.viewer = None

    def ack(self, viewer: Viewer, offset: int) -> None:
        """Note that the viewer has all output below the offset."""
        if offset > viewer.sent:
            raise InvalidArgument(f"Acknowledged {offset} bytes of a session that has sent {viewer.sent}.")
        if viewer is self.viewer and offset > self.acked:
            self.acked = offset
            self._progress()

    def write(self, viewer: Viewer, offset: int | None, data: bytes) -> None:
        """Send keystrokes to the program. With an offset, bytes that were taken before are not typed twice.

        Raises `ResourceExhausted` when too much waits for a program that does not read, `InvalidArgument` for a gap;
        then nothing was taken.
        """
        if viewer is not self.viewer or self._stream is None or self.ended_event.is_set():
            raise FailedPrecondition("The session takes no input any more.", inputOffset=self.input_offset)
        start = self.input_offset if offset is None else offset
        if start > self.input_offset:
            raise InvalidArgument(
                f"Input begins at {start}, but {self.input_offset} bytes were taken so far: send those between first.",
                inputOffset=self.input_offset,
            )
        data = data[self.input_offset - start :]
        if len(data) + self._stream.unwritten_bytes > MAX_PENDING_INPUT_BYTES:
            raise ResourceExhausted(
                "The program does not read its input, and too much of it waits: send it again later.",
                inputOffset=self.input_offset,
            )
        self._stream.write(data)
        self.input_offset += len(data)
        self._note_written()
        self._schedule_input_ack()

    # --- ours -----------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Note that the end was asked for: the rest of the output is read, so that the end is seen, and not told."""
        self.is_closed = True
        if self._stream is not None:
            self._stream.check_room()

    def finish(self, exit_code: int) -> None:
        """Note how the program ended; the viewer is told after the last output."""
        self.exit_code = exit_code
        self._cancel_timers()
        if self.viewer is not None:
            self.viewer.on_news()

    def close(self) -> None:
        """Let go of the PTY's stream. Safe to repeat."""
        self._cancel_timers()
        if self._stream is not None:
            self._stream.close()

    def _progress(self) -> None:
        """The viewer came on: there is room again, or its clock starts anew."""
        self._dropping = False
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self._watch_room()
        if self._stream is not None:
            self._stream.check_room()
        if self.viewer is not None:
            self.viewer.on_news()

    def _watch_room(self) -> None:
        if self._grace is None and not self._dropping and self.room() <= 0 and self.exit_code is None:
            self._grace = asyncio.get_running_loop().call_later(self._limits.grace_s, self._grace_over)

    def _grace_over(self) -> None:
        self._grace = None
        self._dropping = True
        self.detach(f"No output was taken for {self._limits.grace_s:g} s.")
        if self._stream is not None:
            self._stream.check_room()

    def _note_written(self) -> None:
        # Looked at while the stream is there: once it is gone nobody knows what became of the rest.
        if self._stream is not None and not self.ended_event.is_set():
            self.written_input_offset = self.input_offset - self._stream.unwritten_bytes

    def _schedule_input_ack(self) -> None:
        if self._input_ack is None:
            self._input_ack = asyncio.get_running_loop().call_later(_INPUT_ACK_DELAY_S, self._acknowledge_input)

    def _acknowledge_input(self) -> None:
        self._input_ack = None
        self._note_written()
        if self.viewer is not None:
            self.viewer.input_ack_due = True
            self.viewer.on_news()

    def _cancel_timers(self) -> None:
        for timer in (self._grace, self._input_ack):
            if timer is not None:
                timer.cancel()
        self._grace = self._input_ack = None
