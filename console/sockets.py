"""Ending a WebSocket whose peer may not cooperate."""

import asyncio
from contextlib import suppress

from aiohttp import web

_MAX_REASON_BYTES = 123
"""RFC 6455: what is left of a control frame's 125 bytes after the code."""

_CLOSE_TIMEOUT_S = 1.5


async def close(ws: web.WebSocketResponse, code: int, reason: str) -> None:
    """Close a WebSocket; one whose peer does not read is given up after a moment. Never raises."""
    fitting = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await ws.close(code=code, message=fitting)


def cut(request: web.Request) -> None:
    """End a connection whose peer does not read; a close frame would only wait behind the rest."""
    if request.transport is not None:
        request.transport.abort()
