"""``clustercode demo``: console, worker and a first DevBox on this machine; all but images is removed at the end.

With ``--check`` it walks the whole path itself, without a browser: create, command, terminal, resize, remove.
"""

import asyncio
import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from clustercode import program
from console.app import Console, serve
from console.config import TENANT, ConsoleConfig
from console.errors import ConsoleError
from console.terminal_client import Terminal
from console.workers import WorkerLink
from executor.egress_image import LABEL as EGRESS_LABEL
from protos.errors import Refusal

log = logging.getLogger(__name__)

_WORKER_START_S = 60.0
_STOP_S = 30.0


async def run(*, check: bool, port: int, image: str) -> int:
    """Run the demo until Ctrl-C, or the check until its end; returns the exit code."""
    directory = Path(tempfile.mkdtemp(prefix="clustercode-demo-"))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: its terminal was closed
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with (
            serve(ConsoleConfig(data_dir=directory / "console", port=port, program=program.shown())) as console,
            _worker(console, directory, stop) as link,
        ):
            try:
                first = await _create(link, image)
                await (_check(link, first["id"]) if check else _show(console, stop))
            finally:
                is_clear = await _remove_all(link)
    except (ConsoleError, Refusal, TimeoutError) as error:
        print(f"clustercode demo: {error or 'the worker took too long'}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if not is_clear:
        return 1
    print(f"{'Check passed; everything' if check else 'Everything'} is removed {_stays(first['engine'], image)}")
    return 0


async def _show(console: Console, stop: asyncio.Event) -> None:
    """Say where the page is, and wait."""
    print(
        f"\nOpen this address in your browser (it works once):\n\n    {console.new_page_url()}\n\n"
        "Ctrl-C stops the demo and removes its DevBoxes. To keep DevBoxes, run instead\n\n"
        f"    {program.shown()} console\n\nand, in another shell, the command that it prints.",
        flush=True,
    )
    await stop.wait()
    print("\nRemoving the demo's DevBoxes ...")


async def _check(link: WorkerLink, devbox_id: str) -> None:
    """Walk the whole path; raises `Refusal` or `TimeoutError` where it breaks."""
    answer = await link.request("DevBox.exec", {"devboxId": devbox_id, "command": "echo hello from $(id -un)"})
    if answer["exitCode"] != 0 or not answer["stdout"].startswith("hello from "):
        raise ConsoleError(f"the command did not answer as it should: {answer}")
    print(f"Ran a command: {answer['stdout'].strip()}")
    async with Terminal(link, devbox_id, cols=80, rows=24) as terminal:
        # The quotes keep the echo of what is typed from looking like the answer.
        await terminal.write(b"echo si''ze $(stty size)\n")
        await terminal.read_until(b"size 24 80", timeout_s=20)
        print("Opened a terminal of 80 x 24")
        terminal.resize(120, 40)
        # The size arrives on its own way, so the shell is asked until it has.
        await terminal.write(b'until [ "$(stty size)" = "40 120" ]; do sleep 0.1; done; echo si\'\'ze $(stty size)\n')
        await terminal.read_until(b"size 40 120", timeout_s=20)
        print("Resized it; stty says 40 120")


async def _create(link: WorkerLink, image: str) -> dict[str, Any]:
    def on_progress(progress: Any) -> None:  # noqa: ANN401 - the protocol's
        print(f"  {progress.get('message', '')}")

    print(f"Creating a DevBox from {image}")
    answer = await link.request("DevBox.create", {"name": "demo", "image": image}, on_progress=on_progress)
    devbox: dict[str, Any] = answer["devbox"]
    print(f"DevBox {devbox['name']} ({devbox['id']}) is {devbox['state']}")
    return devbox


async def _remove_all(link: WorkerLink) -> bool:
    """Remove every DevBox of the demo's worker; says so where that fails, and returns whether it did not."""
    try:
        for devbox in (await link.request("DevBox.list", {}))["devboxes"]:
            await link.request("DevBox.remove", {"devboxId": devbox["id"], "force": True})
    except Refusal as refusal:
        print(f"DevBoxes may be left behind ({refusal}): '{program.shown()} doctor' says how to remove them.")
        return False
    return True


def _stays(engine: str, image: str) -> str:
    """Say what is not removed, since the next demo starts from it, and how to do that."""
    beside = f"$({engine} images -q --filter label={EGRESS_LABEL})"
    return (
        "but for images, with which the next demo\nstarts sooner. To remove those too:\n\n"
        f"    {engine} rmi {shlex.quote(image)} {beside}"
    )


@asynccontextmanager
async def _worker(console: Console, directory: Path, stop: asyncio.Event) -> AsyncIterator[WorkerLink]:
    """Run a worker with a data directory of its own; give its link once it is connected, unless that is stopped."""
    log_path = directory / "worker.log"
    with log_path.open("wb") as log_file:
        process = await asyncio.create_subprocess_exec(
            *program.command("worker"),
            "--mode", "byom", "--url", console.worker_url, "--token-file", str(console.token_file), "--tenant", TENANT,
            "--data-dir", str(directory / "data"),
            stdin=asyncio.subprocess.DEVNULL, stdout=log_file, stderr=log_file,
            env={
                **{key: value for key, value in os.environ.items() if key not in ("WORKER_ID", "AGENT_CONFIG")},
                "LOG_FORMAT": "text",
            },
            start_new_session=True,
        )  # fmt: skip
    try:
        try:
            link = await _connected(console, process, stop)
        except ConsoleError:
            print(log_path.read_text(errors="replace")[-4000:], file=sys.stderr)
            raise
        yield link
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _connected(console: Console, process: asyncio.subprocess.Process, stop: asyncio.Event) -> WorkerLink:
    async with asyncio.TaskGroup() as group:
        ended = group.create_task(process.wait(), name="worker ends")
        stopped = group.create_task(stop.wait(), name="stop")
        link = group.create_task(_arriving(console), name="worker connects")
        await asyncio.wait((ended, stopped, link), return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, stopped, link):
            task.cancel()
    if not link.cancelled() and (found := link.result()) is not None:
        return found
    if not stopped.cancelled():
        raise ConsoleError("stopped before the worker was connected")
    why = f"the worker did not connect in {_WORKER_START_S:.0f} s" if ended.cancelled() else "the worker ended first"
    raise ConsoleError(f"{why}; its log is above")


async def _arriving(console: Console) -> WorkerLink | None:
    with suppress(TimeoutError):
        return await console.worker(timeout_s=_WORKER_START_S)
    return None
