"""The viewers of displays that are open on one worker's connection. No I/O, no clock."""

from dataclasses import dataclass
from typing import Protocol


class DisplayViewer(Protocol):
    """Whoever looks at a display: a page, or `console.display_client`. Its methods never wait and never raise."""

    def opened(self, display: "Display") -> None:
        """Take the answer to ``display.open``; bytes follow."""

    def received(self, display: "Display", offset: int, data: bytes) -> None:
        """Take RFB bytes whose first has this offset."""

    def closed(self, display: "Display", reason: str) -> None:
        """Learn that the viewer is over; last."""


@dataclass(eq=False)
class Display:
    """A viewer's connection to a display. It ends with the worker's connection."""

    session_id: str
    viewer: DisplayViewer
    channel: int | None
    received_bytes: int = 0
    sent_bytes: int = 0


class Displays:
    """Open displays by id and by channel."""

    def __init__(self) -> None:
        self._by_id: dict[str, Display] = {}
        self._by_channel: dict[int, Display] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, display: Display) -> None:
        """Note that a display is open, and tell its viewer."""
        self._by_id[display.session_id] = display
        if display.channel is not None:
            self._by_channel[display.channel] = display
        display.viewer.opened(display)

    def received(self, *, data: bytes, session_id: str = "", channel: int = 0) -> None:
        """Pass bytes on to the viewer they are for; those of a viewer that has left are dropped."""
        display = self._by_channel.get(channel) if channel else self._by_id.get(session_id)
        if display is None:
            return
        offset = display.received_bytes
        display.received_bytes += len(data)
        display.viewer.received(display, offset, data)

    def drop(self, display: Display) -> bool:
        """Forget a display whose viewer has left; tell whether it was open."""
        if self._by_id.get(display.session_id) is not display:
            return False
        del self._by_id[display.session_id]
        if display.channel is not None:
            self._by_channel.pop(display.channel, None)
        return True

    def closed(self, session_id: str, reason: str) -> None:
        """Tell a viewer that it is over; one that has left or was told before hears nothing."""
        display = self._by_id.get(session_id)
        if display is not None and self.drop(display):
            display.viewer.closed(display, reason)

    def connection_lost(self) -> None:
        """Tell all viewers that they are over."""
        for session_id in list(self._by_id):
            self.closed(session_id, "The worker lost its connection.")
