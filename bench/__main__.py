"""The program. Exit code 0: every bar that decides is met; 1: one is missed, or something broke."""

import asyncio
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import psutil

from bench import beside, command, echo, flood, idle
from bench.arena import Arena, Options
from bench.engine import Api, Engine
from bench.figures import Result
from bench.orchestrator import running_orchestrator
from bench.paper import print_bars, print_table
from bench.raw_socket import RawSocket
from bench.terminado_peer import Terminado
from bench.worker import IMAGE, OurPath, Worker

MEASURES: dict[str, Callable[[Arena], Awaitable[Result]]] = {
    "command": command.measure,  # before the engine has terminals to tidy up after
    "idle": idle.measure,  # early: memory is weighed in processes that have carried nothing yet
    "echo": echo.measure,
    "flood": flood.measure,
    "beside": beside.measure,
}
_MAIN_PATH = "/main/binary"
_THOROUGH = Options(rounds=7, echoes=500, flood_bytes=32 * 2**20, keystrokes=100, terminals=50)
_QUICK = Options(rounds=3, echoes=200, flood_bytes=16 * 2**20, keystrokes=40, terminals=10)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", type=click.IntRange(1), help="Rounds, each with all in turn.  [default: 7, quick 3]")
@click.option("--quick", is_flag=True, help="A first impression in under a minute; its figures are rough.")
@click.option(
    "--only", type=click.Choice(list(MEASURES)), multiple=True, help="Only this; may be given more than once."
)
@click.option("--nice", default=0, help="Priority of everything measured; a negative one, as root, on a busy machine.")
def main(rounds: int | None, *, quick: bool, only: tuple[str, ...], nice: int) -> None:
    """Measure our whole terminal path next to the engine's own socket and to terminado.

    Everything in one run, on one container, in turn: only the ratios of one run mean anything.
    """
    missing = [what for what in ("podman",) if shutil.which(what) is None]
    if missing or subprocess.run(["podman", "image", "exists", IMAGE], check=False).returncode != 0:
        sys.exit(
            f"The bench needs Podman and the image {IMAGE}: run it by 'make bench', or 'make engine images' first."
        )
    os.nice(nice)
    options = _QUICK if quick else _THOROUGH
    if rounds is not None:
        options = Options(**{**vars(options), "rounds": rounds})
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        met = runner.run(_run(options, [name for name in MEASURES if not only or name in only]))
    sys.exit(0 if met else 1)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that the worker would take."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _run(options: Options, names: list[str]) -> bool:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    print(_header())
    bars = []
    async with _arena(options) as arena:
        for name in names:
            result = await MEASURES[name](arena)
            for table in result.tables:
                print_table(table)
            sys.stdout.flush()
            bars += result.bars
    return print_bars(bars)


@asynccontextmanager
async def _arena(options: Options) -> AsyncIterator[Arena]:
    """Start everything; end and remove everything."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cc-bench-")))
        engine = stack.enter_context(Engine(directory))
        orchestrator = await stack.enter_async_context(running_orchestrator())
        began = time.monotonic()
        worker = await stack.enter_async_context(Worker(engine, orchestrator, directory))
        link = await worker.connect(_MAIN_PATH)
        start_s = link.registered_at - began
        devbox_id, container = await worker.create_box(link)
        with Api(engine) as api:
            container_pid = int(api.call("GET", f"/containers/{container}/json")["State"]["Pid"])
        json_path = "/main/json"
        json_link = await worker.connect(json_path)
        raw = RawSocket(engine, container)
        peer = await stack.enter_async_context(Terminado(container, directory))
        yield Arena(
            options=options, engine=engine, orchestrator=orchestrator, worker=worker, link=link, path=_MAIN_PATH,
            devbox_id=devbox_id, container=container, container_pid=container_pid, start_s=start_s, raw=raw,
            contenders=(
                raw,
                OurPath(worker, json_link, json_path, devbox_id),
                OurPath(worker, link, _MAIN_PATH, devbox_id),
                peer,
            ),
        )  # fmt: skip


def _header() -> str:
    podman = subprocess.run(["podman", "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC · {os.cpu_count()} cores, "
        f"{psutil.cpu_percent(1.0):.0f} % busy with other things · "
        f"Linux {platform.release()} · Podman {podman} · Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
