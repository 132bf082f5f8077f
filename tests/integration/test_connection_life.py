"""Against an orchestrator that misbehaves the gateway waits as long as it should, and ends when it should.

The gateway runs in this process, for the sake of its clock: waits between dials are read from it, not slept. WebSocket,
gRPC and the executor behind it are real.
"""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from conformance.orchestrator import HOST, TOKEN, Orchestrator, Peer, orchestrator
from gateway import app, liveness
from gateway.backoff import DELAYS_S, HEALTHY_AFTER_S, JITTER
from gateway.config import GatewayConfig
from gateway.errors import ExitCode
from tests.integration.conftest import (
    IMAGE,
    TENANT,
    Podman,
    eventually,
    executor_process,
    quiet_port,
    remove_all,
    serves,
    started,
)
from tests.integration.link_proxy import link_proxy


class ReadClock:
    """A clock that stands still until the gateway waits, and then until a test has read for how long."""

    def __init__(self) -> None:
        self._time = 0.0
        self._asked: asyncio.Queue[float] = asyncio.Queue(1)  # the loop waits for one thing at a time
        self._over: asyncio.Queue[None] = asyncio.Queue(1)

    def now(self) -> float:
        return self._time

    async def sleep(self, seconds: float) -> None:
        await self._asked.put(seconds)
        await self._over.get()
        self._time += seconds

    def advance(self, seconds: float) -> None:
        """Let time pass, for a connection to prove healthy."""
        self._time += seconds

    async def begun(self) -> float:
        """Return the next wait, as soon as the gateway begins it."""
        async with asyncio.timeout(60):
            return await self._asked.get()

    def over(self) -> None:
        """Have the wait over that has begun."""
        self._over.put_nowait(None)

    async def wait(self) -> float:
        """Return the next wait and have it over."""
        seconds = await self.begun()
        self.over()
        return seconds


class Gateway:
    """A gateway in this process."""

    def __init__(self, clock: ReadClock, running: asyncio.Task[int]) -> None:
        self.clock = clock
        self._running = running

    async def waits(self, *steps: float) -> None:
        """The next waits are these, but for jitter, which only shortens."""
        for step in steps:
            waited = await self.clock.wait()
            assert step * (1 - JITTER) <= waited <= step, f"waited {waited} instead of {step}"

    async def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        async with asyncio.timeout(60):
            return await self._running


@asynccontextmanager
async def a_gateway(place: Path, url: str, *, allow_insecure: bool = False) -> AsyncIterator[Gateway]:
    """Run a gateway for the executor of this place."""
    (place / "token").write_text(TOKEN)
    config = GatewayConfig(
        orchestrator_url=url,
        token_file=place / "token",
        worker_id="w-1",
        tenant_id=TENANT,
        worker_name="a name",
        hostname="this-machine",
        agent_version="0",
        allow_insecure=allow_insecure,
        executor_socket=place / "data" / "rpc" / "executor.sock",
    )
    clock = ReadClock()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(app.run(config, clock), name="gateway")
        try:
            yield Gateway(clock, running)
        finally:
            running.cancel()


@pytest.fixture(scope="module")
async def place(podman: Podman) -> AsyncIterator[Path]:
    """A directory with an executor that serves."""
    with TemporaryDirectory(prefix="cc-") as name:
        try:
            executor = executor_process(podman, Path(name))
            async with started(executor):
                await serves(executor)
                yield Path(name)
        finally:
            remove_all(Path(name) / "data")


@pytest.fixture
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Pings come at once instead of every 15 seconds.

    Call it once nothing can answer them any more: from then on they are given up after two seconds instead of 25,
    which where there is an answer would be too few for a machine that is slow for a moment.
    """
    monkeypatch.setattr(liveness, "PING_INTERVAL_S", 0.05)
    return lambda: monkeypatch.setattr(liveness, "PING_TIMEOUT_S", 2.0)


async def healthy(cloud: Orchestrator, gateway: Gateway) -> Peer:
    """A connection that has been registered for long enough."""
    peer, _ = await cloud.peer()
    await peer.expect(type="worker.heartbeat")
    gateway.clock.advance(HEALTHY_AFTER_S + 1)  # what is added to a sum of floats is not found again to the last bit
    return peer


@pytest.mark.parametrize("status", [HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND])
async def test_a_refused_handshake_steps_up(place: Path, status: HTTPStatus) -> None:
    """The waits are 1, 2, 4, 8, 16, then 30 seconds for ever; a 409 is no other: the old socket may linger."""
    async with orchestrator(place, refuse_with=(status, {})) as cloud, a_gateway(place, cloud.worker_url) as gateway:
        await gateway.waits(*DELAYS_S, 30)
        assert DELAYS_S == (1, 2, 4, 8, 16, 30)


@pytest.mark.parametrize("status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE])
async def test_retry_after_is_waited_for(place: Path, status: HTTPStatus) -> None:
    """Retry-After lengthens a wait, to the second; the steps go on beneath it."""
    async with (
        orchestrator(place, refuse_with=(status, {"Retry-After": "120"})) as cloud,
        a_gateway(place, cloud.worker_url) as gateway,
    ):
        assert [await gateway.clock.wait() for _ in range(2)] == [120, 120]
        await cloud.attempted(3)
        cloud.refuse_with = (status, {})
        assert await gateway.clock.wait() == 120
        await gateway.waits(8)


async def test_a_connection_that_breaks_at_once_does_not_reset_the_steps(place: Path) -> None:
    """An orchestrator that takes connections and drops them is not hammered; one that holds them is forgiven."""
    async with orchestrator(place) as cloud, a_gateway(place, cloud.worker_url) as gateway:
        for step in (1, 2, 4):
            peer, _ = await cloud.peer()
            peer.cut()
            await gateway.waits(step)
        peer = await healthy(cloud, gateway)
        peer.cut()
        await gateway.waits(1)


async def test_an_orchestrator_that_restarts_is_found_again(place: Path) -> None:
    """It says that it goes, is away for three attempts, and is served again when it is back."""
    port = quiet_port()  # nobody else gets it while it is away
    async with orchestrator(place, port=port) as cloud, a_gateway(place, cloud.worker_url) as gateway:
        await healthy(cloud, gateway)
        await cloud.go()
        await gateway.waits(1, 2, 4)
        await gateway.clock.begun()
        async with orchestrator(place, port=port) as back:
            gateway.clock.over()
            _, register = await back.peer()
    assert register["workerId"] == "w-1"


async def test_close_1013_is_obeyed(place: Path) -> None:
    """Try again later means the longest step, whatever went before."""
    async with orchestrator(place) as cloud, a_gateway(place, cloud.worker_url) as gateway:
        peer = await healthy(cloud, gateway)
        await peer.close(1013)
        assert await gateway.clock.wait() == 30


async def test_messages_too_big_make_no_loop(place: Path) -> None:
    """Whichever side finds a message too big: each time the wait is longer, healthy connections or not."""
    async with orchestrator(place) as cloud, a_gateway(place, cloud.worker_url) as gateway:
        for step in (2, 4):
            peer = await healthy(cloud, gateway)
            await peer.close(1009)
            await gateway.waits(step)
        for step in (8, 16):
            peer = await healthy(cloud, gateway)
            await peer.send_raw("x" * (1024 * 1024 + 1))
            await gateway.waits(step)


async def test_a_replaced_gateway_stops_and_says_which_machine(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Close 4001: two with one identity would displace each other for ever, so this one ends, with 6."""
    async with orchestrator(place) as cloud, a_gateway(place, cloud.worker_url) as gateway:
        peer, _ = await cloud.peer()
        await peer.close(4001, "replaced by the one on other-machine")
        assert await gateway.ended() == ExitCode.REPLACED == 6
        assert len(cloud.attempts) == 1
    assert "other-machine" in caplog.text


async def test_what_is_no_websocket_is_tried_again(place: Path) -> None:
    """Another service on the port, a page that says 200, a handshake that ends in the middle."""
    said = iter([b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 101 Swi"])

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(next(said, b""))
        writer.close()

    async with await asyncio.start_server(talk, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with a_gateway(place, f"ws://{HOST}:{port}/ws/worker") as gateway:
            await gateway.waits(1, 2, 4, 8)


@pytest.mark.parametrize(
    "garbage", [b"\xff\xff\xff\xff", b"\x81\x04\xff\xfe\xfd\xfc", b"\x83\x00", b"\x81\xff" + b"\xff" * 8]
)
async def test_bytes_that_are_no_websocket_frame_end_the_connection_only(place: Path, garbage: bytes) -> None:
    """Reserved bits, text that is not UTF-8, an unknown opcode, a masked frame of 2^64 bytes: dialled again."""
    async with orchestrator(place) as cloud, a_gateway(place, cloud.worker_url) as gateway:
        peer = await healthy(cloud, gateway)
        peer.ws.transport.write(garbage)
        await gateway.waits(1)
        await cloud.peer()


async def test_messages_that_make_no_sense_are_answered(place: Path) -> None:
    """Broken JSON, other types, binary frames of unknown channels: errors, and the connection goes on."""
    async with orchestrator(place) as cloud, a_gateway(place, cloud.worker_url):
        peer, _ = await cloud.peer()
        for nonsense in (
            "{",
            "[]",
            '{"type": 7}',
            '{"type": "no.such", "payload": {}}',
            b"",
            b"\x01" * 13,
            b"\x09" * 40,
        ):
            await peer.send_raw(nonsense)
            await peer.expect(type="error")
        assert (await peer.ask("DevBox.list", {"tenantId": TENANT}))["ok"]


async def test_an_answer_survives_a_close_in_mid_command(place: Path) -> None:
    """The command goes on, and its answer comes with the next connection."""
    async with orchestrator(place) as cloud, a_gateway(place, cloud.worker_url) as gateway:
        peer, _ = await cloud.peer()
        created = await peer.ask("DevBox.create", {"tenantId": TENANT, "name": "box", "image": IMAGE})
        box = {"tenantId": TENANT, "devboxId": created["payload"]["devbox"]["id"]}
        command = "echo begun > /tmp/begun; until [ -e /tmp/go ]; do sleep 0.05; done; echo done"
        await peer.send("DevBox.exec", {**box, "command": command}, "long")
        begun = {**box, "command": "until [ -e /tmp/begun ]; do sleep 0.05; done"}
        assert (await peer.ask("DevBox.exec", begun))["ok"]
        peer.cut()
        await gateway.waits(1)
        peer, register = await cloud.peer()
        assert (await peer.ask("DevBox.exec", {**box, "command": "touch /tmp/go"}))["ok"]
        answer = await peer.expect(type="response", id="long")

        assert answer["payload"]["stdout"] == "done\n"
        found = {"id": box["devboxId"], "tenantId": TENANT, "name": "box", "state": "running"}
        assert register["devboxes"] == [found]
        assert (await peer.ask("DevBox.remove", {**box, "force": True}))["ok"]


async def test_a_half_open_connection_is_found(place: Path, quick_pings: Callable[[], None]) -> None:
    """Where the network takes everything and brings nothing, a ping tells."""
    async with (
        orchestrator(place) as cloud,
        link_proxy(cloud.port) as link,
        a_gateway(place, link.worker_url) as gateway,
    ):
        await healthy(cloud, gateway)
        link.stall()
        quick_pings()
        await gateway.waits(1)
        link.flow()
        await cloud.peer()


async def test_a_half_open_connection_is_found_with_the_socket_full(
    place: Path, quick_pings: Callable[[], None]
) -> None:
    """Where not even the ping goes out any more: an answer that nobody reads fills the socket."""
    async with (
        orchestrator(place) as cloud,
        link_proxy(cloud.port) as link,
        a_gateway(place, link.worker_url) as gateway,
    ):
        peer = await healthy(cloud, gateway)
        link.stall_up()
        quick_pings()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(_ask_nonsense(peer), name="ask nonsense")
            await gateway.waits(1)
            asking.cancel()
        link.flow()
        await cloud.peer()


async def _ask_nonsense(peer: Peer) -> None:
    message = json.dumps({"type": "x" * 200, "id": "i", "payload": {}})
    while True:
        await peer.send_raw(message)


@pytest.mark.usefixtures("quick_pings")
async def test_a_slow_orchestrator_keeps_its_connection(place: Path) -> None:
    """One that reads little by little answers pings late, and is no dead one."""
    async with (
        orchestrator(place) as cloud,
        link_proxy(cloud.port) as link,
        a_gateway(place, link.worker_url),
    ):
        peer, _ = await cloud.peer()
        link.slow(20_000)
        answers = [await peer.ask("DevBox.list", {"tenantId": TENANT}) for _ in range(3)]

        assert all(answer["ok"] for answer in answers)
        assert len(cloud.attempts) == 1


async def test_a_connection_that_died_in_sleep_is_found_at_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The wall clock jumps ahead, as it does when a machine wakes: a connection that lives stays, a dead one goes."""
    caplog.set_level("INFO")
    ahead_s = 0.0
    monkeypatch.setattr(liveness, "wall_clock", lambda: time.time() + ahead_s)
    monkeypatch.setattr(liveness, "SLEEP_CHECK_S", 0.05)
    monkeypatch.setattr(liveness, "PROBE_TIMEOUT_S", 60.0)
    async with (
        orchestrator(place) as cloud,
        link_proxy(cloud.port) as link,
        a_gateway(place, link.worker_url) as gateway,
    ):
        peer = await healthy(cloud, gateway)
        ahead_s += 3600
        await eventually(lambda: "checking the connection" in caplog.text)
        assert (await peer.ask("DevBox.list", {"tenantId": TENANT}))["ok"]
        link.stall()
        monkeypatch.setattr(liveness, "PROBE_TIMEOUT_S", 2.0)  # not before: the first one has an answer
        ahead_s += 3600
        await gateway.waits(1)
        link.flow()
        await cloud.peer()


async def test_a_name_is_looked_up_for_each_attempt(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An orchestrator that moves is found at its new address, and one without a name meanwhile is waited for."""
    addresses: dict[str, str] = {}
    look_up = socket.getaddrinfo

    def resolve(host: str, *arguments: object, **options: object) -> object:
        if host != "orchestrator.test":
            return look_up(host, *arguments, **options)  # type: ignore[arg-type]
        if host not in addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(addresses[host], *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with orchestrator(place, host="127.0.0.3") as cloud:
        url = f"ws://orchestrator.test:{cloud.port}/ws/worker"
        async with a_gateway(place, url, allow_insecure=True) as gateway:
            await gateway.clock.begun()
            addresses["orchestrator.test"] = "127.0.0.2"  # nobody listens there
            gateway.clock.over()
            await gateway.clock.begun()
            addresses["orchestrator.test"] = cloud.host
            gateway.clock.over()
            await cloud.peer()


async def test_an_orchestrator_on_ipv6_is_reached(place: Path) -> None:
    """By its address, in brackets."""
    async with orchestrator(place, host="::1") as cloud, a_gateway(place, cloud.worker_url):
        await cloud.peer()
    assert "[::1]" in cloud.worker_url
