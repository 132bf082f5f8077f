"""The matrix of egress on Docker and on a rootless Podman: the same containers keep the same promises."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.app import serve
from console.config import ConsoleConfig
from console.workers import WorkerLink
from tests.engines.conftest import Engine, interpreter
from tests.integration.conftest import TENANT, Process, Worker, eventually, gateway_process, serves, started
from tests.integration.internet import Internet
from tests.integration.test_egress import (
    Site,
    builds_reach,
    egress_process,
    reaches_its_list_alone,
    survives_kills,
    world,
)

__all__ = ["world"]  # a fixture

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=["docker", "rootless"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of them."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
async def site(engine: Engine, world: Internet) -> AsyncIterator[Site]:
    """A worker on the engine: its executor and its egress process run as whoever has that."""
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        directory = Path(name)
        data = directory / "data"
        engine.own(data)
        program = engine.as_user(*interpreter(of_all=engine.user is not None))
        executor = Process(
            "executor",
            [*program, "executor", "--tenants", TENANT, "--data-dir", str(data), "--with-egress",
             "--engine-socket", str(engine.socket), "--accept-missing-limits", "memory,cpus,pids"],
            directory / "executor.log",
        )  # fmt: skip
        egress = egress_process(world, directory, program)
        for process in (egress, executor):
            process.environment.update(engine.worker_environment)
        async with serve(ConsoleConfig(data_dir=directory / "console", port=0)) as console:
            owner = ("--executor-uid", str(data.stat().st_uid))
            gateway = gateway_process(directory, console.worker_url, console.token_file, *owner)
            try:
                async with started(executor, gateway):
                    await serves(executor)
                    async with started(egress):
                        yield Site(world, egress, Worker(gateway, executor, console, directory, "w-test"))
            finally:
                engine.clear((data / "install").read_text().strip())


@pytest.fixture
async def link(site: Site) -> AsyncIterator[WorkerLink]:
    """The orchestrator's side of it, which has no DevBoxes after."""
    link = await site.worker.link(60)
    await eventually(lambda: bool(link.register and link.register.container_engines), timeout_s=60)
    yield link
    for box in (await link.request("DevBox.list"))["devboxes"]:
        await link.request("DevBox.remove", {"devboxId": box["id"], "force": True}, timeout_s=60)


@pytest.mark.parametrize("profile", ["standard", "strict"])
async def test_a_devbox_reaches_what_its_list_names_and_nothing_else(
    site: Site, link: WorkerLink, engine: Engine, profile: str
) -> None:
    """More than 60 probes with live controls."""
    await reaches_its_list_alone(site, link, profile, engine.places())


async def test_what_is_killed_comes_back_and_nothing_leaks(site: Site, link: WorkerLink, engine: Engine) -> None:
    """Each part in turn, a restart, and nothing left."""
    await survives_kills(site, link, engine.run, engine.places())


async def test_a_build_reaches_the_built_in_names_or_nothing(site: Site, link: WorkerLink, engine: Engine) -> None:
    """On Podman by the way of a standard DevBox; Docker cannot put a build there, so it has no network."""
    await builds_reach(site, link, engine.run, routed=engine.command[0] == "podman")
