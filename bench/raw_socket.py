"""The floor: a blocking socket client that does the exec hijack itself. Nothing can be nearer to the engine."""

import socket
import time

from bench.contender import READY, STALL_S, Flood
from bench.engine import Engine


class RawTerminal:
    """One hijacked connection. Its methods block the event loop on purpose: nothing else is to run meanwhile."""

    def __init__(self, connection: socket.socket, first: bytes) -> None:
        self._connection = connection
        connection.settimeout(STALL_S)
        while len(first) < len(READY):
            first += connection.recv(4096)

    async def echo(self, count: int) -> list[float]:
        """See `Terminal`."""
        send, receive, now = self._connection.send, self._connection.recv, time.perf_counter
        times = []
        for _ in range(count):
            began = now()
            send(b"x")
            receive(4096)
            times.append(now() - began)
        return times

    async def flood(self, size: int) -> Flood:
        """See `Terminal`."""
        receive = self._connection.recv
        chunks = []
        began = time.perf_counter()
        self._connection.send(b"\n")
        while size > 0:
            chunk = receive(256 * 1024)
            if not chunk:
                raise ConnectionError("the engine closed the terminal in the middle of a flood")
            chunks.append(chunk)
            size -= len(chunk)
        return Flood(time.perf_counter() - began, chunks)

    def close(self) -> None:
        """Let go of the connection; the program lives on."""
        self._connection.close()


class RawSocket:
    """The engine's own socket."""

    name = "raw engine socket"

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container

    async def open(self, argv: list[str]) -> RawTerminal:
        """See `Contender`."""
        return self.open_now(argv)

    def open_now(self, argv: list[str]) -> RawTerminal:
        """Open, blocking; may be called from a thread."""
        return RawTerminal(*self._engine.start_exec(self._engine.create_exec(self._container, argv)))

    def server_pids(self) -> list[int]:
        """See `Contender`."""
        return []
