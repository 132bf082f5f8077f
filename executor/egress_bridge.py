"""A bridge: socat between a DevBox's socket and Squid, from the loopback address that says which DevBox it is."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from executor.egress_files import SOCKET
from executor.egress_programs import dies_with_us, program

_OPENS_WITHIN_S = 5.0
BACKOFF_S = (0.0, 0.2, 1.0, 2.0, 5.0)
_CONNECTIONS = 256


class Bridge:
    """A DevBox's way to Squid: socat between its socket and Squid, from the address that says which DevBox it is."""

    def __init__(self, tasks: asyncio.TaskGroup, address: str, port: Callable[[], int]) -> None:
        self._address = address
        self._socket = Path("boxes") / address / SOCKET
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self._open = asyncio.Event()
        self._done = asyncio.Event()
        self._task = tasks.create_task(self._keep(), name=f"bridge {address}")

    async def opened(self) -> None:
        """Wait until it takes connections; raises `OSError` if it does not."""
        try:
            await asyncio.wait_for(self._open.wait(), _OPENS_WITHIN_S)
        except TimeoutError:
            raise OSError(f"the bridge {self._address} does not open; the egress process's log says why") from None

    def cut(self) -> None:
        """End all its connections. It opens again at once."""
        self._open.clear()
        self._kill()

    def close(self) -> None:
        """End it."""
        self._task.cancel()

    async def closed(self) -> None:
        """Wait until nothing of it is left."""
        await self._done.wait()

    def _kill(self) -> None:
        # Each connection is a process of its own in socat's group.
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _keep(self) -> None:
        failures = 0
        try:
            while True:
                started = asyncio.get_running_loop().time()
                await self._run()
                lived_s = asyncio.get_running_loop().time() - started
                failures = 0 if lived_s > 1.0 else min(failures + 1, len(BACKOFF_S) - 1)
                await asyncio.sleep(BACKOFF_S[failures])
        finally:
            self._kill()
            with suppress(OSError):
                self._socket.unlink()
            self._done.set()

    async def _run(self) -> None:
        socat = program("socat")
        if socat is None or not self._port():
            await asyncio.sleep(0.1)
            return
        with suppress(FileNotFoundError):
            self._socket.unlink()
        self._process = await asyncio.create_subprocess_exec(
            *dies_with_us(), socat,
            f"UNIX-LISTEN:{self._socket},fork,mode=0666,max-children={_CONNECTIONS}",
            f"TCP:127.0.0.1:{self._port()},bind={self._address}",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as group:
                opening = group.create_task(self._announce(), name=f"open {self._address}")
                await self._process.wait()
                opening.cancel()
        finally:
            self._open.clear()
            self._kill()  # its children too, whoever killed it
            await self._process.wait()

    async def _announce(self) -> None:
        while not self._socket.is_socket():
            await asyncio.sleep(0.01)
        self._open.set()
