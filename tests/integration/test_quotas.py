"""What a tenant may have at a time, as the machine's owner says: the one too many is refused, with the quota named."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from protos import executor_pb2 as pb
from tests.integration.conftest import OTHER_TENANT, TENANT, Podman
from tests.integration.seam import Seam, seam

MIB = 1024**2
QUOTAS = {
    "devboxes": 2,
    "memory_bytes": 96 * MIB,
    "cpus": 1.5,
    "sessions": 1,
    "backgrounds": 1,
    "disk_bytes": 8 * MIB,
}


@pytest.fixture(scope="module")
async def bounded(podman: Podman) -> AsyncIterator[Seam]:
    """A worker of two tenants, one of them bounded in everything."""
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        tenants = {TENANT: {"quotas": QUOTAS}, OTHER_TENANT: {}}
        async with seam(podman, Path(name), tenants=tenants, mode="fleet", disk_check_s=0.2) as running:
            yield running


def refused(quota: str) -> "pytest.RaisesExc[grpc.aio.AioRpcError]":
    return pytest.raises(grpc.aio.AioRpcError, match=rf"RESOURCE_EXHAUSTED(?s:.*){quota}")


def resources(memory_mib: int, cpus: float) -> pb.Resources:
    return pb.Resources(memory_bytes=memory_mib * MIB, cpus=cpus)


async def test_devboxes_and_what_runs_are_bounded(bounded: Seam) -> None:
    """Their number, and the sums of memory and processors of those that run; those of another tenant do not count."""
    theirs = await bounded.create("theirs", tenant=OTHER_TENANT)
    first = await bounded.create("first", resources=resources(64, 1))
    with refused("memory together.*with this one it would be 0.125 GB"):
        await bounded.create("second", resources=resources(64, 0.5))
    with refused("1.5 of processors together"):
        await bounded.create("second", resources=resources(32, 1))
    second = await bounded.create("second", resources=resources(64, 0.5), stopped=True)
    with refused("2 DevBoxes"):
        await bounded.create("third", resources=resources(8, 0.1), stopped=True)
    again = await bounded.create("second", resources=resources(64, 0.5), stopped=True)
    with refused("memory"):
        await start(bounded, second)
    await bounded.stub.StopDevBox(pb.StopDevBoxRequest(tenant_id=TENANT, devbox_id=first.id, timeout_seconds=0))
    async with asyncio.TaskGroup() as group:  # of the two only one fits
        starts = [group.create_task(attempt(start(bounded, box))) for box in (first, second)]

    assert again.id == second.id
    assert sorted(task.result() for task in starts) == ["OK", "RESOURCE_EXHAUSTED"]
    for box in (theirs, first, second):
        await bounded.remove(box)


async def start(bounded: Seam, box: pb.DevBox) -> None:
    await bounded.stub.StartDevBox(pb.StartDevBoxRequest(tenant_id=TENANT, devbox_id=box.id))


async def attempt(call: "asyncio.Future[None] | object") -> str:
    try:
        await call  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_sessions_and_background_commands_are_bounded(bounded: Seam) -> None:
    """One more of either is refused; after one has ended there is room again."""
    box = await bounded.create("box", resources=resources(64, 1))

    async with bounded.connected() as first, bounded.connected() as second:
        first.open(box, session_id="one")
        assert (await first.until("opened")).session_id == "one"
        second.open(box, session_id="two")
        code, said = await second.refusal()
        assert (code, "1 terminals and displays" in said) == ("RESOURCE_EXHAUSTED", True)
        first.send(pb.AttachTerminalRequest(close=pb.TerminalClose()))
        await first.until("exited")
        first.send(pb.AttachTerminalRequest(fetched=pb.TerminalFetched()))
    async with asyncio.timeout(60):
        while (await bounded.stub.ListSessions(pb.ListSessionsRequest())).sessions:
            await asyncio.sleep(0.02)
    async with bounded.connected() as third:
        third.open(box, session_id="three")
        await third.until("opened")

    def background(number: int) -> pb.StartBackgroundRequest:
        return pb.StartBackgroundRequest(
            tenant_id=TENANT, devbox_id=box.id, request_id=f"b-{number}", argv=["sleep", "871"]
        )

    started = await bounded.stub.StartBackground(background(1))
    assert await bounded.stub.StartBackground(background(1)) == started
    with refused("1 background commands"):
        await bounded.stub.StartBackground(background(2))
    await bounded.remove(box)


async def test_a_tenant_that_fills_the_disk_is_stopped(bounded: Seam) -> None:
    """The DevBox that holds the most stops, it is told, and nothing new is taken until less is held."""
    events = bounded.stub.WatchEvents(pb.WatchEventsRequest())
    await events.wait_for_connection()
    small = await bounded.create("small", resources=resources(32, 0.5))
    large = await bounded.create("large", resources=resources(64, 1))
    await bounded.sh(small, "head -c 1000000 /dev/zero >/workspace/some")
    with suppress(grpc.aio.AioRpcError):  # it may be stopped before it is through
        await bounded.sh(large, "head -c 16000000 /dev/zero >/workspace/much")
    async with asyncio.timeout(60):
        event = await events.read()
    states = {box.id: box.state for box in await bounded.boxes()}
    for again in (start(bounded, large), bounded.sh(small, "true"), bounded.create("x", resources=resources(8, 0.1))):
        with refused("may hold 0.01 GB"):
            await again
    await bounded.remove(large)
    async with asyncio.timeout(60):
        while await attempt(bounded.sh(small, "true")) != "OK":
            await asyncio.sleep(0.1)

    assert (event.devbox_id, event.kind) == (large.id, pb.DEV_BOX_EVENT_KIND_OVER_QUOTA)
    assert states[large.id] == pb.DEV_BOX_STATE_EXITED
    assert [line["id"] for line in bounded.audited() if line["who"] == "executor"][:1] == [large.id]
    events.cancel()
    await bounded.remove(small)
