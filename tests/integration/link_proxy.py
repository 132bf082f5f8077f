"""A TCP relay between gateway and orchestrator whose link can be cut, stalled and slowed."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"
_PIECE_BYTES = 16 * 1024
_KERNEL_BYTES = 256 * 1024
"""What the relay's kernel takes in advance; left alone it would be several megabytes."""


class LinkProxy:
    """Carries bytes both ways between whoever connects to `port` and ``target_port``.

    Knows nothing of WebSockets, so a cut falls where it falls: in the middle of a frame, of a header, of a handshake.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.connections = 0
        self.up_bytes = 0  # from the gateway
        self.down_bytes = 0  # from the orchestrator
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = {True: asyncio.Event(), False: asyncio.Event()}  # up, down
        self.flow()
        self._refusing = False
        self._bytes_per_s: float | None = None
        self._changed = asyncio.Condition()

    @property
    def worker_url(self) -> str:
        """Where a gateway finds the orchestrator through this."""
        return f"ws://{HOST}:{self.port}/ws/worker"

    def cut(self) -> None:
        """Drop every connection now, with whatever is on its way."""
        for writer in self._writers:
            writer.transport.abort()

    def refuse(self) -> None:
        """Cut, and drop every new connection until `accept`."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        """Carry new connections again."""
        self._refusing = False

    def stall(self) -> None:
        """Carry nothing, and keep the connections, until `flow`: what a dead network looks like."""
        self._flowing[True].clear()
        self._flowing[False].clear()

    def stall_up(self) -> None:
        """Carry nothing that comes from the gateway, until `flow`."""
        self._flowing[True].clear()

    def flow(self) -> None:
        """Carry on."""
        for flowing in self._flowing.values():
            flowing.set()

    def slow(self, bytes_per_s: float | None) -> None:
        """Carry at most so much in each direction; None: as fast as it goes."""
        self._bytes_per_s = bytes_per_s

    async def carried_up(self, count: int, timeout_s: float = 60) -> None:
        """Wait until so many bytes in all came from the gateway."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: self.up_bytes >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._carry(reader, far_writer, up=True), name="up")
                tasks.create_task(self._carry(far_reader, writer, up=False), name="down")
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        # The console serves only whoever calls it by its own address.
        names = (b"Host: %b:%d\r\n" % (HOST.encode(), port) for port in (self.port, self._target_port))
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n") if up else b""
            writer.write(head.replace(*names))
            while data := await reader.read(_PIECE_BYTES):
                await self._flowing[up].wait()
                if self._bytes_per_s is not None:
                    await asyncio.sleep(len(data) / self._bytes_per_s)
                writer.write(data)
                await writer.drain()
                async with self._changed:
                    if up:
                        self.up_bytes += len(data)
                    else:
                        self.down_bytes += len(data)
                    self._changed.notify_all()
        writer.transport.abort()  # one direction's end is the connection's end


@asynccontextmanager
async def link_proxy(target_port: int) -> AsyncIterator[LinkProxy]:
    """Relay to a port of this machine while the context is open."""
    proxy = LinkProxy(target_port)
    listener = socket.create_server((HOST, 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)
    server = await asyncio.start_server(proxy._serve, sock=listener, limit=_PIECE_BYTES)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        async with server:
            yield proxy
            server.close()
            proxy.flow()
            proxy.cut()
    finally:
        proxy.cut()
