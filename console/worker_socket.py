"""The worker's side: the WebSocket ``/ws/worker``, one handler for one connection."""

import asyncio
import logging
import re
from contextlib import suppress

from aiohttp import WSCloseCode, WSMsgType, web

from console.config import ConsoleConfig
from console.outbox import Outbox
from console.registry import Workers
from console.sockets import close, cut
from console.tokens import bearer_is
from console.workers import WorkerLink
from protos import limits
from protos.errors import Refusal
from protos.messages import BadMessage, Message, parse_from_worker
from protos.wire import CLOSE_REPLACED, SUBPROTOCOL_BINARY, SUBPROTOCOLS, Register

_MAX_FRAME_BYTES = limits.MAX_MESSAGE_BYTES + 1024
_MAX_WAITING_BYTES = 16 * 1024 * 1024
_REGISTER_TIMEOUT_S = 10
_KEEPALIVE_S = 20

log = logging.getLogger(__name__)


class WorkerSocket:
    """Handles connections of workers: checks the token, waits for the registration, then feeds the link."""

    def __init__(self, config: ConsoleConfig, workers: Workers, token: str) -> None:
        self._workers = workers
        self._token = token
        self._protocols = SUBPROTOCOLS if config.dialect == "full" else ()
        self._sockets: dict[str, web.WebSocketResponse] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one worker until its connection ends."""
        if "Origin" in request.headers:
            raise web.HTTPForbidden(text="This address is for workers, not for web pages.")
        if not bearer_is(self._token, request.headers.get("Authorization", "")):
            raise web.HTTPUnauthorized(text="Start the worker with this console's --token-file.")
        ws = web.WebSocketResponse(
            protocols=self._protocols,
            heartbeat=_KEEPALIVE_S,
            max_msg_size=_MAX_FRAME_BYTES,
            compress=False,
            timeout=1,
        )
        await ws.prepare(request)
        register = await self._registration(ws)
        if register is None:
            await close(ws, WSCloseCode.POLICY_VIOLATION, "send worker.register first")
            return ws
        worker_id = register.worker_id or as_id(request.headers.get("X-ClusterCode-Worker-Id", "") or register.name)
        try:
            link = self._workers.admit(worker_id)
        except Refusal as refusal:
            await close(ws, WSCloseCode.TRY_AGAIN_LATER, refusal.message)
            return ws
        outbox = Outbox(_MAX_WAITING_BYTES, lambda: cut(request))
        previous = self._sockets.get(link.id)
        self._sockets[link.id] = ws
        link.connection_made(outbox, register, binary=ws.ws_protocol == SUBPROTOCOL_BINARY)
        log.info("worker %s connected (%s, agent %s)", link.id, register.name, register.agent_version)
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(outbox.write_to(ws), name=f"write to worker {link.id}")
                if previous is not None:
                    log.warning("worker %s: this connection replaces an older one", link.id)
                    replaced = close(previous, CLOSE_REPLACED, f"replaced by the one on {register.hostname}")
                    tasks.create_task(replaced, name=f"close replaced {link.id}")
                await self._read(ws, link)
                writer.cancel()
        finally:
            link.connection_lost(outbox)
            if self._sockets.get(link.id) is ws:
                del self._sockets[link.id]
            log.info("worker %s disconnected (close code %s)", link.id, ws.close_code)
        return ws

    async def _registration(self, ws: web.WebSocketResponse) -> Register | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_REGISTER_TIMEOUT_S):
                async for frame in ws:
                    if frame.type is not WSMsgType.TEXT:
                        continue
                    try:
                        message = parse_from_worker(frame.data)
                    except BadMessage as error:
                        log.warning("a worker that has not registered sent what is no message: %s", error)
                        continue
                    if isinstance(message, Message) and isinstance(message.payload, Register):
                        return message.payload
        return None

    async def _read(self, ws: web.WebSocketResponse, link: WorkerLink) -> None:
        async for frame in ws:
            if self._sockets.get(link.id) is not ws:
                return  # replaced: what still comes belongs to sessions that moved on
            if frame.type is WSMsgType.TEXT:
                link.receive(frame.data)
            elif frame.type is WSMsgType.BINARY:
                link.receive_frame(frame.data)

    async def disconnect(self, worker_id: str, code: int = WSCloseCode.SERVICE_RESTART) -> None:
        """Close a worker's connection, for tests of how it comes back."""
        ws = self._sockets.get(worker_id)
        if ws is not None:
            await close(ws, code, "try again")

    async def close(self) -> None:
        """Tell every worker that the console stops."""
        async with asyncio.TaskGroup() as tasks:
            for worker_id, ws in list(self._sockets.items()):
                stopping = close(ws, WSCloseCode.GOING_AWAY, "the console stops")
                tasks.create_task(stopping, name=f"close {worker_id}")


def as_id(text: str) -> str:
    """Return what a worker calls itself as something that is an id."""
    return re.sub(r"[^A-Za-z0-9._:-]+", "-", text).lstrip("._:-")[:128] or "worker"
