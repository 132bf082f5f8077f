"""A display's RFB connection seen from Python, in the console's own process: for checks and tests."""

import asyncio
from types import TracebackType
from typing import Self

from console.displays import Display
from console.requests import Requests
from console.workers import WorkerLink


class DisplayClient:
    """One viewer of one display. ``async with DisplayClient(link, devbox_id) as display`` opens and closes it.

    `read` acknowledges what it takes, unless ``auto_ack`` is off.
    """

    def __init__(
        self,
        link: WorkerLink,
        devbox_id: str,
        *,
        width: int | None = None,
        height: int | None = None,
        auto_ack: bool = True,
        **options: object,
    ) -> None:
        self.session_id = f"v-{Requests.new_id()[2:]}"
        self.reason: str | None = None
        self.position = 0  # of the next byte that `read` returns
        self._link = link
        self._auto_ack = auto_ack
        size = {key: value for key, value in (("width", width), ("height", height)) if value is not None}
        self._open = {"devboxId": devbox_id, **size, **options}
        self._held = bytearray()
        self._display: Display | None = None
        self._changed = asyncio.Event()

    async def open(self, timeout_s: float = 60) -> Self:
        """Open the viewer; raises `Refusal`."""
        await self._link.open_display({"sessionId": self.session_id, **self._open}, self, timeout_s=timeout_s)
        return self

    @property
    def held_bytes(self) -> int:
        """Bytes that came and were not read."""
        return len(self._held)

    async def read(self, size: int, timeout_s: float = 60) -> bytes:
        """Return exactly so many bytes; raises `EOFError` with the reason once it is over, `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while len(self._held) < size:
                if self.reason is not None:
                    raise EOFError(self.reason)
                if self._auto_ack:  # what is needed may be more than a window
                    self.ack(self.position + len(self._held))
                self._changed.clear()
                await self._changed.wait()
        data = bytes(self._held[:size])
        del self._held[:size]
        self.position += size
        if self._auto_ack:
            self.ack(self.position)
        return data

    async def wait_held(self, size: int, timeout_s: float = 60) -> None:
        """Return once so many bytes are there, acknowledging none; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while len(self._held) < size:
                self._changed.clear()
                await self._changed.wait()

    async def wait_closed(self, timeout_s: float = 60) -> str:
        """Return the reason once it is over; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while self.reason is None:
                self._changed.clear()
                await self._changed.wait()
        return self.reason

    def write(self, data: bytes) -> None:
        """Send RFB bytes; nothing happens once it is over."""
        if self._display is not None:
            self._link.send_display(self._display, data)

    def ack(self, offset: int) -> None:
        """Acknowledge bytes below this offset."""
        if self._display is not None:
            self._link.ack_display(self._display, offset)

    def close(self) -> None:
        """End the viewer; safe to call twice."""
        if self._display is not None:
            self._link.close_display(self._display)
            self._display = None

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- `console.displays.DisplayViewer`, called by the link -------------------------------------------------------

    def opened(self, display: Display) -> None:
        """Take the answer to ``display.open``."""
        self._display = display

    def received(self, display: Display, offset: int, data: bytes) -> None:  # noqa: ARG002 - nothing is ever missing
        """Take RFB bytes."""
        self._held += data
        self._changed.set()

    def closed(self, display: Display, reason: str) -> None:  # noqa: ARG002
        """Note the end."""
        self._display = None
        self.reason = reason
        self._changed.set()
