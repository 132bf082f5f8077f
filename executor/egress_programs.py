"""Programs that the egress process runs: where they are, how they end, and what they say."""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable

_PATH = os.pathsep.join((*os.get_exec_path(), "/usr/sbin", "/sbin"))


def program(name: str) -> str | None:
    """Return where a program is; an ordinary user's PATH has not all places."""
    return shutil.which(name, path=_PATH)


def dies_with_us() -> tuple[str, ...]:
    """Return what makes a program end with this process, however that ends."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM") if setpriv else ()


def free_port() -> int:
    """Return a port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def end(process: asyncio.subprocess.Process) -> None:
    """End a program that may run and has nothing to save."""
    if process.returncode is None:
        process.kill()
        await process.wait()


async def log_pipe() -> tuple[asyncio.StreamReader, int]:
    """Return both ends of a pipe; what asyncio makes for output may be a socket, which Squid cannot open."""
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )
    return reader, writing


async def each_line(stream: asyncio.StreamReader | None, take: Callable[[str], None]) -> None:
    """Read a program's lines until it ends; one that is too long is left out."""
    assert stream is not None  # noqa: S101 - asked for as a pipe
    while True:
        try:
            line = await stream.readuntil()
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError as overrun:
            await stream.readexactly(overrun.consumed)
            continue
        take(line.decode(errors="replace").rstrip("\n"))
