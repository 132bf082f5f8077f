"""Keystrokes in ten terminals beside one that floods: on a link at full speed, and on one of 5 MB/s."""

import asyncio
import hashlib
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from bench.arena import Arena
from bench.contender import ECHO_ARGV, READY
from bench.figures import Bar, Result, Table, percentile
from bench.orchestrator import Session
from bench.slow_link import slow_link

TYPISTS = 10
SLOW_BYTES_PER_S = 5e6
_KEY_EVERY_S = 0.03
_PHASE_S = 30.0
"""A phase takes 3 seconds where keystrokes return; one that has not ended by then has failed."""
_RESUME_S = 2.5
"""Without acknowledgements a worker looks for sessions of an earlier connection two seconds after it registered; what
is just being opened then is in its way."""
_CLOSE_S = 20.0
_LINE = b"y" * 79
_YES_ARGV = ["sh", "-c", f"stty raw -echo; printf READY; read -r _; exec yes {_LINE.decode()}"]


@dataclass(frozen=True)
class _Way:
    """A link, and how the orchestrator on it speaks."""

    name: str
    path: str
    is_slow: bool


_WAYS = (
    _Way("full speed, acks", "/beside/fast/binary", is_slow=False),
    _Way("5 MB/s, acks", "/beside/slow/binary", is_slow=True),
    _Way("5 MB/s, JSON, acks", "/beside/slow/json", is_slow=True),
    _Way("5 MB/s, JSON, no acks", "/beside/slow/plain", is_slow=True),
)


async def measure(arena: Arena) -> Result:
    """Try each way."""
    rows, bars = [], []
    for way in _WAYS:
        quiet, flooded, rate = await _try(arena, way)
        shown = [f"{percentile(took, percent) * 1e3:.1f}" for took in (quiet, flooded) for percent in (50, 99) if took]
        ratio = percentile(flooded, 99) / percentile(quiet, 99) if flooded else float("inf")
        ended = "yes" if flooded else f"not within {_PHASE_S:.0f} s"
        rows.append(
            (way.name, *(shown if flooded else (*shown, "–", "–")), f"{ratio:.1f}×", f"{rate / 1e6:.1f}", ended)
        )
        if way.is_slow:
            bars.append(
                Bar(
                    f"keystrokes return beside a flood, {way.name}",
                    bool(flooded),
                    1,
                    None,
                    "at least",
                    "",
                    decides=True,
                )
            )
            bars.append(Bar(f"echo p99 beside a flood / quiet, {way.name}", ratio, 8, 3))
        else:
            bars.append(Bar(f"echo p99 beside a flood / quiet, {way.name}", ratio, 5, 2))
    title = f"Beside a flood: keystrokes in {TYPISTS} other terminals, all at once each 30 ms"
    heads = ("link", "quiet p50 ms", "p99 ms", "flooded p50 ms", "p99 ms", "p99 / quiet", "flood MB/s", "phase ended")
    return Result([Table(title, heads, rows, "The flood's bytes were checked as far as they came.")], bars)


async def _try(arena: Arena, way: _Way) -> tuple[list[float], list[float], float]:
    """Return the times of a quiet phase and of one beside a flood (empty: it did not end), and the flood's rate."""
    async with AsyncExitStack() as stack:
        port = None
        if way.is_slow:
            port = await stack.enter_async_context(slow_link(arena.orchestrator.port, SLOW_BYTES_PER_S))
        link = await arena.worker.connect(way.path, port)
        stack.push_async_callback(arena.worker.disconnect, way.path)
        if not link.acks:
            await asyncio.sleep(_RESUME_S)
        typists = [await link.open(arena.devbox_id, ECHO_ARGV) for _ in range(TYPISTS)]
        flooder = await link.open(arena.devbox_id, _YES_ARGV)
        for session in (*typists, flooder):
            await session.ready()
        quiet = await _phase(typists, arena.options.keystrokes)
        flooder.type(b"\n")
        await asyncio.sleep(1.0)
        now = asyncio.get_running_loop().time
        began, bytes_before = now(), flooder.received
        try:
            flooded = await _phase(typists, arena.options.keystrokes)
        except TimeoutError:
            flooded = []
        rate = (flooder.received - bytes_before) / (now() - began)
        _check(flooder)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                for session in (flooder, *typists):
                    await session.close()
    return quiet, flooded, rate


async def _phase(typists: list[Session], keystrokes: int) -> list[float]:
    """Type in all; raises `TimeoutError` if the keystrokes do not come back."""
    now = asyncio.get_running_loop().time
    began = now()

    async def type_in(session: Session) -> list[float]:
        took = []
        for number in range(keystrokes):
            await asyncio.sleep(max(0.0, began + number * _KEY_EVERY_S - now()))
            took += await session.echo(1)
        return took

    async with asyncio.timeout(_PHASE_S), asyncio.TaskGroup() as tasks:
        typing = [tasks.create_task(type_in(session), name="typist") for session in typists]
    return [seconds for task in typing for seconds in task.result()]


def _check(flooder: Session) -> None:
    found = b"".join(flooder.chunks)
    assert len(found) == flooder.received - len(READY)
    line = _LINE + b"\n"
    expected = line * (len(found) // len(line) + 1)
    if hashlib.sha256(found).digest() != hashlib.sha256(expected[: len(found)]).digest():
        raise ValueError("a flood arrived damaged")
