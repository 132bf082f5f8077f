"""Images on Docker and on a rootless Podman: what each engine says and leaves in its own way, as on a rootful one."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from protos import executor_pb2 as pb
from tests.engines.conftest import Engine
from tests.engines.test_engine_profiles import ALL_LIMITS, owner
from tests.integration.conftest import IMAGE, TENANT

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(params=["docker", "rootless"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of them."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@contextmanager
def pulled(engine: Engine, change: str) -> Iterator[str]:
    """An image as one from a registry: nobody's here. Gives its name."""
    name = f"localhost/cc-pulled-{secrets.token_hex(3)}:latest"
    container = engine.run("create", "--network", "none", IMAGE).strip()
    engine.run("commit", "--change", change, container, name)
    engine.run("rm", container)
    try:
        yield name
    finally:
        engine.run("rmi", "-f", name)


async def test_an_image_for_a_user_that_it_lacks_is_refused(engine: Engine) -> None:
    """In the same words, whatever the engine's own are."""
    async with owner(engine, [] if engine.holds_limits else ALL_LIMITS) as running:
        for user, says in (
            ("ghost", "the user 'ghost'"),
            ("root:ghosts", "the group 'ghosts'"),
            ("4294967296", "a number"),
        ):
            with pulled(engine, f"USER {user}") as image, pytest.raises(grpc.aio.AioRpcError) as refused:
                await running.create("ghost", image=image)
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert f"The image's USER names {says}" in str(refused.value.details())


async def test_a_failed_build_leaves_no_image(engine: Engine) -> None:
    """Where its first step failed: nothing was made. What earlier builds left was looked for in the engine's words."""
    before = set(engine.run("images", "-aq").split())
    async with owner(engine, [] if engine.holds_limits else ALL_LIMITS) as running:
        request = pb.BuildImageRequest(tenant_id=TENANT, name="fails", containerfile=f"FROM {IMAGE}\nRUN exit 3")
        with pytest.raises(grpc.aio.AioRpcError, match=r"exit 3|code: 3"):
            async for _ in running.stub.BuildImage(request):
                pass
        left = set(engine.run("images", "-aq").split())
        log = running.process.text()

    assert left == before
    assert "leftovers of builds are looked for again" not in log
