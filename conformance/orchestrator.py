"""An orchestrator by hand: it sends what no well-behaved one would, and sees every frame as it is.

What it sends it writes with `json` alone, so that it speaks the protocol as published; what a worker sends is read with
the models that the published schemas are made from, and whatever does not fit them is noted.
"""

import asyncio
import base64
import json
import os
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import ValidationError
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from protos import messages, wire

HOST = "127.0.0.1"
TOKEN = "a-token-that-must-not-be-logged"  # noqa: S105 - one of tests, unless whoever runs them gives another
BINARY = "clustercode.v1+binary"
TERMINAL = 1
DISPLAY = 2
_HEADER = struct.Struct("!BIQ")

Json = dict[str, Any]


def frame(channel: int, offset: int, data: bytes, kind: int = TERMINAL) -> bytes:
    """Return a binary frame."""
    return _HEADER.pack(kind, channel, offset) + data


class Violation(Exception):
    """The worker does something else than the protocol says."""


class Refused(Exception):
    """The worker answered a command with an error."""

    def __init__(self, kind: str, error: Json) -> None:
        super().__init__(f"{kind} was refused with {error.get('code')}: {error.get('message')}")
        self.code = str(error.get("code"))
        self.error = error


class Peer:
    """One connection of a gateway. Everything it sends is read at once, unless told otherwise, and kept in order."""

    def __init__(self, ws: ServerConnection, at: float) -> None:
        self.ws = ws
        self.at = at
        self.headers = ws.request.headers if ws.request is not None else Headers()
        self.closed = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._inbox: list[Json] = []
        self._output: dict[str, bytearray] = {}
        self._base: dict[str, int] = {}
        self._channels: dict[int, str] = {}
        self._kinds: dict[str, str] = {}
        self._taken: set[str] = set()
        self._changed = asyncio.Condition()
        self.violations: list[str] = []
        """What came and is not as the protocol's models say, a sentence each."""
        self.heartbeats: list[float] = []
        """When each came, by the loop's clock."""

    # --- Sending ----------------------------------------------------------------------------------------------

    async def send(self, kind: str, payload: Json | None = None, message_id: str | None = None) -> None:
        """Send one message."""
        message: Json = {"type": kind, "payload": payload or {}}
        if message_id is not None:
            message["id"] = message_id
            if kind != "cancel":  # that has the id of what it cancels
                self._kinds[message_id] = kind
        await self.ws.send(json.dumps(message))

    async def send_raw(self, data: str | bytes) -> None:
        """Send a frame as it is: text as text, bytes as binary."""
        await self.ws.send(data)

    async def ask(self, kind: str, payload: Json | None = None, *, message_id: str = "", timeout_s: float = 60) -> Json:
        """Send a command and return its whole answer."""
        message_id = message_id or f"ask-{uuid4().hex}"
        await self.send(kind, payload, message_id)
        return await self.expect(type="response", id=message_id, timeout_s=timeout_s)

    async def give_up(self, *kinds: str, timeout_s: float) -> list[Json]:
        """Cancel what is under way of these kinds; return the answers that nobody took, as far as they come in time."""
        left = [each for each, kind in self._kinds.items() if kind in kinds and each not in self._taken]
        self._taken.update(left)
        for each in left:
            if not any(m["type"] == "response" and m.get("id") == each for m in self._inbox):
                await self.send("cancel", {}, each)
        answers: list[Json] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for each in left:
                    answer = await self.expect(timeout_s, type="response", id=each)
                    answers.append(answer)
        return answers

    async def open(self, devbox_id: str, session_id: str, **more: object) -> Json:
        """Open a terminal and return the payload of its answer; its output is kept from then on."""
        payload = {"tenantId": "local", "devboxId": devbox_id, "sessionId": session_id, "cols": 80, "rows": 24, **more}
        answer = await self.ask("terminal.open", payload)
        if not answer["ok"]:
            raise Refused("terminal.open", answer["error"])
        opened: Json = answer["payload"]
        return opened

    async def type(self, session_id: str, data: bytes, offset: int | None = None) -> None:
        """Send keystrokes as JSON."""
        payload = {"sessionId": session_id, "data": base64.b64encode(data).decode()}
        await self.send("terminal.input", payload if offset is None else {**payload, "offset": offset})

    # --- Receiving --------------------------------------------------------------------------------------------

    async def expect(self, timeout_s: float = 60, **fields: object) -> Json:
        """Return the oldest message not returned before that has these top-level fields; raises `TimeoutError`."""

        def find() -> Json | None:
            return next((m for m in self._inbox if all(m.get(key) == value for key, value in fields.items())), None)

        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: find() is not None)
            message = find()
            if message is None:  # never: the wait is over
                raise Violation("nothing came")
            self._inbox.remove(message)
            if message["type"] == "response":
                self._taken.add(message.get("id", ""))
            self._demand_order()
            return message

    async def exit_of(self, session_id: str, timeout_s: float = 60) -> Json:
        """Return what `terminal.exit` says of a session, once it has ended; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while True:
                payload: Json = (await self.expect(timeout_s, type="terminal.exit"))["payload"]
                if payload["sessionId"] == session_id:
                    return payload

    async def shows(self, session_id: str, needle: bytes, timeout_s: float = 60) -> bytes:
        """Wait until a session's output holds the bytes; returns all of it so far."""
        await self.until(lambda: needle in self.output(session_id), timeout_s)
        return self.output(session_id)

    async def until(self, holds: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait until something holds; looked at after each frame."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(holds)
            self._demand_order()

    def output(self, session_id: str) -> bytes:
        """Return a session's output as far as it came on this connection."""
        return bytes(self._output.get(session_id, b""))

    def forget_output(self, session_id: str) -> None:
        """Let go of what came so far."""
        self._base[session_id] = self.offset(session_id)
        self._output[session_id] = bytearray()

    def offset(self, session_id: str) -> int:
        """Return the offset of the next byte of a session."""
        return self._base.get(session_id, 0) + len(self._output.get(session_id, b""))

    def _demand_order(self) -> None:
        if self.violations:
            raise Violation("; ".join(self.violations[:3]))

    @property
    def waiting(self) -> list[Json]:
        """Messages that nobody took yet."""
        return list(self._inbox)

    # --- Misbehaving ------------------------------------------------------------------------------------------

    def stop_reading(self) -> None:
        """Read nothing more, until `read_on`: not even pongs go out once the buffers are full."""
        self._reading.clear()

    def read_on(self) -> None:
        """Read again."""
        self._reading.set()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection."""
        await self.ws.close(code, reason)

    def cut(self) -> None:
        """Drop the connection without a word."""
        self.ws.transport.abort()

    async def read(self) -> None:
        """Take what comes, until the connection ends."""
        try:
            while True:
                await self._reading.wait()
                data = await self.ws.recv()
                async with self._changed:
                    self._take(data)
                    self._changed.notify_all()
        except ConnectionClosed:
            pass
        finally:
            self.closed.set()

    def _take(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            kind, channel, offset = _HEADER.unpack_from(data)
            if kind not in (TERMINAL, DISPLAY) or channel not in self._channels:
                self.violations.append(f"a binary frame of kind {kind} for channel {channel}, which is not open")
            else:
                self._append(self._channels[channel], offset, data[_HEADER.size :])
            return
        message = json.loads(data)
        self._look_at(data, message)
        if message["type"] == "worker.heartbeat":
            self.heartbeats.append(asyncio.get_running_loop().time())
        if message["type"] == "terminal.output":
            payload = message["payload"]
            self._append(payload["sessionId"], payload["offset"], base64.b64decode(payload["data"]))
            return
        if message["type"] == "display.data":
            payload = message["payload"]
            self._append(payload["sessionId"], self.offset(payload["sessionId"]), base64.b64decode(payload["data"]))
            return
        if message["type"] == "response" and message["ok"] and "sessionId" in message["payload"]:
            # A session is open: noted while the answer is read, for the next frame may be of it.
            opened = message["payload"]
            if "channel" in opened:
                self._channels[opened["channel"]] = opened["sessionId"]
            self._base[opened["sessionId"]] = opened.get("offset", 0)
            self._output[opened["sessionId"]] = bytearray()
        self._inbox.append(message)

    def _look_at(self, data: str, message: Json) -> None:
        """Note what is not as the published models say."""
        try:
            messages.parse_from_worker(data)
            kind = self._kinds.get(message.get("id", ""), "")
            if message["type"] == "response" and message["ok"] and kind in wire.ANSWERS:
                wire.ANSWERS[kind].model_validate_json(json.dumps(message["payload"]))
        except messages.BadMessage as error:
            self.violations.append(f"{message.get('type')}: {error.refusal.message}")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            self.violations.append(f"the answer to {kind}: {where}: {first['msg']}")

    def _append(self, session_id: str, offset: int, data: bytes) -> None:
        self._base.setdefault(session_id, offset)
        if offset != self.offset(session_id):
            self.violations.append(f"{session_id}: a gap or a repeat at {offset}, not {self.offset(session_id)}")
        self._output.setdefault(session_id, bytearray()).extend(data)


@dataclass
class Orchestrator:
    """Listens, decides about each attempt, and hands out connections in order."""

    token_file: Path
    subprotocol: str | None = BINARY
    registered: Json | None = field(default_factory=lambda: {"capabilities": ["terminal.ack"]})
    """Payload of `worker.registered`, sent on each connection; None: never."""
    refuse_with: tuple[HTTPStatus, dict[str, str]] | None = None
    host: str = HOST
    port: int = 0
    tls: ssl.SSLContext | None = None
    token: str = TOKEN
    attempts: list[float] = field(default_factory=list)
    """When each handshake came, by the loop's clock."""
    _peers: "asyncio.Queue[Peer]" = field(default_factory=asyncio.Queue)  # one a connection; tests take them all
    _attempted: asyncio.Condition = field(default_factory=asyncio.Condition)
    server: Server | None = None

    @property
    def worker_url(self) -> str:
        """Where workers connect."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.tls else 'ws'}://{host}:{self.port}/ws/worker"

    async def go(self) -> None:
        """Tell all who are connected that the orchestrator goes, and listen no more."""
        if self.server is None:
            return
        self.server.close(code=1012, reason="restarting")
        await self.server.wait_closed()

    async def peer(self, timeout_s: float = 60) -> tuple[Peer, Json]:
        """Return the next connection and the payload of its register."""
        async with asyncio.timeout(timeout_s):
            peer = await self._peers.get()
        register = await peer.expect(timeout_s, type="worker.register")
        return peer, register["payload"]

    async def attempted(self, count: int, timeout_s: float = 60) -> None:
        """Wait until so many handshakes came in all."""
        async with asyncio.timeout(timeout_s), self._attempted:
            await self._attempted.wait_for(lambda: len(self.attempts) >= count)

    async def decide(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake, or let it through with None."""
        async with self._attempted:
            self.attempts.append(asyncio.get_running_loop().time())
            self._attempted.notify_all()
        if self.refuse_with is not None:
            status, headers = self.refuse_with
            response = connection.respond(status, "no\n")
            response.headers.update(headers)
            return response
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "no\n")
        return None

    def select(self, _: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        """Pick the subprotocol of a connection."""
        return next((name for name in offered if name == self.subprotocol), None)

    async def serve(self, ws: ServerConnection) -> None:
        """Serve one connection, until it ends."""
        peer = Peer(ws, asyncio.get_running_loop().time())
        self._peers.put_nowait(peer)
        if self.registered is not None:
            await peer.send("worker.registered", self.registered)
        await peer.read()


@asynccontextmanager
async def orchestrator(directory: Path, **options: Any) -> AsyncIterator[Orchestrator]:  # noqa: ANN401
    """Listen while the context is open; the token lies in the directory as ``token``."""
    token_file = directory / "token"
    running = Orchestrator(token_file, **options)
    with os.fdopen(os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(running.token)
    async with serve(
        running.serve,
        running.host,
        running.port,
        process_request=running.decide,
        select_subprotocol=running.select,
        compression=None,
        max_size=None,
        ping_interval=None,
        close_timeout=1,
        server_header=None,
        ssl=running.tls,
    ) as server:
        running.server = server
        running.port = next(iter(server.sockets)).getsockname()[1]
        yield running
