"""The same matrix on Docker: the same containers, made by the same calls, keep the same promises."""

import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from console.app import serve
from console.config import ConsoleConfig
from tests.integration.conftest import (
    DEVBOX_IMAGE,
    PROGRAM,
    TENANT,
    Podman,
    Process,
    create,
    eventually,
    gateway_process,
    started,
)
from tests.integration.internet import CANARY, Internet
from tests.integration.test_egress import NAMES, REACHED, REFUSED, egress_process, probe, world

__all__ = ["world"]  # a fixture


@pytest.fixture
def docker(directory: Path) -> Iterator[Path]:
    """A Docker daemon of its own, with the image that the boxes are made from; returns its socket."""
    if shutil.which("dockerd") is None:
        pytest.fail("This test needs Docker: run it by 'make test-long', which installs it.")
    place = Path(tempfile.mkdtemp(prefix="cc-docker-"))
    with (directory / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", "--host", f"unix://{place}/docker.sock", "--data-root", f"{place}/data", "--exec-root",
             f"{place}/exec", "--pidfile", f"{place}/pid", "--bridge", "none", "--iptables=false"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield place / "docker.sock"
    finally:
        daemon.terminate()
        daemon.wait(60)
        shutil.rmtree(place, ignore_errors=True)


@asynccontextmanager
async def api(socket: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Docker's own API, beside the worker."""
    async with aiohttp.ClientSession("http://docker", connector=aiohttp.UnixConnector(str(socket))) as session:
        yield session


@pytest.mark.long
@pytest.mark.parametrize("profile", ["standard", "strict"])
async def test_docker_lets_nothing_else_out_either(
    podman: Podman, docker: Path, world: Internet, directory: Path, profile: str
) -> None:
    """The matrix, each part killed, a restart, and nothing left."""
    await eventually(docker.is_socket, timeout_s=60)
    podman.run("save", "-o", str(directory / "image.tar"), DEVBOX_IMAGE)
    executor = Process(
        "executor",
        [*PROGRAM, "executor", "--tenants", TENANT, "--data-dir", str(directory / "data"), "--runtime", "docker",
         "--engine-socket", str(docker), "--with-egress"],
        directory / "executor.log",
    )  # fmt: skip
    async with (
        api(docker) as engine,
        serve(ConsoleConfig(data_dir=directory / "console", port=0)) as console,
        engine.post("/images/load", data=(directory / "image.tar").open("rb")) as loaded,
        started(
            egress_process(world, directory),
            executor,
            gateway_process(directory, console.worker_url, console.token_file),
        ),
    ):
        assert DEVBOX_IMAGE in await loaded.text()
        link = await console.worker("w-test", 60)
        box = await create(link, image=DEVBOX_IMAGE, profile=profile, allowedDomains=NAMES)

        reached = await probe(link, box, [one for one, _ in REACHED])
        refused = await probe(link, box, [one for one, _ in REFUSED])
        wrong = [(one, got) for (one, label), got in zip(REACHED, reached, strict=True) if CANARY + label not in got]
        assert wrong == []
        assert [(one, got) for (one, _), got in zip(REFUSED, refused, strict=True) if CANARY in got] == []

        async def works() -> bool:
            found = await probe(link, box, [["connect", "allowed.test", 443], ["connect", "evil.test", 443]])
            assert CANARY not in found[1], "it leaks"
            return CANARY in found[0]

        for part in ("egress", "net", "egress"):
            async with engine.post(f"/containers/clustercode-{box}-{part}/kill") as answer:
                assert answer.status < 300, await answer.text()
            await eventually(works, timeout_s=60)
        await link.request("DevBox.stop", {"devboxId": box, "timeoutSeconds": 0})
        await link.request("DevBox.start", {"devboxId": box})
        await eventually(works, timeout_s=60)
        await link.request("DevBox.remove", {"devboxId": box, "force": True})
        async with engine.get("/containers/json", params={"all": "true"}) as answer:
            assert await answer.json() == []
