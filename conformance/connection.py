"""The connection itself: what a worker says first, its pulse, and that it comes back."""

import asyncio
from itertools import pairwise

from conformance.orchestrator import BINARY, Json, Violation
from conformance.scene import Scene, demand, same

_PULSE_S = 10.0


async def the_worker_registers_with_what_it_is(scene: Scene) -> None:
    """The handshake has token, ids, agent and subprotocols; the first message is worker.register."""
    headers, register = scene.peer.headers, scene.register
    for name in ("X-ClusterCode-Worker-Id", "X-ClusterCode-Tenant-Id", "User-Agent"):
        demand(bool(headers.get(name)), f"the handshake has no header {name}")
    offered = {name.strip() for name in headers.get("Sec-WebSocket-Protocol", "").split(",")}
    demand(offered >= {BINARY, "clustercode.v1"}, f"the subprotocols offered are {sorted(offered)}")
    fixed = {"name", "hostname", "platform", "cpuCount", "memoryTotal", "containerEngines", "agentVersion", "mode"}
    demand(fixed <= register.keys(), f"worker.register lacks {sorted(fixed - register.keys())}")
    demand(register["cpuCount"] > 0 and register["memoryTotal"] > 0, "worker.register has no CPUs or memory")
    demand(set(register["containerEngines"]) <= {"podman", "docker"}, "worker.register names an unknown engine")
    demand(bool(register["containerEngines"]), "worker.register names no engine")


async def it_returns_within_seconds_after_a_cut(scene: Scene) -> None:
    """The first wait is at most a second, and it registers as the same worker."""
    before = scene.register
    loop = asyncio.get_running_loop()
    began = loop.time()
    await scene.cut()
    took_s = scene.peer.at - began
    demand(took_s < 5, f"it dialed again after {took_s:.1f} s, where at most 1 s and the dialing itself are due")
    for name in ("name", "hostname", "workerId", "tenantId"):
        same(scene.register.get(name), before.get(name), f"{name} after the cut")


async def the_heart_beats_every_ten_seconds(scene: Scene) -> None:
    """Two heartbeats in a row come 10 s apart, with load, memory and the number of running DevBoxes."""
    await scene.create()
    peer = scene.peer

    def beats() -> list[Json]:
        return [message["payload"] for message in peer.waiting if message["type"] == "worker.heartbeat"]

    try:
        await peer.until(lambda: any(beat.get("containersRunning", 0) >= 1 for beat in beats()), 45)
        await peer.until(lambda: any(abs(b - a - _PULSE_S) < 1 for a, b in pairwise(peer.heartbeats)), 45)
    except TimeoutError:
        raise Violation(f"they came at {peer.heartbeats}, in seconds; the last said {beats()[-1:]}") from None
    beat = beats()[-1]
    demand(0 <= beat["cpuUsage"] <= 100, f"cpuUsage is {beat['cpuUsage']}")
    demand(beat["memoryFree"] > 0, "memoryFree is 0")


CHECKS = (
    the_worker_registers_with_what_it_is,
    the_heart_beats_every_ten_seconds,
    it_returns_within_seconds_after_a_cut,
)
