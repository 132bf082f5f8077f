"""The whole console on one screen: what listens where, started and stopped in order."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from console.browsers import BrowserSocket
from console.config import TENANT, ConsoleConfig
from console.errors import ConsoleError
from console.pages import Pages
from console.registry import Workers
from console.tokens import Admission, worker_token
from console.worker_socket import WorkerSocket
from console.workers import WorkerLink

__all__ = ["Console", "ConsoleConfig", "run", "serve"]

HOST = "127.0.0.1"
_SHUTDOWN_S = 1.0


@dataclass(frozen=True)
class Console:
    """A console that runs."""

    port: int
    worker_token: str
    token_file: Path
    program: str
    workers: Workers
    worker_socket: WorkerSocket
    browser_socket: BrowserSocket
    admission: Admission

    def new_page_url(self) -> str:
        """Return a new address for one browser; it works once."""
        return f"{self.base_url}/?token={self.admission.mint()}"

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    @property
    def worker_url(self) -> str:
        """Where workers connect."""
        return f"ws://{HOST}:{self.port}/ws/worker"

    @property
    def worker_command(self) -> str:
        """What connects a worker, in a shell of this machine."""
        token_file = shlex.quote(str(self.token_file))
        return f"{self.program} worker --url {self.worker_url} --token-file {token_file} --tenant {TENANT}"

    async def worker(self, worker_id: str | None = None, timeout_s: float = 10) -> WorkerLink:
        """Return a connected worker once there is one; raises `TimeoutError`."""
        return await self.workers.wait(worker_id, timeout_s)


@asynccontextmanager
async def serve(config: ConsoleConfig) -> AsyncIterator[Console]:
    """Run a console while the context is open; raises `ConsoleError`. Installs no signal handlers."""
    token_file, token = worker_token(config.data_dir)
    admission = Admission()
    workers = Workers(config)
    pages = Pages(admission, token)
    worker_socket = WorkerSocket(config, workers, token)
    browser_socket = BrowserSocket(config, workers, pages)

    app = web.Application(middlewares=[pages.guard])
    app.add_routes(pages.routes())
    app.add_routes([web.get("/ws/worker", worker_socket.handle), web.get("/ws/browser", browser_socket.handle)])
    app.on_response_prepare.append(pages.add_headers)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        port = await _listen(runner, config.port)
        console = Console(
            port=port,
            worker_token=token,
            token_file=token_file,
            program=config.program,
            workers=workers,
            worker_socket=worker_socket,
            browser_socket=browser_socket,
            admission=admission,
        )
        pages.port = port
        browser_socket.worker_command = console.worker_command
        yield console
    finally:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker_socket.close(), name="close workers")
            tasks.create_task(browser_socket.close(), name="close pages")
        await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int) -> int:
    try:
        await web.TCPSite(runner, HOST, port).start()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error  # asyncio's own text repeats the address
        raise ConsoleError(
            f"Port {port} on {HOST} cannot be used ({why}): choose another with --port, 0 takes any."
        ) from error
    return int(runner.addresses[0][1])


def _announce(console: Console) -> None:
    sys.stdout.write(
        f"Console:  {console.new_page_url()}\n"
        "          Open this address in a browser; it works once.\n"
        f"Worker:   {console.worker_command}\n"
    )
    sys.stdout.flush()


async def run(config: ConsoleConfig, announce: Callable[[Console], None] = _announce) -> None:
    """Run a console until SIGINT or SIGTERM; a second signal ends it at once. Raises `ConsoleError`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    async with serve(config) as console:
        for number in signals:
            loop.add_signal_handler(number, stop.set)
        announce(console)
        await stop.wait()
        for number in signals:
            loop.remove_signal_handler(number)
