"""A gateway that was taken over: whatever it sends, nothing happens outside its own tenant's DevBoxes.

It speaks straight to the executor's sockets, as the gateway's user could.
"""

import asyncio
import hashlib
import json
import random
import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from executor.config import ExecutorConfig
from protos import executor_pb2 as pb
from tests.integration.canary import CANARY
from tests.integration.conftest import IMAGE, OTHER_TENANT, TENANT, Podman, eventually, serves
from tests.integration.hostile import INPUTS, SERVICE, Hostile
from tests.integration.seam import SESSIONS, Seam, seam

AT_ONCE = 8
VICTIM = "victim-of-nobody"


@dataclass
class Scene:
    """An executor that serves one tenant, beside what it must not touch: another tenant's DevBox, a stray container."""

    seam: Seam
    bait: pb.DevBox
    sacrifice: pb.DevBox
    theirs: pb.DevBox
    target: Path
    podman: Podman

    def built(self) -> set[str]:
        """Images that its own tenant built, as it may, and the one that the executor makes for itself."""
        labels = (f"io.clustercode.tenant={TENANT}", "io.clustercode.part=egress")
        return {
            image
            for label in labels
            for image in self.podman.run("images", "-aq", "--no-trunc", "--filter", f"label={label}").split()
        }

    def untouchable(self) -> dict[str, object]:
        """All that no RPC may change, as the engine and the host have it."""
        theirs = f"clustercode-{self.theirs.id}"
        containers = {}
        for name in (theirs, VICTIM):
            found = json.loads(self.podman.run("inspect", name))[0]
            containers[name] = {
                key: found[key] for key in ("Id", "Created", "State", "Config", "HostConfig", "Mounts", "RestartCount")
            }
        own = f"label=io.clustercode.tenant={TENANT}"
        mine = {*self.podman.run("volume", "ls", "-q", "--filter", own).split()}
        return {
            "containers": containers,
            "files": self.podman.run(
                "exec", theirs, "sh", "-c", "find /workspace /tmp -type f | sort; cat /workspace/*; ps -o user,args"
            ),
            "volumes": sorted({*self.podman.run("volume", "ls", "-q").split()} - mine),
            "networks": sorted(self.podman.run("network", "ls", "-q").split()),
            "images": sorted({*self.podman.run("images", "-aq", "--no-trunc").split()} - self.built()),
            "privileges": self.podman.run(
                "ps", "-a", "--filter", own, "--format", "{{.ID}}", "--filter", "label=io.clustercode.privileged=true"
            ),
            "host": [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in ("/etc/passwd", "/etc/shadow")],
            "target": sorted(path.name for path in self.target.iterdir()),
            "secrets": (self.seam.data / "secrets" / self.theirs.id).read_text(),
            "data": sorted(path.name for path in self.seam.data.iterdir()),
        }


@pytest.fixture(scope="module")
async def scene(podman: Podman) -> AsyncIterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="cc-") as name, tempfile.TemporaryDirectory(prefix="cc-target-") as target:
        async with seam(podman, Path(name), tenants=[TENANT, OTHER_TENANT], mode="fleet") as running:
            theirs = await running.create("theirs", tenant=OTHER_TENANT, secret_env={"KEPT": CANARY})
            await running.sh(theirs, "echo precious >/workspace/work")
            bait, sacrifice = await running.create("bait"), await running.create("sacrifice")
            # From now on the other tenant is not served here any more; what it has stays.
            await running.process.stop()
            alone = json.loads(running.process.command[-1]) | {"tenants": {TENANT: {}}, "mode": "byom"}
            running.process.command[-1] = json.dumps(alone)
            await running.process.start()
            await serves(running.process)
            # It looks for leftovers in each, oldest first: that too would be seen among the processes of "theirs".
            await eventually(lambda: f"adopted DevBox {bait.id}" in running.process.text())
            podman.run("run", "-d", "--name", VICTIM, "--network", "none", IMAGE)
            try:
                scene = Scene(running, bait, sacrifice, theirs, Path(target), podman)
                yield scene
                if built := scene.built():
                    podman.run("rmi", "-f", *built)
            finally:
                podman.run("rm", "-f", "-t", "0", VICTIM)


def hostile(scene: Scene, seed: int) -> Hostile:
    box = {"tenant_id": TENANT, "devbox_id": scene.bait.id}
    return Hostile(
        chance=random.Random(seed),  # noqa: S311 - to be repeated, not to be secret
        ids=(
            scene.bait.id, scene.theirs.id, VICTIM, f"clustercode-{scene.theirs.id}", f"../{scene.theirs.id}",
            f"{scene.theirs.id}?force=1", f"{scene.bait.id}/../{scene.theirs.id}", scene.theirs.id.upper(),
            "s-1", "b-1",
        ),
        tenants=(TENANT, TENANT, TENANT, OTHER_TENANT, "third", TENANT.upper(), f"{TENANT} "),
        target=str(scene.target),
        right={
            "CreateDevBox": {"tenant_id": TENANT, "name": "bait", "image": IMAGE},
            "StartDevBox": box,
            "StopDevBox": {**box, "timeout_seconds": 0},
            "RemoveDevBox": {**box, "devbox_id": scene.sacrifice.id, "force": True},
            "ListDevBoxes": {"tenant_id": TENANT},
            "ExecDevBox": {**box, "argv": ["true"], "timeout_ms": 5000},
            "CancelWork": {"tenant_id": TENANT, "request_id": "r"},
            "SetupDevBox": {**box, "url": "/nowhere", "timeout_ms": 5000},
            "StartBackground": {**box, "argv": ["true"]},
            "KillBackground": {**box, "background_id": "b-1", "grace_seconds": 0},
            "CaptureBackground": {**box, "background_id": "b-1"},
            "CheckImage": {"image": IMAGE},
            "DeleteImage": {"tenant_id": TENANT, "image": IMAGE, "force": True},
            "UploadContext": {"tenant_id": TENANT, "upload_id": "u-1", "data": b"x"},
            "BuildImage": {"tenant_id": TENANT, "name": "localhost/evil", "containerfile": "FROM localhost/absent:1"},
            "AttachTerminal": {**box, "cols": 80, "rows": 24, "argv": ["true"]},
            "AttachDisplay": box,
            "SetEgress": {**box, "allowed_domains": ["example.com"]},
        },
    )  # fmt: skip


async def call(seam: Seam, method: str, messages: list[Any]) -> tuple[grpc.StatusCode, str]:
    """Make one call to its end; returns the status and what is said of it."""
    try:
        async with asyncio.timeout(120):
            if method in SESSIONS:
                return await attach(seam, method, messages)
            rpc = getattr(seam.stub, method)
            if method == "WatchEvents":
                watch = rpc(messages[0])
                await watch.wait_for_connection()
                watch.cancel()
                return grpc.StatusCode.CANCELLED, ""
            if SERVICE.methods_by_name[method].server_streaming:
                async for _ in rpc(messages[0]):
                    pass
            else:
                await rpc(messages[0])
    except grpc.aio.AioRpcError as error:
        return error.code(), str(error.details())
    except TimeoutError:
        return grpc.StatusCode.UNKNOWN, "no end within two minutes"
    return grpc.StatusCode.OK, ""


async def attach(seam: Seam, method: str, messages: list[Any]) -> tuple[grpc.StatusCode, str]:
    """Send all that on one connection; returns how it ended."""
    async with seam.connected(method) as connection:
        if not messages:
            return grpc.StatusCode.CANCELLED, ""
        # What is there to end it once it is open: without, nobody would know which message is the last.
        last = pb.AttachTerminalRequest(close={}) if method == "AttachTerminal" else pb.AttachDisplayRequest(open={})
        connection.send(*messages, last)
        while (message := await connection.read()) is not None:
            match message.WhichOneof("message"):
                case "refused":
                    return grpc.StatusCode[message.refused.code], message.refused.message
                case "exited" | "detached":
                    return grpc.StatusCode.OK, ""
    return grpc.StatusCode.UNKNOWN, "the connection ended without a word"


async def attack(scene: Scene, seed: int, calls: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Send that many calls, some at once; returns the refusals by RPC and status, and what looks like a defect."""
    attacker = hostile(scene, seed)
    todo = ((method, attacker.requests(method)) for method in attacker.chance.choices(sorted(INPUTS), k=calls))
    refused: Counter[tuple[str, str]] = Counter()
    defects: list[str] = []

    async def work() -> None:
        for method, messages in todo:
            code, said = await call(scene.seam, method, messages)
            if code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
                defects.append(f"{method} {code.name}: {said} {str(messages)[:2000]}")
            if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
                refused[method, code.name] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(work(), name=f"attacker {number}")
    return refused, defects


def audited(scene: Scene, since: int) -> Counter[tuple[str, str]]:
    """The gateway's refusals in the audit log; the executor may still be adopting what it found."""
    lines = [line for line in scene.seam.audited()[since:] if line["who"] == "gateway"]
    assert all(set(line) <= {"at", "who", "tenant", "rpc", "id", "verdict", "session"} for line in lines)
    return Counter(
        (line["rpc"].replace("Detach", "Attach"), line["verdict"])  # one that was open ends in a line of its own
        for line in lines
        if line["verdict"] not in ("OK", "CANCELLED")
    )


def takes_tenant(method: str) -> bool:
    fields = INPUTS[method].fields_by_name
    return "tenant_id" in (fields["open"].message_type.fields_by_name if "open" in fields else fields)


@pytest.mark.parametrize(
    ("calls", "seed"),
    [
        (1000, 7),
        pytest.param(10_000, secrets.randbits(32), marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
async def test_no_rpc_reaches_beyond_the_tenant(scene: Scene, calls: int, seed: int) -> None:
    """Nothing of others changes in the engine or on the host, nothing crashes, every refusal is in the audit log."""
    print(f"seed {seed}")
    before, lines = scene.untouchable(), len(scene.seam.audited())
    refused, defects = await attack(scene, seed, calls)
    after = scene.untouchable()

    assert defects == []
    assert after == before
    assert refused.total() > calls / 3
    await eventually(lambda: audited(scene, lines).total() >= refused.total())
    assert audited(scene, lines) == refused
    assert {method for method, _ in refused} >= {name for name in INPUTS if takes_tenant(name)}
    assert scene.seam.process.running is not None
    assert scene.seam.process.running.returncode is None
    assert "Traceback" not in scene.seam.process.text()


async def test_another_tenants_devbox_is_not_there(scene: Scene) -> None:
    """Under either tenant's name the answer is that of an absent one, word for word."""
    words = set()
    for devbox_id in (scene.theirs.id, "0123456789ab"):
        with pytest.raises(grpc.aio.AioRpcError) as absent:
            await scene.seam.stub.StopDevBox(pb.StopDevBoxRequest(tenant_id=TENANT, devbox_id=devbox_id))
        words.add((absent.value.code(), str(absent.value.details()).replace(devbox_id, "ID")))
    with pytest.raises(grpc.aio.AioRpcError, match="does not know that tenant"):
        await scene.seam.stub.StopDevBox(pb.StopDevBoxRequest(tenant_id=OTHER_TENANT, devbox_id=scene.theirs.id))

    assert len(words) == 1


async def test_what_is_no_message_is_refused(scene: Scene) -> None:
    """Garbage, an RPC that does not exist, and 5 MiB: each has its status, and the next call works."""
    config = ExecutorConfig.model_validate_json(scene.seam.process.command[-1])
    lines = len(scene.seam.audited())
    async with grpc.aio.insecure_channel(f"unix:{config.rpc_socket}") as channel:
        service = "/clustercode.executor.v1.ExecutorService"
        for path, data, code in (
            (f"{service}/StopDevBox", b"\xff" * 100, grpc.StatusCode.INVALID_ARGUMENT),
            (f"{service}/RunOnHost", b"", grpc.StatusCode.UNIMPLEMENTED),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"", grpc.StatusCode.UNIMPLEMENTED),
            (f"{service}/StopDevBox", b"\x0a" + b"x" * 5 * 1024**2, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(path)(data)
            assert refused.value.code() is code
    assert [box.id for box in await scene.seam.boxes()] == [box.id for box in await scene.seam.boxes()]

    wanted = Counter([("StopDevBox", "INVALID_ARGUMENT"), *[("(unknown)", "UNIMPLEMENTED")] * 2])
    await eventually(lambda: audited(scene, lines) >= wanted)


async def test_the_audit_log_is_the_executors_alone(scene: Scene) -> None:
    """Its directory lets nobody else in, and what is no id is not written to it."""
    with pytest.raises(grpc.aio.AioRpcError):
        await scene.seam.stub.StopDevBox(pb.StopDevBoxRequest(tenant_id="a secret\n", devbox_id="{ }"))
    await eventually(lambda: scene.seam.audited()[-1]["tenant"] == "(not an id)")  # written as the answer goes out
    last = scene.seam.audited()[-1]
    directory = scene.seam.data / "audit"

    assert (last["rpc"], last["id"], last["verdict"]) == ("StopDevBox", "(not an id)", "INVALID_ARGUMENT")
    assert (directory.stat().st_mode & 0o777, (directory / "audit.jsonl").stat().st_mode & 0o777) == (0o700, 0o600)
