"""The byte stream of one exec, taken over ("hijacked") from the engine's HTTP API on its Unix socket.

The one place that speaks to the engine without aiodocker, because pausing the socket is what makes terminals fast:
after a large read the socket rests for `PACE_S`, the kernel gathers bytes meanwhile, and the next read is six times
as long (docs/performance.md). Small reads, keystrokes' echoes, never wait.

A stream with a TTY carries the terminal's bytes. Without one the engine multiplexes standard output and error in
frames of 8 bytes of header (https://docs.docker.com/reference/api/engine/ "Stream format"); `Demultiplexer` parts them.
"""

import asyncio
import json
from pathlib import Path
from typing import Protocol, cast

from protos.errors import FailedPrecondition, Unavailable

READ_BYTES = 256 * 1024
PACE_S = 0.001
_PACE_FROM_BYTES = 2048
_HEAD_LIMIT_BYTES = 16 * 1024
_START_TIMEOUT_S = 30.0

_read_buffer = memoryview(bytearray(READ_BYTES))
"""Shared by all streams: the loop fills it and hands it over in one step, so no two streams meet in it."""


class ExecOutput(Protocol):
    """Who receives a stream's bytes. Called by the event loop: must not block, must not raise."""

    def room(self) -> int:
        """Return how many bytes may come; at 0 the stream pauses until `ExecStream.check_room`."""

    def output(self, data: memoryview) -> None:
        """Take bytes; the view is valid during the call only."""

    def input_taken(self) -> None:
        """Note that the engine's socket has taken all input written so far."""

    def ended(self) -> None:
        """Note that no more bytes will come; called exactly once."""


class ExecStream(asyncio.BufferedProtocol):
    """One hijacked connection. States: head (HTTP answer not read yet), open, ended."""

    def __init__(self, receiver: ExecOutput) -> None:
        self._receiver = receiver
        self._transport: asyncio.Transport | None = None
        self._head: bytearray | None = bytearray()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Two reasons to pause, each with its own flag: mixing them up leaves a stream paused for ever.
        self._pacing: asyncio.TimerHandle | None = None
        self._full = False
        self._ended = False
        self._unwritten = bytearray()  # behind what the transport has
        self._eof = False  # to be sent behind it

    @property
    def unwritten_bytes(self) -> int:
        """Input accepted by `write` that the engine's socket has not taken yet."""
        if self._transport is None or self._ended:
            return 0
        return self._transport.get_write_buffer_size() + len(self._unwritten)

    def write(self, data: bytes) -> None:
        """Send input. Never blocks: whoever calls bounds `unwritten_bytes`."""
        if self._transport is None or self._ended:
            return
        if self.unwritten_bytes:
            self._unwritten += data  # in one piece: the transport would keep each, at fifty bytes for a single key
        else:
            self._transport.write(data)

    def write_eof(self) -> None:
        """End the input; output goes on."""
        if self._transport is None or self._ended:
            return
        if self._unwritten:
            self._eof = True
        else:
            self._transport.write_eof()

    def check_room(self) -> None:
        """Look again at the receiver's room: read on if there is some, pause if there is none."""
        full = self._receiver.room() <= 0
        if full == self._full:
            return
        self._full = full
        if full:
            self._pause()
        else:
            self._read_if_allowed()

    def close(self) -> None:
        """Let go of the connection. The process in the box goes on: the engine knows no other way. Safe to repeat."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.BufferedProtocol ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        # uvloop's transports do not inherit asyncio's class, so no isinstance here.
        transport = cast("asyncio.Transport", transport)
        # resume_writing is called when the buffer is empty: then all input has reached the engine's socket.
        transport.set_write_buffer_limits(high=0)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002, D102
        if self._head is not None:
            return _read_buffer[:_HEAD_LIMIT_BYTES]
        return _read_buffer[: max(1, min(READ_BYTES, self._receiver.room()))]

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102
        data = _read_buffer[:nbytes]
        if self._head is not None:
            rest = self._read_head(data)
            if not rest:
                return
            data = memoryview(rest)
        self._receiver.output(data)
        self.check_room()
        if not self._full and len(data) >= _PACE_FROM_BYTES:
            self._pause()
            self._pacing = asyncio.get_running_loop().call_later(PACE_S, self._paced)

    def eof_received(self) -> bool:  # noqa: D102
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._ended = True
        if self._pacing is not None:
            self._pacing.cancel()
        if not self._started.done():
            self._started.set_exception(Unavailable(f"The engine closed the connection of an exec ({exc or 'EOF'})."))
            self._started.exception()  # seen: where the start was given up, nobody waits for it
        self._receiver.ended()

    def pause_writing(self) -> None:  # noqa: D102
        pass

    def resume_writing(self) -> None:  # noqa: D102
        if self._unwritten and self._transport is not None:
            data, self._unwritten = self._unwritten, bytearray()
            self._transport.write(data)
            if self._eof:
                self._transport.write_eof()
        if not self.unwritten_bytes:
            self._receiver.input_taken()

    # --- ours -----------------------------------------------------------------------------------------------

    async def started(self) -> None:
        """Wait for the engine's answer; raises what `start_exec` says."""
        await self._started

    def _read_head(self, data: memoryview) -> bytes | None:
        """Gather the HTTP answer; return the first bytes of the stream once it is complete."""
        assert self._head is not None  # noqa: S101 - the caller looked
        self._head += data
        head, separator, rest = bytes(self._head).partition(b"\r\n\r\n")
        if not separator:
            if len(self._head) > _HEAD_LIMIT_BYTES:
                self._refuse("its answer has no end")
            return None
        status_line = head.split(b"\r\n", 1)[0]
        status = status_line.split(b" ")
        # 101 from Podman and recent Docker, 200 from older Docker.
        if len(status) < 2 or status[1] not in (b"101", b"200"):
            self._refuse(_reason(rest) or status_line.decode(errors="replace"))
            return None
        self._head = None
        self._started.set_result(None)
        return rest

    def _refuse(self, why: str) -> None:
        if not self._started.done():
            self._started.set_exception(FailedPrecondition(f"The engine does not start this: {why}"))
        self.close()

    def _paced(self) -> None:
        self._pacing = None
        self._read_if_allowed()

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _read_if_allowed(self) -> None:
        if self._full or self._pacing is not None or self._transport is None or self._transport.is_closing():
            return
        self._transport.resume_reading()


def _reason(body: bytes) -> str:
    """Return what the engine says in the body of a refusal; empty where that cannot be read."""
    try:
        return str(json.loads(body.strip())["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return ""


async def start_exec(
    socket: Path, exec_id: str, receiver: ExecOutput, *, tty: bool, size: tuple[int, int] | None = None
) -> ExecStream:
    """Start an exec that was created through the API and take its stream over.

    ``size`` is (columns, rows). Raises `FailedPrecondition` when the engine refuses (no such user, box stopped),
    `Unavailable` when it is away or takes too long.
    """
    body: dict[str, object] = {"Detach": False, "Tty": tty}
    if size is not None:
        columns, rows = size
        # Podman reads h and w, Docker (API 1.42 and later) ConsoleSize; each ignores the other's.
        body |= {"h": rows, "w": columns, "ConsoleSize": [rows, columns]}
    payload = json.dumps(body).encode()
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            _, stream = await asyncio.get_running_loop().create_unix_connection(
                lambda: ExecStream(receiver), str(socket)
            )
            try:
                stream.write(
                    b"POST /v1.41/exec/%b/start HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
                    b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %d\r\n\r\n%b"
                    % (exec_id.encode(), len(payload), payload)
                )
                await stream.started()
            except BaseException:
                stream.close()
                raise
    except TimeoutError:
        raise Unavailable(f"The engine did not start an exec within {_START_TIMEOUT_S:.0f} s.") from None
    except OSError as error:
        raise Unavailable(f"The engine's socket {socket} does not answer: {error}.") from None
    return stream


class Demultiplexer:
    """Parts the multiplexed stream of an exec without TTY; holds at most an incomplete header, never data."""

    STDOUT, STDERR = 1, 2
    _HEADER_BYTES = 8

    def __init__(self) -> None:
        self._header = bytearray()
        self._kind = self.STDOUT
        self._left = 0

    def feed(self, data: memoryview) -> list[tuple[int, bytes]]:
        """Return the (stream, bytes) pieces in ``data``."""
        pieces = []
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                pieces.append((self._kind, bytes(piece)))
                continue
            missing = self._HEADER_BYTES - len(self._header)
            self._header += data[:missing]
            data = data[missing:]
            if len(self._header) == self._HEADER_BYTES:
                self._kind = self._header[0]
                self._left = int.from_bytes(self._header[4:], "big")
                self._header.clear()
        return pieces
