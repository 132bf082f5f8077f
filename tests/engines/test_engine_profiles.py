"""Every cell of the table of profiles on Docker and on a rootless Podman, from inside, as on a rootful one."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from executor.policy import Profile
from tests.engines.conftest import Engine, interpreter
from tests.integration.conftest import TENANT
from tests.integration.seam import Seam, seam
from tests.integration.test_profiles import TABLE, capabilities_of_machine, holds_from_inside, is_privileged

LIMITS = {Profile.OPEN: ["memory"]}
"""What a profile bounds, where that is not all."""
ALL_LIMITS = ["memory", "cpus", "pids"]
DOCKER_KNOWS = (1 << 38) - 1
"""The capabilities that Docker 20.10 has names for; Linux got three more since (perfmon, bpf, checkpoint_restore)."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@asynccontextmanager
async def owner(engine: Engine, accept: list[str]) -> AsyncIterator[Seam]:
    """A worker whose owner allows all there is, and accepts that these limits are missing."""
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        directory = Path(name)
        engine.own(directory / "data")
        async with seam(
            engine,
            directory,
            python=engine.as_user(interpreter(of_all=engine.user is not None)[0]),
            environment=engine.worker_environment,
            clear=lambda data: engine.clear((data / "install").read_text().strip()),
            tenants={TENANT: {"writable_paths": ["/opt/own"]}},
            security_floor=Profile.OPEN,
            allow_privileged=True,
            accepted_missing_limits=accept,
        ) as running:
            yield running


@pytest.fixture(params=["docker", "rootless"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of them."""
    found: Engine = request.getfixturevalue(request.param)
    return found


def capabilities(engine: Engine) -> int:
    """Return all there are for a DevBox of this engine."""
    if engine.user is not None:  # of its own user namespace, whatever the machine lacks
        return (1 << int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1) - 1
    return capabilities_of_machine() & DOCKER_KNOWS


async def test_a_profile_holds_from_inside(engine: Engine) -> None:
    """Limits that the engine cannot hold are named as missing, once the owner accepted that."""
    async with owner(engine, [] if engine.holds_limits else ALL_LIMITS) as running:
        for profile in TABLE:
            missing = [] if engine.holds_limits else LIMITS.get(profile, ALL_LIMITS)
            await holds_from_inside(running, profile, capabilities(engine), missing)


async def test_what_an_engine_cannot_hold_is_refused(rootless: Engine) -> None:
    """Until the machine's owner accepts it by name: all that is missing, and the answer says what is."""
    if rootless.holds_limits:
        return
    for accept in ([], ["memory", "cpus"]):
        async with owner(rootless, accept) as running:
            for profile in TABLE:
                missing = sorted(set(LIMITS.get(profile, ALL_LIMITS)) - set(accept))
                if missing:
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await running.create(profile.label, profile=int(profile))
                    said = refused.value.details() or ""
                    assert f"does not keep what the profile promises ({', '.join(missing)})" in said
                    assert "acceptMissingLimits" in said
            assert await running.boxes() == []
            install = (running.data / "install").read_text().strip()
            for kind in ("ps", "-aq"), ("volume", "ls", "-q"):
                assert rootless.run(*kind, "--filter", f"label=io.clustercode.install={install}") == ""


async def test_a_privileged_devbox_is_one(engine: Engine) -> None:
    """It has what the machine has, as far as the engine knows it, and no filter."""
    async with owner(engine, [] if engine.holds_limits else ["memory"]) as running:
        await is_privileged(running, capabilities(engine))
