"""An exec's stream, taken over from an engine that is a socket here: input that the engine does not read."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from executor.exec_stream import READ_BYTES, start_exec

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Receiver:
    """Takes notes."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()
        self.is_over = asyncio.Event()

    def room(self) -> int:
        return READ_BYTES

    def output(self, data: memoryview) -> None:
        pass

    def input_taken(self) -> None:
        self.taken.set()

    def ended(self) -> None:
        self.is_over.set()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    def on_loop(case: Coroutine[Any, Any, None]) -> None:
        loop = LOOPS[request.param]()
        try:
            loop.run_until_complete(asyncio.wait_for(case, 60))
        finally:
            loop.close()

    return on_loop


def test_single_keys_that_nobody_reads_cost_their_bytes(
    run: Callable[[Coroutine[Any, Any, None]], None], tmp_path: Path
) -> None:
    """However many there are; then all of them come, in order, and the end behind them."""
    keys = [b"%02d" % (number % 100) for number in range(400_000)]

    async def case() -> None:
        reads, found = asyncio.Event(), bytearray()

        async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n{")
            await reader.readuntil(b"}")
            writer.write(b"HTTP/1.1 101 UPGRADED\r\n\r\n")
            reader._transport.pause_reading()  # type: ignore[attr-defined] - else it reads on by itself
            await reads.wait()
            reader._transport.resume_reading()  # type: ignore[attr-defined]
            found.extend(await reader.read())
            writer.close()

        server = await asyncio.start_unix_server(engine, str(tmp_path / "socket"))
        receiver = Receiver()
        stream = await start_exec(tmp_path / "socket", "1", receiver, tty=True)
        before = psutil.Process().memory_info().rss
        for key in keys:
            stream.write(key)
        stream.write_eof()
        written = psutil.Process().memory_info().rss - before
        assert not receiver.taken.is_set()
        assert 0 < stream.unwritten_bytes < 800_000
        reads.set()
        await receiver.is_over.wait()
        assert receiver.taken.is_set()
        assert bytes(found) == b"".join(keys)
        assert written < 8 * 1024**2
        server.close()
        await server.wait_closed()

    run(case())
