"""A terminal seen from Python, in the console's own process: for checks, demonstrations and tests."""

import asyncio
from types import TracebackType
from typing import Any, Self

from console.input_buffer import InputBuffer
from console.requests import Requests
from console.sessions import Session
from console.workers import WorkerLink
from protos.errors import Refusal
from protos.wire import Error, TerminalOpenAnswer


class Terminal:
    """One viewer of one session. ``async with Terminal(link, devbox_id) as terminal`` opens it and ends it after.

    Output is addressed by absolute offset. `read` takes what came and acknowledges it, unless ``auto_ack`` is off;
    what is not read stays within the worker's window. After the worker reconnected, call `resume`.
    """

    def __init__(
        self,
        link: WorkerLink,
        devbox_id: str,
        *,
        session_id: str | None = None,
        cols: int = 80,
        rows: int = 24,
        from_offset: int | None = None,
        auto_ack: bool = True,
        **options: Any,  # noqa: ANN401 - further fields of terminal.open
    ) -> None:
        self.session_id = session_id or f"t-{Requests.new_id()[2:]}"
        self.position = 0  # of the next byte that `read` returns
        self.gaps: list[tuple[int, int]] = []  # where bytes were dropped: expected and found offset
        self.exit_code: int | None = None
        self.end_offset: int | None = None  # of the whole output, once the program ended
        self.is_taken = False
        self.refusals: list[Error] = []
        self.answer: TerminalOpenAnswer | None = None
        self.input = InputBuffer()
        self._link = link
        self._auto_ack = auto_ack
        self._from_offset = from_offset
        self._open = {"devboxId": devbox_id, "cols": cols, "rows": rows, **options}
        self._held = bytearray()
        self._session: Session | None = None
        self._changed = asyncio.Event()

    # --- For whoever uses the terminal ------------------------------------------------------------------------------

    async def open(self, timeout_s: float = 60) -> Self:
        """Open the session, or continue one; raises `Refusal`."""
        offset = {} if self._from_offset is None else {"fromOffset": self._from_offset}
        payload = {**self._open, "sessionId": self.session_id, **offset}
        await self._link.open_terminal(payload, self, timeout_s=timeout_s)
        return self

    async def resume(self, timeout_s: float = 60) -> None:
        """Continue after a cut, byte for byte in both directions, once the worker is connected again."""
        await self._link.wait_connected(timeout_s)
        self._from_offset = self.received
        await self.open(timeout_s)

    @property
    def received(self) -> int:
        """The offset of the next byte to come."""
        return self.position + len(self._held)

    async def read(self, timeout_s: float = 60) -> bytes:
        """Return the bytes that came since the last call, waiting for some; ``b""`` once the program ended.

        Raises `TimeoutError`.
        """
        async with asyncio.timeout(timeout_s):
            while not self._held:
                if self.is_finished:
                    return b""
                await self._change()
        data = bytes(self._held)
        self._held.clear()
        self.position += len(data)
        if self._auto_ack:
            self.ack(self.position)
        return data

    async def read_until(self, needle: bytes, timeout_s: float = 60) -> bytes:
        """Return the output up to where ``needle`` was seen and a little more; raises `TimeoutError`, `EOFError`."""
        data = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                while needle not in data:
                    piece = await self.read(timeout_s)
                    if not piece:
                        raise EOFError(f"the program ended before it wrote {needle!r}; last: {bytes(data[-200:])!r}")
                    data += piece
        except TimeoutError:
            raise TimeoutError(f"no {needle!r} within {timeout_s:g} s; last: {bytes(data[-200:])!r}") from None
        return bytes(data)

    async def write(self, data: bytes, timeout_s: float = 60) -> None:
        """Type; return when all is on its way, waiting while too much is not acknowledged. Raises `TimeoutError`.

        While the worker is away it returns at once: `resume` sends what was typed meanwhile.
        """
        self.input.type(data)
        end = self.input.end
        async with asyncio.timeout(timeout_s):
            self._send_input()
            while self.input.sent < end and self._link.connected and not self.is_finished:
                await self._change()

    async def written(self, timeout_s: float = 60) -> None:
        """Return once all that was typed reached the program; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while self.input.base < self.input.end:
                await self._change()

    def resize(self, cols: int, rows: int) -> None:
        """Tell the program a new size."""
        self._open |= {"cols": cols, "rows": rows}
        self._link.send("terminal.resize", {"sessionId": self.session_id, "cols": cols, "rows": rows})

    def ack(self, offset: int) -> None:
        """Acknowledge output below this offset."""
        if self._session is not None and self._session.viewer is self:
            self._link.send_ack(self._session, offset)

    @property
    def is_finished(self) -> bool:
        """Whether the program ended and all of its output is here."""
        return self.end_offset is not None and self.received >= self.end_offset

    async def wait_exit(self, timeout_s: float = 60) -> int:
        """Return the exit code once the program ended; output may still be there to be read."""
        async with asyncio.timeout(timeout_s):
            while self.exit_code is None:
                await self._change()
        return self.exit_code

    async def close(self, timeout_s: float = 60) -> None:
        """End the session; safe to call twice."""
        if self._session is not None and self.exit_code is None and not self.is_taken and self._link.connected:
            self._session = None
            await self._link.request("terminal.close", {"sessionId": self.session_id}, timeout_s=timeout_s)
            self._link.ended(self.session_id)

    def detach(self) -> None:
        """Look away; the session lives on."""
        self._session = None
        self._link.leave(self)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except (Refusal, TimeoutError):
            if error is None:
                raise

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()  # every caller has a deadline

    def _send_input(self) -> None:
        while self._session is not None and self._link.connected and (piece := self.input.next_piece()):
            self._link.send_input(self._session, *piece)

    # --- `console.sessions.Viewer`, called by the link --------------------------------------------------------------

    @property
    def viewer_id(self) -> str:
        """Name it to other viewers."""
        return "python"

    def attached(self, session: Session, answer: TerminalOpenAnswer) -> None:
        """Take the answer to ``terminal.open``."""
        self._session, self.answer, self.is_taken = session, answer, False
        offset = answer.offset
        if self._from_offset is not None and offset != self._from_offset:
            self.gaps.append((self._from_offset, offset))
        if offset != self.received:
            self._held.clear()
            self.position = offset
        self.input.resume(answer.input_offset)
        self._send_input()
        self._changed.set()

    def output(self, session: Session, offset: int, data: bytes) -> None:  # noqa: ARG002 - it has one session
        """Take output, trimming what is here already and noting what is missing."""
        if offset > self.received:
            self.gaps.append((self.received, offset))
            self._held.clear()
            self.position = offset
        self._held += data[self.received - offset :]
        self._changed.set()

    def input_acked(self, session: Session, offset: int) -> None:  # noqa: ARG002
        """Forget keystrokes that reached the program and send what waited for that."""
        self.input.acknowledged(offset)
        self._send_input()
        self._changed.set()

    def refused(self, session: Session, error: Error) -> None:  # noqa: ARG002
        """Note what was refused."""
        self.refusals.append(error)
        self._changed.set()

    def exited(self, session: Session, exit_code: int, offset: int) -> None:  # noqa: ARG002
        """Note the program's end."""
        self.exit_code, self.end_offset = exit_code, offset
        self._changed.set()

    def taken(self, session: Session) -> None:  # noqa: ARG002
        """Note that another viewer looks at it now."""
        self._session, self.is_taken = None, True
        self._changed.set()
