"""Flood: a file through the terminal as fast as it goes, each checked by its hash, and the CPU time it cost."""

import base64
import hashlib
import os
import subprocess

from bench.arena import Arena
from bench.contender import FLOOD_ARGV, FLOOD_PATH
from bench.figures import Bar, Result, Table, middle, ratios, times
from bench.machine import conmon_pids, cpu_s

_GB = 1e9


def write_file(container: str, size: int) -> str:
    """Put the flood into the container, lines of text as a log has them; return its SHA-256."""
    text = base64.encodebytes(os.urandom(size))[:size]
    subprocess.run(
        ["podman", "exec", "-i", container, "sh", "-c", f"cat >{FLOOD_PATH}"], input=text, check=True, timeout=60
    )
    return hashlib.sha256(text).hexdigest()


async def measure(arena: Arena) -> Result:
    """Let all flood in turn."""
    size = arena.options.flood_bytes
    expected = write_file(arena.container, size)
    contenders = arena.contenders
    terminals = [await contender.open(FLOOD_ARGV) for contender in contenders]
    engine_pids = [arena.engine.pid, *conmon_pids(arena.container)]
    own_pids = [contender.server_pids() for contender in contenders]
    rate: list[list[float]] = [[] for _ in contenders]
    engine_cpu: list[list[float]] = [[] for _ in contenders]
    own_cpu: list[list[float]] = [[] for _ in contenders]
    chunk: list[list[float]] = [[] for _ in contenders]
    for number in range(-1, arena.options.rounds):
        for i in arena.in_turn(number):
            engine_before, own_before = cpu_s(engine_pids), cpu_s(own_pids[i])
            flood = await terminals[i].flood(size)
            engine_after, own_after = cpu_s(engine_pids), cpu_s(own_pids[i])
            found = hashlib.sha256(b"".join(flood.chunks)).hexdigest()
            if found != expected:
                raise ValueError(f"{contenders[i].name}: the flood arrived damaged")
            if number < 0:
                continue  # warms up
            rate[i].append(size / flood.seconds / 1e6)
            engine_cpu[i].append((engine_after - engine_before) / size * _GB)
            own_cpu[i].append((own_after - own_before) / size * _GB)
            chunk[i].append(size / len(flood.chunks) / 1024)
    peer = len(contenders) - 1
    cpu = [[a + b for a, b in zip(engine_cpu[i], own_cpu[i], strict=True)] for i in range(len(contenders))]
    rows, bars = [], []
    for i, contender in enumerate(contenders):
        to_raw, to_peer = ratios(rate[i], rate[0]), ratios(rate[i], rate[peer])
        cpu_to_peer = ratios(cpu[i], cpu[peer])
        rows.append((
            contender.name, f"{middle(rate[i]):.1f}", times(to_raw), f"{middle(to_peer):.2f}×",
            f"{middle(chunk[i]):.0f}", f"{middle(engine_cpu[i]):.1f}", f"{middle(own_cpu[i]):.1f}",
            f"{middle(ratios(cpu[i], cpu[0])):.2f}×", f"{middle(cpu_to_peer):.2f}×",
        ))  # fmt: skip
        if 0 < i < peer:
            kind = contender.name.split(", ")[1]
            must, ambition = (0.75, 0.90) if kind == "binary" else (0.65, 0.80)
            bars.append(Bar(f"flood / raw socket, {kind}", middle(to_raw), must, ambition, "at least", decides=True))
    title = f"Flood: {size / 2**20:.0f} MiB of text, {arena.options.rounds} rounds, every one intact by SHA-256"
    heads = ("", "MB/s", "/ raw", "/ peer", "KiB a piece", "engine s/GB", "own s/GB", "CPU / raw", "CPU / peer")
    note = "CPU: engine service and conmon, and what stands between them and the client; not the client itself."
    return Result([Table(title, heads, rows, note)], bars)
