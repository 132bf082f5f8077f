"""What happens to DevBoxes by itself is told: by the engine's events at once, by the reconcile where those fail."""

import asyncio
import json
import shutil
import signal
import tempfile
from pathlib import Path

import grpc
import pytest

from console.app import Console
from console.workers import WorkerLink
from protos import executor_pb2 as pb
from protos.executor_pb2_grpc import ExecutorServiceStub
from protos.wire import DevBoxEvent
from tests.integration.conftest import Podman, Worker, answers, create, eventually, running_worker
from tests.integration.link_proxy import link_proxy


class Heard:
    """The events of one worker, in order."""

    def __init__(self, link: WorkerLink) -> None:
        self._events: asyncio.Queue[DevBoxEvent] = asyncio.Queue()
        link.on_event = lambda _, event: self._events.put_nowait(event)

    async def next(self, timeout_s: float = 60) -> tuple[str, str]:
        """Return DevBox and kind of the next one."""
        async with asyncio.timeout(timeout_s):
            event = await self._events.get()
        assert event.detail
        assert event.tenant_id == "local"
        return event.devbox_id, event.event

    @property
    def nothing_more(self) -> bool:
        return self._events.empty()


def forget(podman: Podman, *boxes: str) -> None:
    """Remove the volumes of DevBoxes whose container the test removed."""
    for box in boxes:
        podman.run("volume", "rm", "-f", f"clustercode-{box}-workspace", f"clustercode-{box}-state")


async def removed_outside(heard: Heard, podman: Podman, box: str) -> None:
    """Remove a DevBox behind the worker's back and wait until that is told."""
    podman.run("rm", "-f", "-t", "0", f"clustercode-{box}")
    while (event := await heard.next()) != (box, "removed"):
        assert event == (box, "died")
    forget(podman, box)


async def test_a_devbox_that_dies_or_is_removed_by_itself_is_told_once(link: WorkerLink, podman: Podman) -> None:
    """Killed and removed behind the worker's back: died, then removed, each once; what the worker does is no event."""
    heard = Heard(link)
    own = await create(link, "own")
    for _ in range(2):
        await link.request("DevBox.stop", {"devboxId": own, "timeoutSeconds": 0})
        await link.request("DevBox.start", {"devboxId": own})
    await link.request("DevBox.remove", {"devboxId": own, "force": True})
    box = await create(link)

    podman.run("kill", f"clustercode-{box}")

    assert await heard.next() == (box, "died")
    await link.request("DevBox.start", {"devboxId": box})
    podman.run("kill", f"clustercode-{box}")
    assert await heard.next() == (box, "died")
    podman.run("rm", "-f", "-t", "0", f"clustercode-{box}")
    assert await heard.next() == (box, "removed")
    await removed_outside(heard, podman, await create(link, "last"))
    assert heard.nothing_more
    forget(podman, box)


async def test_a_kill_for_want_of_memory_is_told(podman: Podman, console: Console, directory: Path) -> None:
    """A program in the box that takes more than there is: oom, and the box goes on."""
    async with running_worker(podman, console, directory, executor_args=("--reconcile", "0.5")) as worker:
        link = await worker.link()
        heard = Heard(link)
        box = await create(link, resources={"memoryBytes": 32 * 1024**2})
        limit = await link.request(
            "DevBox.exec", {"devboxId": box, "command": "(x=$(yes | head -c 200000000)); echo $?", "timeoutMs": 60_000}
        )
        # The kernel chooses: the subshell that took it, as a rule, or the shell around it.
        assert "137" in (limit["stdout"].strip(), str(limit["exitCode"]))

        assert await heard.next() == (box, "oom")

        (found,) = (await link.request("DevBox.list", {}))["devboxes"]
        assert found["state"] == "running"
        assert heard.nothing_more


async def test_what_the_engine_did_not_tell_is_found(console: Console, directory: Path, podman: Podman) -> None:
    """Events of an engine that is away, and those of an executor's absence, come by looking."""
    own = Path(tempfile.mkdtemp(prefix="cc-engine-"))
    service = Podman(own)
    service.start()
    try:
        async with running_worker(service, console, directory, executor_args=("--reconcile", "0.5")) as worker:
            link = await worker.link()
            heard = Heard(link)
            box, gone = await create(link, "one"), await create(link, "two")
            service.stop()
            podman.run("kill", f"clustercode-{box}")
            podman.run("rm", "-f", "-t", "0", f"clustercode-{gone}")
            service.start()

            assert {await heard.next(60), await heard.next(60)} == {(box, "died"), (gone, "removed")}
            forget(podman, gone)
    finally:
        service.stop()
        shutil.rmtree(own, ignore_errors=True)


async def test_what_happened_while_the_executor_was_away_is_told(worker: Worker, podman: Podman) -> None:
    """One DevBox died and one was removed meanwhile; what the executor had told, and what goes on, is no event."""
    link = await worker.link()
    heard = Heard(link)
    box, gone, told, stays = [await create(link, name) for name in ("box", "gone", "told", "stays")]
    podman.run("kill", f"clustercode-{told}")
    assert await heard.next() == (told, "died")
    seen = worker.data / "seen.json"

    def kept() -> bool:
        if not seen.exists():
            return False
        found = {box["devbox_id"]: box["running"] for box in json.loads(seen.read_text())}
        return found == {box: True, gone: True, told: False, stays: True}

    await eventually(kept)
    await worker.executor.kill()
    podman.run("kill", f"clustercode-{box}")
    podman.run("rm", "-f", "-t", "0", f"clustercode-{gone}")
    await worker.executor.start()

    assert {await heard.next(), await heard.next()} == {(box, "died"), (gone, "removed")}
    await removed_outside(heard, podman, stays)
    assert heard.nothing_more
    forget(podman, gone)


async def test_events_wait_for_the_gateway_and_for_the_orchestrator(worker: Worker, podman: Podman) -> None:
    """While the gateway is gone the executor keeps them; its own restart tells nothing twice, nor what it did last."""
    link = await worker.link()
    heard = Heard(link)
    box = await create(link)
    await worker.gateway.kill()
    podman.run("kill", f"clustercode-{box}")
    await died(worker, box)
    await worker.gateway.start()
    await link.wait_connected(60)

    assert await heard.next(60) == (box, "died")

    await link.request("DevBox.remove", {"devboxId": box})
    await worker.executor.stop()
    await worker.executor.start()
    await eventually(lambda: answers(link), 60)
    await removed_outside(heard, podman, await create(link, "another"))
    assert heard.nothing_more


@pytest.mark.parametrize("where", ["in a gateway that hangs", "on a dead link"])
async def test_an_event_that_a_dead_gateway_had_is_told_by_the_next(
    podman: Podman, console: Console, directory: Path, where: str
) -> None:
    """Written to a gateway that is killed before it, or its link, did anything with it: it arrives, once."""
    async with (
        link_proxy(console.port) as proxy,
        running_worker(podman, console, directory, url=proxy.worker_url) as worker,
    ):
        link = await worker.link()
        heard = Heard(link)
        box = await create(link)
        if where == "on a dead link":
            proxy.stall()
        else:
            assert worker.gateway.running is not None
            worker.gateway.running.send_signal(signal.SIGSTOP)
        async with grpc.aio.insecure_channel(f"unix:{worker.data / 'rpc' / 'executor.sock'}") as channel:
            beside = ExecutorServiceStub(channel).WatchEvents(pb.WatchEventsRequest(acknowledges=True))
            await beside.wait_for_connection()
            podman.run("kill", f"clustercode-{box}")
            async with asyncio.timeout(60):
                assert (await beside.read()).devbox_id == box  # so it was written to the gateway too
            beside.cancel()
        await worker.gateway.kill()
        proxy.cut()
        proxy.flow()
        await link.wait_disconnected()
        await worker.gateway.start()
        await link.wait_connected(60)

        assert await heard.next() == (box, "died")
        await removed_outside(heard, podman, await create(link, "another"))
        assert heard.nothing_more


async def test_an_event_waits_for_the_orchestrator_through_restarts_of_both(
    podman: Podman, console: Console, directory: Path
) -> None:
    """While there is no connection nothing is acknowledged, so the next executor tells it to the next gateway, once."""
    async with (
        link_proxy(console.port) as proxy,
        running_worker(podman, console, directory, url=proxy.worker_url) as worker,
    ):
        link = await worker.link()
        heard = Heard(link)
        box = await create(link)
        proxy.refuse()
        await link.wait_disconnected()
        podman.run("kill", f"clustercode-{box}")
        await died(worker, box)
        for process in (worker.gateway, worker.executor):
            await process.stop()
        proxy.accept()
        for process in (worker.executor, worker.gateway):
            await process.start()
        await link.wait_connected(60)

        assert await heard.next() == (box, "died")
        await removed_outside(heard, podman, await create(link, "another"))
        assert heard.nothing_more


async def died(worker: Worker, box: str) -> None:
    """Wait until the executor has noticed."""
    async with asyncio.timeout(60):
        while f"DevBox {box}: died" not in worker.executor.text():
            await asyncio.sleep(0.05)


async def test_the_executor_tells_each_watcher_and_ends_in_time(worker: Worker, podman: Podman) -> None:
    """Two watchers hear the same; an executor that is told to stop lets them go at once and ends with 0."""
    link = await worker.link()
    box = await create(link)
    async with grpc.aio.insecure_channel(f"unix:{worker.data / 'rpc' / 'executor.sock'}") as channel:
        stub = ExecutorServiceStub(channel)
        calls = [stub.WatchEvents(pb.WatchEventsRequest()) for _ in range(2)]
        for call in calls:
            await call.wait_for_connection()
        await stub.ListDevBoxes(pb.ListDevBoxesRequest())  # after the watches on the same connection
        podman.run("kill", f"clustercode-{box}")
        for call in calls:
            async with asyncio.timeout(60):
                event = await call.read()
            assert (event.devbox_id, event.tenant_id, event.kind) == (box, "local", pb.DEV_BOX_EVENT_KIND_DIED)

        assert await worker.executor.stop(signal.SIGTERM) == 0
        for call in calls:
            assert await call.read() is grpc.aio.EOF
