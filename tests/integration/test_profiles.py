"""Every cell of the table of profiles, seen from inside a DevBox; and what is refused where a promise does not hold."""

import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from executor.policy import Profile
from protos import executor_pb2 as pb
from tests.integration.conftest import DEVBOX_IMAGE, OTHER_TENANT, TENANT, Podman, eventually, relayed, serves
from tests.integration.seam import Seam, seam

GIB = 1024**3
TMPFS = {
    "/tmp", "/var/tmp", "/opt/own", "/opt/asked",
    *(f"/home/developer/{name}" for name in (".cache", ".npm", ".cargo", ".local/share")),
}  # fmt: skip
ROOMS = sorted({"/", "/etc", "/var", "/home/developer", "/workspace", *TMPFS})

LOOK = f"""
for room in {" ".join(ROOMS)}; do
  if (: >"$room/.probe") 2>/dev/null; then echo "$room writable"; fi
done
for room in {" ".join(ROOMS)}; do
  grep -q "^[^ ]* $room tmpfs" /proc/mounts && echo "$room tmpfs"
done
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d ':'
cd /sys/fs/cgroup
echo memory $(cat memory/memory.limit_in_bytes memory.max 2>/dev/null)
echo cpu $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu,cpuacct/cpu.cfs_quota_us cpu.max 2>/dev/null)
echo pids $(cat pids/pids.max pids.max 2>/dev/null)
echo net $(ls /sys/class/net)
echo env $GREETING $SECRET
"""
FORKS = "n=0; while [ $n -lt 400 ]; do sleep 60 >/dev/null 2>&1 & n=$((n+1)); echo $n; done"


@pytest.fixture(scope="module")
async def owner(podman: Podman) -> AsyncIterator[Seam]:
    """A worker whose owner allows all there is."""
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        tenants = {TENANT: {"writable_paths": ["/opt/own"]}}
        switches = {"security_floor": Profile.OPEN, "allow_privileged": True}
        async with seam(podman, Path(name), tenants=tenants, **switches) as running:
            yield running


@pytest.fixture(scope="module")
async def fleet(podman: Podman) -> AsyncIterator[Seam]:
    """A worker of two tenants that takes every profile."""
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        async with seam(
            podman, Path(name), tenants=[TENANT, OTHER_TENANT], mode="fleet", security_floor=Profile.OPEN
        ) as running:
            yield running


def capabilities_of_machine() -> int:
    """The bounding set of the process that all others descend from."""
    status = Path("/proc/1/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("CapBnd")).split()[1], 16)


@dataclass(frozen=True)
class Held:
    """What a profile promises, in numbers."""

    memory: int
    cpus: int | None
    pids: int | None
    read_only: bool


TABLE = {
    Profile.OPEN: Held(4 * GIB, None, None, read_only=False),
    Profile.STANDARD: Held(4 * GIB, 2, 256, read_only=False),
    Profile.STRICT: Held(2 * GIB, 1, 128, read_only=True),
    Profile.OFFLINE: Held(2 * GIB, 1, 128, read_only=True),
}


@pytest.mark.parametrize("profile", TABLE)
async def test_a_profile_holds_from_inside(owner: Seam, profile: Profile) -> None:
    """Write attempts, capabilities, control groups, processes until the limit, interfaces, environment."""
    await holds_from_inside(owner, profile, capabilities_of_machine())


async def holds_from_inside(owner: Seam, profile: Profile, all_capabilities: int, missing: Sequence[str] = ()) -> None:
    """Make a DevBox and look at every cell; limits that are known to be ``missing`` are said to be, and are."""
    held = TABLE[profile]
    injected = {} if profile is Profile.OFFLINE else {"env": {"GREETING": "hello"}, "secret_env": {"SECRET": "world"}}
    box = await owner.create(profile.label, profile=int(profile), writable_paths=["/opt/asked"], **injected)
    # Root without capabilities may not write to what is another user's: both try.
    lines = (await owner.sh(box, LOOK, user="0")).splitlines()
    said = {line.split()[0]: line.split()[1:] for line in lines if line[0] != "/"}
    lines += (await owner.sh(box, LOOK)).splitlines()
    writable = {line.split()[0] for line in lines if line.endswith(" writable")}
    tmpfs = {line.split()[0] for line in lines if line.endswith(" tmpfs")}

    if held.read_only:
        assert writable == TMPFS | {"/workspace"}
        assert tmpfs == TMPFS
    else:
        assert writable >= {"/etc", "/var", "/home/developer", "/workspace", "/tmp"}
    is_open = profile is Profile.OPEN
    assert int(said["CapEff"][0], 16) == (all_capabilities if is_open else 0)
    assert int(said["CapBnd"][0], 16) == (all_capabilities if is_open else 0)
    assert said["NoNewPrivs"] == (["0"] if is_open else ["1"])
    assert said["Seccomp"] == ["2"]
    assert said["net"] == (sorted(name for _, name in socket.if_nameindex()) if is_open else ["lo"])
    assert said["env"] == ([] if profile is Profile.OFFLINE else ["hello", "world"])
    assert [list(one.missing_limits) for one in await owner.boxes()] == [list(box.missing_limits)] == [list(missing)]
    if "memory" not in missing:
        assert said["memory"] == [str(held.memory)]
    if "cpus" not in missing:
        assert said["cpu"] == (["-1", "100000"] if held.cpus is None else [str(held.cpus * 100_000), "100000"])
    if held.pids is not None:
        forked = [int(line) for line in (await owner.sh(box, FORKS)).split() if line.isdigit()]
        if "pids" in missing:
            assert forked[-1] > held.pids
        else:
            assert said["pids"] == [str(held.pids)]
            assert held.pids - 20 < forked[-1] < held.pids
    await owner.remove(box)


async def test_offline_takes_no_environment(owner: Seam) -> None:
    """Neither env nor secretEnv: it is refused, not ignored."""
    for injected in ({"env": {"A": "b"}}, {"secret_env": {"A": "b"}}):
        with pytest.raises(grpc.aio.AioRpcError, match="neither env nor secretEnv"):
            await owner.create("no", profile=int(Profile.OFFLINE), **injected)


async def test_sockets_that_leave_a_box_without_network_are_closed(owner: Seam) -> None:
    """AF_VSOCK and io_uring, which could make one past the filter, do not exist; what programs need works."""
    box = await owner.create("sockets", image=DEVBOX_IMAGE)
    script = """
import ctypes, socket
def attempt(family, kind=socket.SOCK_STREAM, protocol=0):
    try:
        socket.socket(family, kind, protocol).close()
        return "made"
    except OSError as error:
        return error.strerror
libc = ctypes.CDLL(None, use_errno=True)
print("vsock:", attempt(40), "| alg:", attempt(38, socket.SOCK_SEQPACKET), "| packet:", attempt(17, socket.SOCK_RAW))
print("uring:", libc.syscall(425, 1, ctypes.create_string_buffer(256)), ctypes.get_errno())
print("usual:", *(attempt(family) for family in (1, 2, 10)), attempt(16, socket.SOCK_RAW))
"""
    printed = await owner.sh(box, f"python3 - <<'END'\n{script}\nEND")

    no = "Function not implemented"
    assert printed.splitlines() == [
        f"vsock: {no} | alg: {no} | packet: {no}", "uring: -1 38", "usual: made made made made",
    ]  # fmt: skip
    await owner.remove(box)


async def test_a_privileged_devbox_is_its_owners_wish(owner: Seam, fleet: Seam) -> None:
    """With open on one's own machine it has all; with another profile, and in a fleet, it is refused."""
    await is_privileged(owner, capabilities_of_machine())
    with pytest.raises(grpc.aio.AioRpcError, match="Only an open DevBox can be privileged"):
        await owner.create("no", profile=int(Profile.STANDARD), privileged=True)
    with pytest.raises(grpc.aio.AioRpcError, match="not allowed on a worker of a fleet"):
        await fleet.create("no", profile=int(Profile.OPEN), privileged=True)


async def is_privileged(owner: Seam, all_capabilities: int) -> None:
    """Make a privileged DevBox, and look from inside whether it is."""
    box = await owner.create("privileged", profile=int(Profile.OPEN), privileged=True)
    status = await owner.sh(box, "grep -E '^(CapEff|Seccomp):' /proc/self/status; ls /dev | wc -l", user="0")
    capabilities, seccomp, devices = (line.split()[-1] for line in status.splitlines())

    assert box.privileged
    assert int(capabilities, 16) == all_capabilities
    assert seccomp == "0"
    assert int(devices) > 30
    await owner.remove(box)


async def test_an_open_devbox_is_alone_with_its_tenant(fleet: Seam) -> None:
    """Refused while another tenant has a DevBox, and the other way round."""
    theirs = await fleet.create("theirs", tenant=OTHER_TENANT)
    with pytest.raises(grpc.aio.AioRpcError, match="another tenant has a DevBox here"):
        await fleet.create("open", profile=int(Profile.OPEN))
    await fleet.remove(theirs)
    mine = await fleet.create("open", profile=int(Profile.OPEN))
    with pytest.raises(grpc.aio.AioRpcError, match="Another tenant has an open DevBox here"):
        await fleet.create("theirs", tenant=OTHER_TENANT)
    await fleet.remove(mine)


async def test_a_devbox_below_the_floor_is_stopped_at_start_if_the_owner_says_so(
    podman: Podman, directory: Path
) -> None:
    """A raised floor reports what is below it, refuses to start it, and stops it only by the switch."""
    async with seam(podman, directory, security_floor=Profile.OPEN) as before:
        box = await before.create("low", profile=int(Profile.OPEN))
        await before.process.stop()
        for stops in (False, True):
            seen = before.process.text().count("below the floor")
            raised = before.process.command[-1].replace('"security_floor":1', '"security_floor":3')
            before.process.command[-1] = raised.replace(
                '"stop_below_floor":false', f'"stop_below_floor":{str(stops).lower()}'
            )
            await before.process.start()
            await serves(before.process)
            await eventually(lambda seen=seen: before.process.text().count("below the floor") > seen)
            if stops:
                await eventually(lambda: f"DevBox {box.id} was stopped" in before.process.text())
                with pytest.raises(grpc.aio.AioRpcError, match="security floor of this worker is strict"):
                    await start(before, box.id)
            state = podman.run("inspect", "-f", "{{.State.Running}}", f"clustercode-{box.id}").strip()
            assert state == ("false" if stops else "true")
            await before.process.stop(signal.SIGTERM)


def lifted(container: str) -> int:
    """Take the bound on processes from a running container; returns from how many control groups."""
    groups = [path for path in Path("/sys/fs/cgroup").rglob(f"*{container}*") if (path / "pids.max").exists()]
    for group in groups:
        (group / "pids.max").write_text("max")
    return len(groups)


async def start(seam: Seam, devbox_id: str) -> None:
    await seam.stub.StartDevBox(pb.StartDevBoxRequest(tenant_id=TENANT, devbox_id=devbox_id))


@asynccontextmanager
async def forgetful(podman: Podman, directory: Path) -> AsyncIterator[Path]:
    """The engine behind a relay that makes it ignore limits of memory and processes, as some do."""

    def forget(data: bytes) -> tuple[bytes, bytes]:
        # Names that the engine does not know, of the same length.
        return data.replace(b'"Memory', b'"Nemory').replace(b'"PidsLimit"', b'"QidsLimit"'), b""

    async with relayed(podman, directory, forget) as engine:
        yield engine


async def test_an_engine_that_drops_limits_gets_no_devbox(podman: Podman, directory: Path) -> None:
    """The box is gone and the answer names the limits; accepted by name it runs, and says what it lacks."""
    async with forgetful(podman, directory) as engine:
        async with seam(podman, directory, engine_socket=engine) as strict:
            with pytest.raises(grpc.aio.AioRpcError, match=r"does not keep .*memory, pids.*acceptMissingLimits"):
                await strict.create("no")
            label = f"label=io.clustercode.install={(strict.data / 'install').read_text().strip()}"
            assert (
                podman.run("ps", "-aq", "--filter", label) == podman.run("volume", "ls", "-q", "--filter", label) == ""
            )
            with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
                await start(strict, "0123456789ab")
        async with seam(podman, directory, engine_socket=engine, accepted_missing_limits=["memory", "pids"]) as lenient:
            box = await lenient.create("marked")
            listed = await lenient.boxes()

        assert list(box.missing_limits) == ["memory", "pids"]
        assert [list(one.missing_limits) for one in listed] == [["memory", "pids"]]


async def test_a_devbox_whose_limits_were_lifted_is_stopped_at_start(podman: Podman, directory: Path) -> None:
    """What runs is compared with its profile too when an executor comes back; started again, it is as promised."""
    async with seam(podman, directory) as running:
        box = await running.create("lifted")
        await running.process.stop()
        container = podman.run("inspect", "-f", "{{.Id}}", f"clustercode-{box.id}").strip()
        assert lifted(container) > 0
        await running.process.start()
        await serves(running.process)
        await eventually(lambda: f"DevBox {box.id} was stopped" in running.process.text())
        await start(running, box.id)

        assert "pids is not limited" in running.process.text()
        assert await running.sh(box, "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null") == "256\n"
