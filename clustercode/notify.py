"""Tells systemd how a service is (sd_notify(3)): that it is ready, and again and again that its loop still turns.

Where nobody asked for it, nothing is told. Our own, because it is one datagram, and no library of the field is both
alive and free of a C library.
"""

import asyncio
import os
import socket
from contextlib import suppress


class ServiceManager:
    """Whoever started this process and wants to hear of it; takes the request out of the environment."""

    def __init__(self) -> None:
        # Not for our children: a container that notified systemd would speak for us.
        address = os.environ.pop("NOTIFY_SOCKET", "")
        watchdog_us = os.environ.pop("WATCHDOG_USEC", "")
        watchdog_pid = os.environ.pop("WATCHDOG_PID", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        mine = watchdog_us.isdecimal() and watchdog_pid in ("", str(os.getpid()))
        self._watchdog_s = int(watchdog_us) / 1_000_000 if mine else None

    def ready(self) -> None:
        """Say that the start is over. Safe to repeat."""
        self._tell("READY=1")

    def watch(self) -> None:
        """Say at half of the watchdog's interval that the event loop turns; call once, in the loop."""
        if self._watchdog_s is not None:
            self._tell("WATCHDOG=1")
            asyncio.get_running_loop().call_later(self._watchdog_s / 2, self.watch)

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        # A manager that is gone needs to know nothing.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
            told.setblocking(False)
            told.sendto(state.encode(), self._address)
