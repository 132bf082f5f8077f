"""A small RFB client (RFC 6143) over a display's bytes: what the tests need of it, in the clear."""

import struct
from dataclasses import dataclass

from console.display_client import DisplayClient

RAW, EXTENDED_DESKTOP_SIZE = 0, -308


@dataclass
class Screen:
    """What the server said of its framebuffer, and the pixels that came, as 0xRRGGBB by (x, y)."""

    width: int
    height: int
    name: str


class Rfb:
    """One RFB connection. Pixels are 32 bits, blue first."""

    def __init__(self, display: DisplayClient) -> None:
        self._display = display
        self.version = b""
        self.security = b""

    async def handshake(self, *, shared: bool = True, resizes: bool = False) -> Screen:
        """Do the whole handshake without authentication; returns what ServerInit says.

        With ``resizes`` the server tells the desktop's size, in answer to whatever is asked for.
        """
        read, write = self._display.read, self._display.write
        self.version = await read(12)
        write(b"RFB 003.008\n")
        self.security = await read((await read(1))[0])
        write(b"\x01")  # None
        assert await read(4) == b"\0\0\0\0", "SecurityResult is not OK"
        write(bytes([shared]))
        width, height, _format, length = struct.unpack("!HH16sI", await read(24))
        name = (await read(length)).decode()
        write(struct.pack("!BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))  # SetPixelFormat
        encodings = (RAW, EXTENDED_DESKTOP_SIZE) if resizes else (RAW,)
        write(struct.pack(f"!BxH{len(encodings)}i", 2, len(encodings), *encodings))  # SetEncodings
        return Screen(width, height, name)

    def ask(self, x: int, y: int, width: int, height: int, *, incremental: bool = False) -> None:
        """Ask for an update."""
        self._display.write(struct.pack("!BBHHHH", 3, incremental, x, y, width, height))

    def resize(self, width: int, height: int) -> None:
        """Ask for another size of the desktop."""
        self._display.write(struct.pack("!BxHHBxIHHHHI", 251, width, height, 1, 0, 0, 0, width, height, 0))

    def key(self, keysym: int) -> None:
        """Press and release a key."""
        for down in (1, 0):
            self._display.write(struct.pack("!BBxxI", 4, down, keysym))

    async def update(self) -> list[tuple[int, int, int, int, int, bytes]]:
        """Return the next update's rectangles: x, y, width, height, encoding, bytes; other messages are passed over."""
        read = self._display.read
        while (kind := (await read(1))[0]) != 0:
            if kind == 3:  # ServerCutText
                await read(struct.unpack("!xxxI", await read(7))[0])
            else:
                assert kind == 2, f"message {kind}"  # Bell
        count = struct.unpack("!xH", await read(3))[0]
        return [await self._rectangle() for _ in range(count)]

    async def _rectangle(self) -> tuple[int, int, int, int, int, bytes]:
        x, y, width, height, encoding = struct.unpack("!HHHHi", await self._display.read(12))
        if encoding == EXTENDED_DESKTOP_SIZE:
            head = await self._display.read(4)
            return x, y, width, height, encoding, head + await self._display.read(16 * head[0])
        assert encoding == RAW, f"encoding {encoding}"
        return x, y, width, height, encoding, await self._display.read(width * height * 4)

    async def pixel(self, x: int, y: int) -> int:
        """Return the colour of one pixel as 0xRRGGBB."""
        while True:
            self.ask(x, y, 1, 1)
            for left, top, _width, _height, encoding, data in await self.update():
                if encoding == RAW and (left, top) == (x, y):
                    return int.from_bytes(data[:3], "little")
