"""The page's side: the WebSocket ``/ws/browser``, one handler for one connection. The protocol: `console.page_link`."""

import asyncio
import re

from aiohttp import WSCloseCode, WSMsgType, web

from console.config import ConsoleConfig
from console.outbox import Outbox
from console.page_link import PageLink
from console.pages import Pages
from console.registry import Workers
from console.sockets import close, cut
from protos import limits
from protos.wire import CLOSE_REPLACED

MAX_PAGES = 50
_MAX_WAITING_BYTES = 8 * 1024 * 1024
_KEEPALIVE_S = 20


class BrowserSocket:
    """Handles connections of pages: checks cookie and origin, then feeds a `PageLink`."""

    def __init__(self, config: ConsoleConfig, workers: Workers, pages: Pages) -> None:
        self._config = config
        self._workers = workers
        self._pages = pages
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self.worker_command = ""  # known once the socket is bound

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one page until its connection ends."""
        if not self._pages.is_same_origin(request):
            raise web.HTTPForbidden(text="Only this console's own page may connect here.")
        if not self._pages.is_admitted(request):
            raise web.HTTPUnauthorized(text="Open the address that the console printed.")
        if len(self._sockets) >= MAX_PAGES:
            raise web.HTTPServiceUnavailable(text=f"At most {MAX_PAGES} pages at a time.")
        page_id = request.query.get("page", "")
        if not re.fullmatch(r"[A-Za-z0-9-]{8,64}", page_id):
            raise web.HTTPBadRequest(text="A page names itself with ?page=.")
        ws = web.WebSocketResponse(
            heartbeat=_KEEPALIVE_S, max_msg_size=limits.MAX_MESSAGE_BYTES - 4096, compress=False, timeout=1
        )
        await ws.prepare(request)
        previous = self._sockets.get(page_id)
        self._sockets[page_id] = ws
        outbox = Outbox(_MAX_WAITING_BYTES, lambda: cut(request))
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(outbox.write_to(ws), name=f"write to page {page_id}")
                if previous is not None:
                    replaced = close(previous, CLOSE_REPLACED, "replaced by a newer connection")
                    tasks.create_task(replaced, name=f"close replaced page {page_id}")
                await self._serve(ws, PageLink(page_id, self._workers, outbox, tasks))
                writer.cancel()
        finally:
            outbox.close()
            if self._sockets.get(page_id) is ws:
                del self._sockets[page_id]
        return ws

    async def _serve(self, ws: web.WebSocketResponse, page: PageLink) -> None:
        self._workers.watch(page)
        try:
            page.greet(self._config, self.worker_command)
            async for frame in ws:
                if frame.type is WSMsgType.TEXT:
                    page.receive(frame.data)
                elif frame.type is WSMsgType.BINARY:
                    page.receive_frame(frame.data)
        finally:
            self._workers.unwatch(page)
            page.leave()

    async def disconnect_all(self) -> None:
        """Close every page's connection, for tests of how they come back."""
        for ws in list(self._sockets.values()):
            await close(ws, WSCloseCode.SERVICE_RESTART, "try again")

    async def close(self) -> None:
        """Tell every page that the console stops."""
        async with asyncio.TaskGroup() as tasks:
            for page_id, ws in list(self._sockets.items()):
                stopping = close(ws, WSCloseCode.GOING_AWAY, "the console stops")
                tasks.create_task(stopping, name=f"close {page_id}")
