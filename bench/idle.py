"""Terminals that nobody types in: what they cost, how long fifty take to open, what is left once they are closed."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from bench.arena import Arena
from bench.contender import within
from bench.figures import Bar, Result, Table, middle, ratios, times
from bench.machine import Memory, conmon_pids, inside_pids
from bench.orchestrator import Session
from bench.raw_socket import RawTerminal

_SHELL_ARGV = ["sh", "-c", "printf READY; exec bash"]
_OPENINGS = 3
_LEFT_AFTER_S = 5.0
_KB = 1000


async def measure(arena: Arena) -> Result:
    """Weigh both processes, then open and close."""
    count = arena.options.terminals
    pids = [arena.worker.gateway_pid(arena.path), arena.worker.executor_pid]
    rest = [Memory.of([pid]) for pid in pids]
    raw_s, ours_s, per_terminal = [], [], 0.0
    left: dict[str, tuple[int, int]] = {}
    for number in range(_OPENINGS):
        before = _processes(arena)
        seconds, raw = await _open_raw(arena, count)
        raw_s.append(seconds)
        for terminal in raw:
            terminal._connection.send(b"exit\n")  # noqa: SLF001 - the only thing said to it
        await asyncio.sleep(_LEFT_AFTER_S)
        left["raw engine socket, shells ended by exit"] = _left(arena, before)
        for terminal in raw:
            terminal.close()
        before, weight = _processes(arena), Memory.of(pids)
        seconds, ours = await _open_ours(arena, count)
        ours_s.append(seconds)
        if number == 0:
            await asyncio.sleep(1.0)
            per_terminal = (Memory.of(pids).uss - weight.uss) / count
        async with asyncio.TaskGroup() as tasks:
            for session in ours:
                tasks.create_task(session.close(), name="close")
        await asyncio.sleep(_LEFT_AFTER_S)
        left["our path, terminal.close"] = _left(arena, before)
    both = Memory.of(pids)
    to_raw = ratios(ours_s, raw_s)
    rss = sum(memory.rss for memory in rest)
    shells, helpers = left["our path, terminal.close"]
    tables = [
        Table(
            "At rest: memory with one DevBox and no terminal",
            ("", "RSS MB", "PSS MB", "unshared MB"),
            [
                (name, f"{m.rss / 1e6:.1f}", f"{m.pss / 1e6:.1f}", f"{m.uss / 1e6:.1f}")
                for name, m in zip(("gateway", "executor"), rest, strict=True)
            ]
            + [
                (
                    f"both after {_OPENINGS} × {count} terminals",
                    *(f"{b / 1e6:.1f}" for b in (both.rss, both.pss, both.uss)),
                )
            ],
            f"From the start of both processes to registered: {arena.start_s:.2f} s.",
        ),
        Table(
            f"Opening {count} terminals at once, {_OPENINGS} times, each with its prompt",
            ("", "s", "/ raw"),
            [
                ("raw engine socket", f"{middle(raw_s):.2f}", "1.00×"),
                ("our path", f"{middle(ours_s):.2f}", times(to_raw)),
            ],
            f"An idle terminal takes {per_terminal / _KB:.0f} KB of unshared memory in both processes together.",
        ),
        Table(
            f"Left {_LEFT_AFTER_S:.0f} s after closing {count} terminals",
            ("", "processes in the container", "the engine's helpers"),
            [(name, str(inside), str(outside)) for name, (inside, outside) in left.items()],
            "Podman keeps conmon for exit_command_delay seconds after a command has ended, whoever started it.",
        ),
    ]
    bars = [
        Bar(f"open {count} terminals / raw", middle(to_raw), 1.2, 1.05),
        Bar("memory per idle terminal, both", per_terminal / _KB, 80, 50, unit="KB"),
        Bar("resident memory at rest, both", rss / 1e6, 95, 70, unit="MB"),
        Bar("start to registered", arena.start_s, 1.0, 0.5, unit="s"),
        Bar(f"processes in the container 5 s after closing {count}", shells, 0, 0, unit=""),
        Bar(f"engine's helpers 5 s after closing {count}", helpers, 0, 0, unit=""),
    ]
    return Result(tables, bars)


async def _open_raw(arena: Arena, count: int) -> tuple[float, list[RawTerminal]]:
    began = time.perf_counter()
    with ThreadPoolExecutor(count) as threads:
        loop = asyncio.get_running_loop()
        opening = [loop.run_in_executor(threads, arena.raw.open_now, _SHELL_ARGV) for _ in range(count)]
        terminals = await asyncio.gather(*opening)
    return time.perf_counter() - began, list(terminals)


async def _open_ours(arena: Arena, count: int) -> tuple[float, list[Session]]:
    async def open_one() -> Session:
        session = await arena.link.open(arena.devbox_id, _SHELL_ARGV)
        await within(session.arrival(1), "a prompt")
        return session

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        opening = [tasks.create_task(open_one(), name="open") for _ in range(count)]
    return time.perf_counter() - began, [task.result() for task in opening]


def _processes(arena: Arena) -> tuple[set[int], set[int]]:
    return set(inside_pids(arena.container_pid)), set(conmon_pids(arena.container))


def _left(arena: Arena, before: tuple[set[int], set[int]]) -> tuple[int, int]:
    inside, outside = _processes(arena)
    return len(inside - before[0]), len(outside - before[1])
