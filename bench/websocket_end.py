"""The measuring end of a WebSocket, as lean as Python allows and the same for all who are measured.

The raw socket is read by a bare loop, so nothing of a WebSocket library's queues, tasks and checks belongs on this side
either: it would be measured as if it were the worker's. websockets shakes hands; the frames are taken apart here.
"""

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import cast

from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

OPEN_S = 20.0

_LENGTH_16, _LENGTH_64 = struct.Struct("!H"), struct.Struct("!Q")
_NO_MASK = bytes(4)


class WebSocketEnd(asyncio.Protocol):
    """One connection. Messages are whole frames, which is how all who are measured send them."""

    def __init__(self, handshake: ClientProtocol | ServerProtocol) -> None:
        self.path = ""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_message: Callable[[bytes, bool], None] | None = None
        """Takes each message, and whether it is text."""
        self._handshake = handshake
        self._masks = 0x80 if isinstance(handshake, ClientProtocol) else 0
        self._transport: asyncio.Transport | None = None
        self._partial = b""

    def send(self, message: bytes, *, text: bool) -> None:
        """Send a message; the peer's reading is not waited for."""
        self._send(Opcode.TEXT if text else Opcode.BINARY, message)

    def close(self) -> None:
        """Close."""
        self._send(Opcode.CLOSE, b"")
        assert self._transport is not None
        self._transport.close()

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, self._masks | size))
        elif size < 65536:
            head = bytes((0x80 | opcode, self._masks | 126)) + _LENGTH_16.pack(size)
        else:
            head = bytes((0x80 | opcode, self._masks | 127)) + _LENGTH_64.pack(size)
        assert self._transport is not None
        self._transport.write(head + (_NO_MASK if self._masks else b"") + payload)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast("asyncio.Transport", transport)
        if isinstance(self._handshake, ClientProtocol):
            self._handshake.send_request(self._handshake.connect())
            self._transport.writelines(self._handshake.data_to_send())

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if not self.opened.done():
            data = self._shake_hands(data)
        if self._partial:
            data = self._partial + data
        at, have = 0, len(data)
        while have - at >= 2:
            opcode, size = data[at] & 0x0F, data[at + 1] & 0x7F
            body = at + 2
            if size == 126 and have - at >= 4:
                (size,) = _LENGTH_16.unpack_from(data, body)
                body += 2
            elif size == 127 and have - at >= 10:
                (size,) = _LENGTH_64.unpack_from(data, body)
                body += 8
            elif size >= 126:
                break
            mask = b""
            if data[at + 1] & 0x80:
                mask = data[body : body + 4]
                body += 4
            if body + size > have:
                break
            at = body + size
            payload = data[body:at]
            self._take(opcode, apply_mask(payload, mask) if mask else payload)
        self._partial = data[at:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            assert self.on_message is not None
            self.on_message(payload, opcode == Opcode.TEXT)
        elif opcode == Opcode.PING:
            self._send(Opcode.PONG, payload)
        elif opcode == Opcode.CLOSE:
            self.close()

    def _shake_hands(self, data: bytes) -> bytes:
        """Return what came behind the handshake, which is expected in one piece."""
        head, _, rest = data.partition(b"\r\n\r\n")
        self._handshake.receive_data(head + b"\r\n\r\n")
        for event in self._handshake.events_received():
            if isinstance(event, Request):
                self.path = event.path
                server = cast("ServerProtocol", self._handshake)
                server.send_response(server.accept(event))
                assert self._transport is not None
                self._transport.writelines(server.data_to_send())
            self.opened.set_result(None)
        return rest


async def dial(uri: str, on_message: Callable[[bytes, bool], None]) -> WebSocketEnd:
    """Connect as a client."""
    address = parse_uri(uri)
    _, end = await asyncio.get_running_loop().create_connection(
        lambda: WebSocketEnd(ClientProtocol(address)), address.host, address.port
    )
    end.on_message = on_message
    async with asyncio.timeout(OPEN_S):
        await end.opened
    return end


async def listen(
    came: Callable[[WebSocketEnd], None], choose: Callable[[str, Sequence[Subprotocol]], Subprotocol | None]
) -> tuple[asyncio.Server, int]:
    """Serve on a free port of the loopback, which is returned; ``choose`` picks a subprotocol for a path."""

    def make() -> WebSocketEnd:
        def select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
            return choose(end.path, offered)

        end = WebSocketEnd(ServerProtocol(select_subprotocol=select))
        came(end)
        return end

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    return server, int(server.sockets[0].getsockname()[1])
