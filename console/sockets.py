"""Ending a WebSocket whose peer may not cooperate."""

import asyncio
from contextlib import suppress

from aiohttp import web

CLOSE_REPLACED = 4001
"""Close code: a newer connection of the same worker or page took this one's place."""

_CLOSE_TIMEOUT_S = 1.5


async def close(ws: web.WebSocketResponse, code: int, reason: str) -> None:
    """Close a WebSocket; one whose peer does not read is given up after a moment. Never raises."""
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await ws.close(code=code, message=reason.encode())


def cut(request: web.Request) -> None:
    """End a connection whose peer does not read; a close frame would only wait behind the rest."""
    if request.transport is not None:
        request.transport.abort()
