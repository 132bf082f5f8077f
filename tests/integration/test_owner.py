"""What the machine's owner can do alone: without gateway, orchestrator or token."""

import asyncio
from pathlib import Path

import pytest

from protos import executor_pb2 as pb
from tests.integration.commands import run
from tests.integration.conftest import OTHER_TENANT, TENANT, Podman, eventually, executor_process
from tests.integration.seam import seam


async def test_the_owner_lists_stops_and_removes_every_tenants_devboxes(podman: Podman, directory: Path) -> None:
    """By name or id, one or all; what cannot be done is said before anything is done."""
    async with seam(podman, directory, tenants=[TENANT, OTHER_TENANT], mode="fleet") as executor:
        where = ("--data-dir", str(executor.data))
        plain = {"profile": pb.PROFILE_OFFLINE}  # the quickest: they need no network
        mine = await executor.create("mine", **plain)
        theirs = await executor.create("theirs", tenant=OTHER_TENANT, **plain)
        twin = await executor.create("mine", tenant=OTHER_TENANT, **plain)

        listed = await run("devboxes", "list", *where, home=directory)
        assert listed.code == 0
        for box, state in ((mine, "running"), (theirs, "running"), (twin, "running")):
            line = next(line for line in listed.out.splitlines() if line.startswith(box.id))
            assert line.split()[1:5] == [box.name, box.tenant_id, state, "offline"]

        unknown = await run("devboxes", "stop", "theirs", "nobody", *where, home=directory)
        assert unknown.code == 4
        assert "There is no DevBox nobody" in unknown.err
        doubtful = await run("devboxes", "remove", "mine", *where, home=directory)
        assert doubtful.code == 4
        assert mine.id in doubtful.err
        assert twin.id in doubtful.err
        assert (await run("devboxes", "stop", *where, home=directory)).code == 2

        stopped = await run("devboxes", "stop", theirs.id, *where, home=directory)
        assert (stopped.code, stopped.out) == (0, f"theirs ({theirs.id}) is stopped\n")
        states = {box.id: box.state for box in await executor.boxes(OTHER_TENANT)}
        assert states == {theirs.id: pb.DEV_BOX_STATE_EXITED, twin.id: pb.DEV_BOX_STATE_RUNNING}

        assert (await run("devboxes", "remove", theirs.id, "--keep-volumes", *where, home=directory)).code == 0
        volumes = podman.run("volume", "ls", "-q", "--filter", f"label=io.clustercode.devbox={theirs.id}").split()
        assert len(volumes) == 2

        emptied = await run("devboxes", "remove", "--all", *where, home=directory)
        assert emptied.code == 0
        assert not await executor.boxes()
        assert not await executor.boxes(OTHER_TENANT)
        assert not podman.run("volume", "ls", "-q", "--filter", f"label=io.clustercode.devbox={mine.id}").split()

    away = await run("devboxes", "list", *where, home=directory)
    assert away.code == 4
    assert "No worker runs here" in away.err


async def test_a_tenant_is_told_that_it_was_the_owner(podman: Podman, directory: Path) -> None:
    """Who stopped or removed its DevBox: not some program outside of the worker."""
    async with seam(podman, directory) as executor:
        where = ("--data-dir", str(executor.data))
        events = executor.stub.WatchEvents(pb.WatchEventsRequest())
        await events.wait_for_connection()
        boxes = [await executor.create(name, profile=pb.PROFILE_OFFLINE) for name in ("stopped", "running")]

        async def next_event() -> tuple[str, str]:
            async with asyncio.timeout(60):
                event = await events.read()
            return event.devbox_id, event.detail

        stopped, removed = (f"It was {done} by the machine's owner." for done in ("stopped", "removed"))
        assert (await run("devboxes", "stop", "stopped", *where, home=directory)).code == 0
        assert await next_event() == (boxes[0].id, stopped)
        assert (await run("devboxes", "remove", "--all", *where, home=directory)).code == 0
        awaited = {box.id for box in boxes}
        while awaited:
            devbox_id, detail = await next_event()
            # One that ran may be seen as it ends, and then as it is gone.
            assert detail == removed or (devbox_id, detail) == (boxes[1].id, stopped)
            if detail == removed:
                awaited.remove(devbox_id)
        events.cancel()


@pytest.mark.parametrize("mode", [0o750, 0o701])
async def test_an_executor_does_not_serve_its_owner_where_others_could_enter(
    podman: Podman, directory: Path, mode: int
) -> None:
    """Whoever reaches that socket may remove every DevBox."""
    operator = directory / "data" / "operator"
    operator.mkdir(parents=True)
    operator.chmod(mode)
    executor = executor_process(podman, directory)
    await executor.start()

    assert executor.running is not None
    assert await executor.running.wait() == 4
    assert "chmod 700" in executor.text()


async def test_the_owners_socket_is_the_executors_users_alone(podman: Podman, directory: Path) -> None:
    """Unlike the gateway's, which its group may use."""
    async with seam(podman, directory) as executor:
        await eventually((executor.data / "operator" / "rpc.sock").exists)
        assert (executor.data / "operator").stat().st_mode & 0o777 == 0o700
        assert (executor.data / "operator" / "rpc.sock").stat().st_mode & 0o777 == 0o600
