"""A minimal orchestrator, as anyone could write it from docs/protocol with nothing but ``websockets``.

The path of the worker's address says how it speaks: ``/binary``, ``/json``, or ``/plain``, which knows the user's
document and nothing else: no acknowledgements, no binary frames, no ``worker.registered``.
"""

import asyncio
import itertools
import json
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pybase64
from websockets.typing import Subprotocol

from bench.contender import READY, Flood, within
from bench.websocket_end import WebSocketEnd, listen

WINDOW_BYTES = 128 * 1024
"""The worker's default."""
REQUEST_TIMEOUT_S = 60.0
TENANT = "bench"

_HEADER = struct.Struct("!BIQ")
_request_numbers = itertools.count(1)  # one count for all links: a tenant's request id runs once


class RequestFailed(Exception):
    """The worker answered with an error."""


class Session:
    """One terminal as the orchestrator has it: what it has received, and what it is waiting for."""

    def __init__(self, link: "Link") -> None:
        self._link = link
        self.session_id = ""
        self.channel = 0
        self.received = 0
        self.chunks: list[bytes] = []
        self._acked = 0
        self._typed = 0
        self._wanted = 0
        self._arrived: asyncio.Future[None] | None = None
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def opened(self, answer: dict[str, Any]) -> None:
        """Note under which names it goes."""
        self.session_id, self.channel = answer["sessionId"], answer.get("channel", 0)

    def feed(self, offset: int, data: bytes) -> bool:
        """Take output; return whether half a window is to be acknowledged."""
        assert offset == self.received, f"output at {offset} instead of {self.received}"
        self.chunks.append(data)
        self.received += len(data)
        if self._arrived is not None and self.received >= self._wanted:
            self._arrived.set_result(None)
            self._arrived = None
        return self._link.acks and self.received - self._acked >= WINDOW_BYTES // 2

    def ack(self) -> bytes:
        """Return the acknowledgement of all so far."""
        self._acked = self.received
        return b'{"type":"terminal.ack","payload":{"sessionId":"%b","offset":%d}}' % (
            self.session_id.encode(),
            self.received,
        )

    def failed(self, error: Exception) -> None:
        """Note that something was refused."""
        if self._arrived is not None:
            self._arrived.set_exception(error)
            self._arrived = None

    def type(self, data: bytes) -> None:
        """Send keystrokes."""
        if self.channel:
            self._link.ws.send(_HEADER.pack(1, self.channel, self._typed) + data, text=False)
        else:
            self._link.ws.send(
                b'{"type":"terminal.input","payload":{"sessionId":"%b","offset":%d,"data":"%b"}}'
                % (self.session_id.encode(), self._typed, pybase64.b64encode(data)),
                text=True,
            )
        self._typed += len(data)

    def arrival(self, total: int) -> "asyncio.Future[None]":
        """Return what is done once ``total`` bytes came in all."""
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.received >= total:
            arrived.set_result(None)
        else:
            self._wanted, self._arrived = total, arrived
        return arrived

    async def ready(self) -> None:
        """Wait until the program is there."""
        await within(self.arrival(len(READY)), "the terminal's program")
        self.chunks.clear()

    async def echo(self, count: int) -> list[float]:
        """See `Terminal`."""
        now = time.perf_counter
        times = []
        for _ in range(count):
            arrived = self.arrival(self.received + 1)
            began = now()
            self.type(b"x")
            await arrived  # a stall ends by the deadline of the phase
            times.append(now() - began)
        self.chunks.clear()
        return times

    async def flood(self, size: int) -> Flood:
        """See `Terminal`."""
        arrived = self.arrival(self.received + size)
        began = time.perf_counter()
        self.type(b"\n")
        await within(arrived, "the end of a flood")
        seconds = time.perf_counter() - began
        chunks, self.chunks = self.chunks, []
        return Flood(seconds, chunks)

    async def close(self) -> None:
        """End the session and its processes, and wait until they have ended."""
        await self._link.request("terminal.close", {"sessionId": self.session_id})
        await within(self.exited, "the end of a session")


class Link:
    """One connected worker."""

    def __init__(self, ws: WebSocketEnd) -> None:
        self.ws = ws
        self.dialect = ws.path.rsplit("/", 1)[-1]
        self.acks = self.dialect != "plain"
        self.registered_at = time.monotonic()
        self._requests: dict[str, tuple[asyncio.Future[dict[str, Any]], Session | None]] = {}
        self._sessions: dict[str, Session] = {}
        self._channels: dict[int, Session] = {}

    def message(self, message: bytes, text: bool) -> None:
        """Take a message."""
        if text:
            self._text(json.loads(message))
            return
        _, channel, offset = _HEADER.unpack_from(message)
        self._feed(self._channels[channel], offset, message[_HEADER.size :])

    def _feed(self, session: Session, offset: int, data: bytes) -> None:
        if session.feed(offset, data):
            self.ws.send(session.ack(), text=True)

    def _text(self, message: dict[str, Any]) -> None:
        payload = message.get("payload", {})
        match message["type"]:
            case "terminal.output":
                session = self._sessions.get(payload["sessionId"])
                if session is not None:  # else of an earlier connection, attached again
                    self._feed(session, payload["offset"], pybase64.b64decode(payload["data"], validate=True))
            case "response":
                self._answered(message)
            case "worker.register" if self.acks:
                registered = {"type": "worker.registered", "payload": {"capabilities": ["terminal.ack"]}}
                self.ws.send(json.dumps(registered).encode(), text=True)
            case "terminal.exit" if payload["sessionId"] in self._sessions:
                self._sessions[payload["sessionId"]].exited.set_result(None)
            case "error" if message.get("sessionId") in (None, *self._sessions):
                for session in self._sessions.values():
                    session.failed(RequestFailed(str(message["error"])))

    def _answered(self, message: dict[str, Any]) -> None:
        answer, session = self._requests.pop(message["id"])
        if not message["ok"]:
            answer.set_exception(RequestFailed(f"{message['error']['code']}: {message['error']['message']}"))
            return
        if session is not None:  # its output may be the very next message
            session.opened(message["payload"])
            self._sessions[session.session_id] = session
            if session.channel:
                self._channels[session.channel] = session
        if not answer.done():
            answer.set_result(message["payload"])

    async def request(self, kind: str, payload: dict[str, Any], session: Session | None = None) -> dict[str, Any]:
        """Send a command and wait for its answer; raises `RequestFailed`."""
        request_id = f"bench-{next(_request_numbers)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._requests[request_id] = answer, session
        self.ws.send(json.dumps({"type": kind, "id": request_id, "payload": payload}).encode(), text=True)
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            return await answer

    async def open(self, devbox_id: str, argv: list[str] | None = None) -> Session:
        """Open a terminal; without ``argv`` the DevBox's shell."""
        session = Session(self)
        payload: dict[str, Any] = {"tenantId": TENANT, "devboxId": devbox_id, "cols": 80, "rows": 24}
        if argv is not None:
            payload["command"] = argv
        await self.request("terminal.open", payload, session)
        return session


class Orchestrator:
    """The server, and the workers that are connected to it by their path."""

    def __init__(self) -> None:
        self.port = 0
        self._links: dict[str, Link] = {}
        self._came = asyncio.Event()

    async def link(self, path: str, timeout_s: float = 30.0) -> Link:
        """Return the worker on that path once it has registered."""
        async with asyncio.timeout(timeout_s):
            while path not in self._links:
                self._came.clear()
                await self._came.wait()
            return self._links[path]

    def came(self, ws: WebSocketEnd) -> None:
        """Serve one worker until its connection ends."""

        def first(message: bytes, text: bool) -> None:
            link = Link(ws)
            ws.on_message = link.message
            link.message(message, text)
            if json.loads(message)["payload"]["containerEngines"]:  # else the executor is not up: it comes again
                self._links[ws.path] = link
                self._came.set()

        ws.on_message = first


def _choose(path: str, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if path.endswith("/plain"):
        return None
    wanted = "clustercode.v1+binary" if path.endswith("/binary") else "clustercode.v1"
    assert wanted in offered
    return Subprotocol(wanted)


@asynccontextmanager
async def running_orchestrator() -> AsyncIterator[Orchestrator]:
    """Serve on a free port of the loopback."""
    orchestrator = Orchestrator()
    server, orchestrator.port = await listen(orchestrator.came, _choose)
    async with server:
        yield orchestrator
