"""``DevBox.exec``: run a command in a box and wait for its end.

It is reported as ended only with proof: both output streams ended and the exit code known; a timeout or a cancel is
answered after the whole process tree is gone.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from executor.engine import Engine
from executor.exec_stream import READ_BYTES, Demultiplexer, ExecStream
from executor.processes import MARKER_VARIABLE, exit_code, has_ended, kill_lost, kill_marked, new_marker
from executor.requests import ExecDevBox
from executor.scrollback import Scrollback
from protos.errors import DeadlineExceeded, Refusal, Unavailable

OnChunk = Callable[[bool, bytes], Awaitable[None]]
"""Called with (from standard error, bytes); may take its time: the command then waits."""


@dataclass(frozen=True)
class ExecResult:
    """How a command ended; the outputs are its head and its tail, ``*_cut`` the bytes missing between."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    stdout_cut: int
    stderr_cut: int
    duration_ms: int


class HeadAndTail:
    """Keeps the first and the last half of a stream within ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._head_bytes = max_bytes - max_bytes // 2
        self._head = bytearray()
        self._tail = Scrollback(max(1, max_bytes // 2))

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        missing = self._head_bytes - len(self._head)
        self._head += data[:missing]
        if len(data) > missing:
            self._tail.append(data[missing:])

    @property
    def cut(self) -> int:
        """Bytes missing between head and tail."""
        return self._tail.base

    def result(self) -> bytes:
        """Return head and tail."""
        return bytes(self._head) + self._tail.read(self._tail.base, self._tail.end - self._tail.base)


class _Receiver:
    """Takes the multiplexed stream into a bounded hold, from which `pump` takes it at its own pace."""

    def __init__(self) -> None:
        self._demultiplexer = Demultiplexer()
        self._held: list[tuple[int, bytes]] = []
        self._held_bytes = 0
        self._changed = asyncio.Event()
        self._ended = False

    def room(self) -> int:
        return READ_BYTES - self._held_bytes

    def output(self, data: memoryview) -> None:
        self._held += self._demultiplexer.feed(data)
        self._held_bytes += len(data)
        self._changed.set()

    def input_taken(self) -> None:
        pass

    def ended(self) -> None:
        self._ended = True
        self._changed.set()

    async def take(self, stream: ExecStream) -> list[tuple[int, bytes]]:
        """Return what came since; empty once the stream has ended."""
        while not self._held and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        pieces, self._held, self._held_bytes = self._held, [], 0
        stream.check_room()
        return pieces


async def run_command(
    engine: Engine,
    container: str,
    request: ExecDevBox,
    env: dict[str, str],
    on_chunk: OnChunk | None,
    prefix: tuple[str, ...] = (),
    *,
    insist: bool = False,
) -> ExecResult:
    """Run a command to its end; ``prefix`` is what gives it its DevBox's secrets (`executor.secret_env`).

    Raises `DeadlineExceeded` after ``timeout_ms``, and lets a cancellation through, each after its processes are gone.
    Raises `Unavailable` where the engine lost it, after it was killed; ``insist``: for as long as `kill_lost` tries,
    since it does not end by itself.
    """
    marker = new_marker("exec")
    started = time.monotonic()
    exec_id = await engine.create_exec(
        container, (*prefix, *request.argv), env={**env, **request.env, MARKER_VARIABLE: marker}, user=request.user,
        workdir=request.workdir,
    )  # fmt: skip
    receiver = _Receiver()
    try:
        stream = await engine.start_exec(exec_id, receiver, tty=False)
    except (Unavailable, asyncio.CancelledError) as error:  # it may have started nevertheless
        is_away = isinstance(error, Unavailable)
        await _kill_lost(engine, container, marker, request.user, insist=insist and is_away)
        raise
    kept = {kind: HeadAndTail(request.max_output_bytes) for kind in (Demultiplexer.STDOUT, Demultiplexer.STDERR)}
    try:
        async with asyncio.timeout(request.timeout_ms / 1000):
            stream.write(request.stdin)
            stream.write_eof()
            while pieces := await receiver.take(stream):
                for kind, data in pieces:
                    kept[Demultiplexer.STDERR if kind == Demultiplexer.STDERR else Demultiplexer.STDOUT].add(data)
                    if on_chunk is not None:
                        await on_chunk(kind == Demultiplexer.STDERR, data)
            code = await exit_code(engine, exec_id)
    except TimeoutError:
        await _kill(engine, container, exec_id, marker, request.user)
        raise DeadlineExceeded(
            f"The command did not end within {request.timeout_ms / 1000:g} s and was killed with all it had started. "
            "Give it a longer timeoutMs, or run it in the background."
        ) from None
    except asyncio.CancelledError:
        # The cancellation was delivered, so these bounded waits run; a second one (the executor's end) cuts them short.
        await _kill(engine, container, exec_id, marker, request.user)
        raise
    finally:
        stream.close()
    if code == -1:
        # Its stream ended and it may run on.
        await _kill_lost(engine, container, marker, request.user, insist=insist)
        raise Unavailable("The engine lost the command: it may have run, and how it ended is not known.")
    out, err = kept[Demultiplexer.STDOUT], kept[Demultiplexer.STDERR]
    return ExecResult(
        exit_code=code,
        stdout=out.result(),
        stderr=err.result(),
        stdout_cut=out.cut,
        stderr_cut=err.cut,
        duration_ms=round((time.monotonic() - started) * 1000),
    )


async def _kill(engine: Engine, container: str, exec_id: str, marker: str, user: str) -> None:
    """Kill the command and make sure: a program that cleared its own environment is not found by its marker."""
    await kill_marked(engine, container, marker, scope="tree", user=user)
    if await exit_code(engine, exec_id, timeout_s=2.0) == -1 and not await has_ended(engine, container):
        raise Unavailable("The command hides from being killed: stop the DevBox.")


async def _kill_lost(engine: Engine, container: str, marker: str, user: str, *, insist: bool) -> None:
    if insist:
        await kill_lost(engine, container, marker, scope="tree", user=user)
        return
    with suppress(Refusal):
        await kill_marked(engine, container, marker, scope="tree", user=user)
