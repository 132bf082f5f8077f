"""An HTTP proxy that knows ``CONNECT`` alone, and looks names up in a table of its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"


class ConnectProxy:
    """Notes what is asked for. Answers 502 for a name that it does not know."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.port = 0
        self.asked: list[str] = []
        self._names = names

    @property
    def url(self) -> str:
        """What goes into HTTPS_PROXY."""
        return f"http://{HOST}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split()[1].decode()
            self.asked.append(target)
            host, _, port = target.rpartition(":")
            if not head.startswith(b"CONNECT ") or host not in self._names:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            far_reader, far_writer = await asyncio.open_connection(self._names[host], int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_carry(reader, far_writer), name="up")
                    tasks.create_task(_carry(far_reader, writer), name="down")
            finally:
                far_writer.close()
        finally:
            writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def connect_proxy(names: Mapping[str, str]) -> AsyncIterator[ConnectProxy]:
    """Relay to the addresses of these names while the context is open."""
    proxy = ConnectProxy(names)
    async with await asyncio.start_server(proxy._serve, HOST, 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
