"""Figures for Prometheus: one look shows both processes, and is as Prometheus would read it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from conformance.orchestrator import Orchestrator, Peer, orchestrator
from gateway.health import connected
from tests.integration.commands import run
from tests.integration.conftest import (
    IMAGE,
    TENANT,
    Podman,
    Process,
    eventually,
    executor_process,
    gateway_process,
    lasting_peer,
    quiet_port,
    remove_all,
    started,
)

Figures = dict[tuple[str, ...], float]


@pytest.fixture
async def watched(podman: Podman) -> AsyncIterator[tuple[Orchestrator, Peer, Process, str]]:
    """An orchestrator, its connection, the executor, and where the figures are."""
    with TemporaryDirectory(prefix="cc-") as name:
        place = Path(name)
        address = f"127.0.0.1:{quiet_port()}"
        async with orchestrator(place) as cloud:
            executor = executor_process(podman, place)
            gateway = gateway_process(place, cloud.worker_url, cloud.token_file, "--metrics", address)
            try:
                async with started(executor, gateway):
                    peer, _ = await lasting_peer(cloud)
                    yield cloud, peer, executor, f"http://{address}/metrics"
            finally:
                remove_all(place / "data")


async def look(url: str) -> Figures:
    """Fetch the figures: name, then the values of the labels in the order of their names."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await response.text()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_look_shows_both_processes(watched: tuple[Orchestrator, Peer, Process, str]) -> None:
    """Connections, reconnects by reason, commands by type and code with latency, sessions, bytes, buffers, engine."""
    cloud, peer, executor, url = watched
    await look(url)  # from here on the executor counts
    created = await peer.ask("DevBox.create", {"tenantId": TENANT, "name": "box", "image": IMAGE})
    box = created["payload"]["devbox"]["id"]
    assert not (await peer.ask("DevBox.start", {"tenantId": TENANT, "devboxId": "none"}))["ok"]
    await peer.open(box, "s-1", command=["sh", "-c", "echo hello; cat"])
    await peer.shows("s-1", b"hello")

    opened = ("clustercode_gateway_command_seconds_count", "OK", "terminal.open")

    async def counted() -> bool:  # once the answer has gone out
        return (await look(url)).get(opened) == 1

    await eventually(counted)
    seen = await look(url)
    assert seen["clustercode_gateway_connected",] == 1
    assert seen["clustercode_gateway_command_seconds_count", "OK", "DevBox.create"] == 1
    assert seen["clustercode_gateway_command_seconds_sum", "OK", "DevBox.create"] > 0
    assert seen["clustercode_gateway_command_seconds_count", "NOT_FOUND", "DevBox.start"] == 1
    assert seen["clustercode_gateway_command_seconds_count", "OK", "terminal.open"] == 1
    assert seen["clustercode_gateway_sent_bytes_total",] > len("hello")
    assert seen["clustercode_gateway_received_bytes_total",] > 0
    assert seen["clustercode_gateway_answers_waiting",] == 0
    assert seen["clustercode_gateway_executor_up",] == 1
    assert seen["clustercode_gateway_process_resident_memory_bytes",] > 0
    assert seen["clustercode_executor_sessions",] == 1
    assert seen["clustercode_executor_scrollback_bytes",] >= len("hello")
    assert seen["clustercode_executor_engine_up",] == 1
    assert seen["clustercode_executor_engine_call_seconds_count", "create_container", "OK"] == 1
    assert any(key[0].endswith("engine_call_seconds_count") and key[2] == "NOT_FOUND" for key in seen)

    await peer.close(1012)
    peer, _ = await cloud.peer()

    async def again() -> bool:  # once the gateway knows that it is registered, after we do
        return (await look(url))["clustercode_gateway_connections_total",] >= 2

    await eventually(again)
    assert (await look(url))["clustercode_gateway_reconnects_total", "close_1012"] == 1

    await executor.kill()

    async def away() -> bool:
        return not any(name.startswith("clustercode_executor_") for name, *_ in await look(url))

    await eventually(away)


async def test_who_fetches_figures_is_no_connection_of_the_gateway_s(directory: Path) -> None:
    """Or a container whose orchestrator is away would be well as long as somebody looks."""
    (directory / "token").write_text("a-token")
    port = quiet_port()
    gateway = gateway_process(directory, "ws://127.0.0.1:1", directory / "token", "--metrics", f"127.0.0.1:{port}")
    async with started(gateway):
        await eventually(lambda: "Dialing again" in gateway.text())
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        assert gateway.pid is not None
        assert not connected(gateway.pid)
        writer.close()


async def test_figures_are_served_on_loopback_only(directory: Path) -> None:
    """Whoever names another address is told which are possible."""
    ended = await run(
        *("gateway", "--url", "ws://127.0.0.1:1", "--token-file", "/dev/null", "--worker-id", "w"),
        *("--executor-socket", "/nowhere", "--tenant", "t", "--metrics", "0.0.0.0:9464"),
        home=directory,
    )
    assert ended.code == 2
    assert "--metrics: metrics are served on a loopback address only" in ended.err


async def test_an_address_that_is_taken_is_said(directory: Path) -> None:
    """It ends with 4, rather than run without the figures that were asked for."""
    (directory / "token").write_text("a-token")
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as taken:
        address = f"127.0.0.1:{taken.sockets[0].getsockname()[1]}"
        gateway = gateway_process(directory, "ws://127.0.0.1:1", directory / "token", "--metrics", address)
        async with started(gateway):
            assert gateway.running is not None
            assert await gateway.running.wait() == 4
    assert address in gateway.text()
