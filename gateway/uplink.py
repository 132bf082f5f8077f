"""The way up for what outlives a connection: answers of commands that may take longer than one connection lasts."""

import logging

from websockets.exceptions import ConnectionClosed

from gateway.connection import Connection
from gateway.outbox import Outbox

log = logging.getLogger(__name__)


class Uplink:
    """Sends through the present connection; without one, answers wait in the outbox and progress is dropped."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._connection: Connection | None = None

    async def open(self, connection: Connection) -> None:
        """Use a connection from now on, and send what waits for one; raises `ConnectionClosed`."""
        self._connection = connection
        if self._outbox:
            log.info("Sending %d answers that waited for a connection", len(self._outbox))
        for _, frame in self._outbox.drain():
            await connection.send(frame)

    @property
    def waiting(self) -> tuple[int, int]:
        """How many answers wait for a connection, and their bytes."""
        return len(self._outbox), self._outbox.size_bytes

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    def close(self) -> None:
        """Keep answers from now on; safe to call twice."""
        self._connection = None

    async def deliver(self, what: str, frame: bytes) -> None:
        """Send a frame now or on the next connection; ``what`` names it in the log."""
        connection = self._connection
        if connection is not None:
            try:
                await connection.send(frame)
            except ConnectionClosed:
                log.info("The connection closed before the %s went out; it waits for the next one", what)
            else:
                return
        self._outbox.put(what, frame)

    async def tell(self, frame: bytes) -> None:
        """Send a frame that is worth nothing later."""
        await self._each(frame, wait=False)

    async def tell_and_wait(self, frame: bytes) -> None:
        """Send a frame that is worth nothing later, and wait until all so far is read on the other side."""
        await self._each(frame, wait=True)

    async def _each(self, frame: bytes, *, wait: bool) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            await connection.send_bulk(frame)
            if wait:
                await connection.round_trip()
        except ConnectionClosed:
            pass  # The answer will tell the end of it.
