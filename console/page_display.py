"""One display as one page sees it: gives its bytes a channel of the page's connection and passes on its end."""

from collections.abc import Callable
from typing import Any

from console.displays import Display
from console.outbox import Outbox
from console.page_terminal import Push
from console.workers import WorkerLink
from protos import frames


class PageDisplay:
    """A `DisplayViewer` for one page; lives until it is closed or the page's connection ends."""

    def __init__(
        self,
        link: WorkerLink,
        session_id: str,
        *,
        channel: int,
        outbox: Outbox,
        push: Push,
        on_closed: Callable[[], None],
    ) -> None:
        self.channel = channel
        self._link = link
        self._session_id = session_id
        self._outbox = outbox
        self._push = push
        self._on_closed = on_closed
        self._display: Display | None = None
        self._request_id = ""

    async def open(self, request_id: str, payload: dict[str, Any]) -> None:
        """Open the viewer; `opened` answers, ahead of any bytes. Raises `Refusal`."""
        self._request_id = request_id
        await self._link.open_display(payload, self)

    def type(self, offset: int, data: bytes) -> None:  # noqa: ARG002 - the page's connection loses nothing
        """Pass RFB bytes on."""
        if self._display is not None:
            self._link.send_display(self._display, data)

    def ack(self, offset: object) -> None:
        """Pass an acknowledgement on."""
        if self._display is not None and isinstance(offset, int):
            self._link.ack_display(self._display, offset)

    def leave(self) -> None:
        """End the viewer; safe to call twice."""
        if self._display is not None:
            self._link.close_display(self._display)
            self._display = None

    # --- `console.displays.DisplayViewer` ---------------------------------------------------------------------------

    def opened(self, display: Display) -> None:
        """Answer the page's ``display.open`` with the page's channel."""
        self._display = display
        payload = {"sessionId": self._session_id, "channel": self.channel}
        self._push({"type": "response", "id": self._request_id, "ok": True, "payload": payload})

    def received(self, display: Display, offset: int, data: bytes) -> None:  # noqa: ARG002 - it has one display
        """Pass RFB bytes on."""
        self._outbox.put_binary(frames.encode_header(frames.FrameKind.DISPLAY, self.channel, offset) + data)

    def closed(self, display: Display, reason: str) -> None:  # noqa: ARG002
        """Pass on that it is over."""
        self._display = None
        message = {"worker": self._link.id, "sessionId": self._session_id, "reason": reason}
        self._push({"type": "display.closed", **message})
        self._on_closed()
