"""What waits to be written to one WebSocket, and the one task that writes it."""

import asyncio
from collections import deque
from collections.abc import Callable

from aiohttp import WSMsgType, web


class Outbox:
    """Frames for one WebSocket in the order they were put, bounded in bytes.

    Putting never waits, so whoever routes messages needs no task of its own. A peer that does not read until the
    bound is reached is cut off (`on_overflow`): it comes back and goes on by offset. Acknowledgement windows keep
    every peer that reads far below the bound.
    """

    def __init__(self, max_bytes: int, on_overflow: Callable[[], None]) -> None:
        self._max_bytes = max_bytes
        self._on_overflow = on_overflow
        self._frames: deque[tuple[WSMsgType, bytes]] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._open = True

    @property
    def waiting_bytes(self) -> int:
        """Bytes not yet handed to the socket."""
        return self._bytes

    def put_text(self, frame: bytes) -> None:
        """Queue a text frame; nothing happens once the outbox is closed."""
        self._put(WSMsgType.TEXT, frame)

    def put_binary(self, frame: bytes) -> None:
        """Queue a binary frame; nothing happens once the outbox is closed."""
        self._put(WSMsgType.BINARY, frame)

    def _put(self, kind: WSMsgType, frame: bytes) -> None:
        if not self._open:
            return
        if self._bytes + len(frame) > self._max_bytes:
            self.close()
            self._on_overflow()
            return
        self._frames.append((kind, frame))
        self._bytes += len(frame)
        self._filled.set()

    def close(self) -> None:
        """Forget what waits and take no more; safe to call twice."""
        self._open = False
        self._frames.clear()
        self._bytes = 0
        self._filled.set()

    async def write_to(self, ws: web.WebSocketResponse) -> None:
        """Write frames as they come, until closed or the connection is gone. The only writer of this socket."""
        try:
            while self._open:
                while self._frames:
                    kind, frame = self._frames.popleft()
                    self._bytes -= len(frame)
                    await ws.send_frame(frame, kind)
                self._filled.clear()
                await self._filled.wait()  # without deadline: there may be nothing to say for hours
        except ConnectionError:
            pass  # the reader sees the same and cleans up
        finally:
            self.close()
