"""A thin line between worker and orchestrator: a proxy that carries the worker's bytes at a fixed rate, no more."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

BUFFER_BYTES = 64 * 1024
"""What the kernel may hold of the worker's bytes before the proxy: a little, as on a real line."""
_PIECE_BYTES = 8 * 1024
_SLACK_S = 0.02
"""A sleep that lasts longer than asked is made up for, as far as this."""


@asynccontextmanager
async def slow_link(target_port: int, bytes_per_s: float) -> AsyncIterator[int]:
    """Give the port that the worker is to dial."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    listener.bind(("127.0.0.1", 0))

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float | None) -> None:
        now = asyncio.get_running_loop().time
        free_at = now()
        with suppress(ConnectionError):
            while piece := await reader.read(_PIECE_BYTES):
                if rate is not None:
                    free_at = max(now() - _SLACK_S, free_at) + len(piece) / rate
                    if (wait_s := free_at - now()) > 0.001:
                        await asyncio.sleep(wait_s)
                writer.write(piece)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target_port)
        try:
            async with asyncio.TaskGroup() as tasks:
                up = tasks.create_task(carry(reader, back, bytes_per_s), name="worker to orchestrator")
                down = tasks.create_task(carry(there, writer, None), name="orchestrator to worker")
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                down.cancel()
        finally:
            back.close()
            writer.close()

    server = await asyncio.start_server(serve, sock=listener, limit=_PIECE_BYTES)
    try:
        yield listener.getsockname()[1]
    finally:
        server.close()
