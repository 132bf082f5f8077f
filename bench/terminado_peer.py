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
from websockets.asyncio.client import ClientConnection, connect

from bench.contender import READY, STALL_S, Flood


class TerminadoTerminal:
    """One WebSocket to it."""

    def __init__(self, ws: ClientConnection) -> None:
        self._ws = ws

    async def ready(self) -> None:
        """Wait until the program is there."""
        text = ""
        async with asyncio.timeout(STALL_S):
            while READY.decode() not in text:
                text += await self._output()

    async def echo(self, count: int) -> list[float]:
        """See `Terminal`."""
        send, receive, now = self._ws.send, self._output, time.perf_counter
        key = json.dumps(["stdin", "x"])
        times = []
        async with asyncio.timeout(STALL_S):
            for _ in range(count):
                began = now()
                await send(key)
                await receive()
                times.append(now() - began)
        return times

    async def flood(self, size: int) -> Flood:
        """See `Terminal`."""
        texts = []
        began = time.perf_counter()
        async with asyncio.timeout(STALL_S):
            await self._ws.send(json.dumps(["stdin", "\n"]))
            while size > 0:
                text = await self._output()
                texts.append(text)
                size -= len(text)  # the flood is ASCII
        seconds = time.perf_counter() - began
        return Flood(seconds, [text.encode() for text in texts])

    async def close(self) -> None:
        """Close the WebSocket."""
        await self._ws.close()

    async def _output(self) -> str:
        while True:
            kind, *rest = json.loads(await self._ws.recv(decode=False))
            if kind == "stdout":
                return str(rest[0])


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
            await terminal.close()
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
        ws = await connect(
            f"ws://127.0.0.1:{self._port}/{quote(shlex.join(argv), safe='')}",
            compression=None, max_size=None, ping_interval=None, proxy=None,
        )  # fmt: skip
        terminal = TerminadoTerminal(ws)
        self._terminals.append(terminal)
        await terminal.ready()
        return terminal

    def server_pids(self) -> list[int]:
        """See `Contender`."""
        return [process.pid for process in self._family()]

    def _family(self) -> list[psutil.Process]:
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]
