"""The peer: terminado (tornado, the terminal server of Jupyter) running ``podman exec -it``."""

import asyncio
import json
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil

from bench.contender import READY, STALL_S, Flood
from bench.websocket_end import WebSocketEnd, dial


class TerminadoTerminal:
    """One WebSocket to it."""

    def __init__(self) -> None:
        self.ws: WebSocketEnd | None = None
        self._texts: list[str] = []
        self._received = 0
        self._wanted = 0
        self._arrived: asyncio.Future[None] | None = None

    def message(self, message: bytes, text: bool) -> None:  # noqa: ARG002 - as a WebSocketEnd says it
        """Take a message."""
        kind, *rest = json.loads(message)
        if kind != "stdout":
            return
        self._texts.append(rest[0])
        self._received += len(rest[0])  # all that is measured is ASCII
        if self._arrived is not None and self._received >= self._wanted:
            self._arrived.set_result(None)
            self._arrived = None

    async def ready(self) -> None:
        """Wait until the program is there."""
        async with asyncio.timeout(STALL_S):
            while READY.decode() not in "".join(self._texts):
                await self._arrival(self._received + 1)
        self._texts.clear()

    async def echo(self, count: int) -> list[float]:
        """See `Terminal`."""
        now = time.perf_counter
        key = json.dumps(["stdin", "x"]).encode()
        times = []
        async with asyncio.timeout(STALL_S):
            for _ in range(count):
                arrived = self._arrival(self._received + 1)
                began = now()
                self._send(key)
                await arrived
                times.append(now() - began)
        self._texts.clear()
        return times

    async def flood(self, size: int) -> Flood:
        """See `Terminal`."""
        arrived = self._arrival(self._received + size)
        began = time.perf_counter()
        async with asyncio.timeout(STALL_S):
            self._send(json.dumps(["stdin", "\n"]).encode())
            await arrived
        seconds = time.perf_counter() - began
        texts, self._texts = self._texts, []
        return Flood(seconds, [text.encode() for text in texts])

    def close(self) -> None:
        """Close the WebSocket."""
        if self.ws is not None:
            self.ws.close()

    def _send(self, message: bytes) -> None:
        assert self.ws is not None
        self.ws.send(message, text=True)

    def _arrival(self, total: int) -> "asyncio.Future[None]":
        self._wanted, self._arrived = total, asyncio.get_running_loop().create_future()
        return self._arrived


class Terminado:
    """Its server process; ends with the ``async with`` block."""

    name = "terminado + podman exec"

    def __init__(self, container: str, directory: Path) -> None:
        self._container = container
        self._log = directory / "terminado.log"
        self._terminals: list[TerminadoTerminal] = []

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a moment, before anything is measured
                [sys.executable, "-m", "bench.terminado_server", "podman", "exec", "-it", self._container],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        if not line.strip():
            raise RuntimeError(f"terminado did not start: {self._log.read_text(errors='replace')[-500:]}")
        self._port = int(line)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for terminal in self._terminals:
            terminal.close()
        family = self._family()
        self._process.terminate()
        self._process.wait()
        for process in family:  # podman exec, each in a session of its own
            with suppress(psutil.NoSuchProcess):
                process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()

    async def open(self, argv: list[str]) -> TerminadoTerminal:
        """See `Contender`."""
        terminal = TerminadoTerminal()
        terminal.ws = await dial(f"ws://127.0.0.1:{self._port}/{quote(shlex.join(argv), safe='')}", terminal.message)
        self._terminals.append(terminal)
        await terminal.ready()
        return terminal

    def server_pids(self) -> list[int]:
        """See `Contender`."""
        return [process.pid for process in self._family()]

    def _family(self) -> list[psutil.Process]:
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]
