"""An image that a tenant built: containers inherit what it says of itself, and nothing of that may count here."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from executor.egress_image import EgressImage
from executor.engine import Engine
from protos import executor_pb2 as pb
from tests.integration.conftest import IMAGE, TENANT, Podman, eventually, serves
from tests.integration.seam import Seam, seam

VOLUMES = ("volume", "ls", "-q")


@pytest.fixture(scope="module")
async def running(podman: Podman) -> AsyncIterator[Seam]:
    """An executor of one tenant, who builds; no image of theirs is left."""
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        async with seam(podman, Path(name)) as running:
            yield running
        label = f"label=io.clustercode.builder={(running.data / 'install').read_text().strip()}"
        while images := podman.run("images", "-aq", "--no-trunc", "--filter", label).split():
            podman.run("rmi", "-f", *set(images))


async def build(running: Seam, name: str, *lines: str) -> str:
    """Have an image built; returns its name."""
    containerfile = "\n".join((f"FROM {IMAGE}", *lines))
    request = pb.BuildImageRequest(tenant_id=TENANT, name=name, containerfile=containerfile)
    async for _ in running.stub.BuildImage(request):
        pass
    return f"localhost/{name}:latest"


@contextmanager
def pulled(podman: Podman, *lines: str) -> Iterator[str]:
    """An image as one from a registry: nobody's here. Gives its name."""
    container = podman.run("create", IMAGE).strip()
    changes = [word for line in lines for word in ("--change", line)]
    podman.run("commit", "-q", *changes, container, "localhost/cc-hostile")
    podman.run("rm", container)
    try:
        yield "localhost/cc-hostile:latest"
    finally:
        podman.run("rmi", "-f", "localhost/cc-hostile")


async def set_egress(running: Seam, box: pb.DevBox) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await running.stub.SetEgress(
            pb.SetEgressRequest(tenant_id=TENANT, devbox_id=box.id, allowed_domains=["evil.test"])
        )
    code: grpc.StatusCode = refused.value.code()
    return code


@contextmanager
def nothing_written(running: Seam, *places: Path) -> Iterator[None]:
    """The host's files stay as they are, and so does what DevBoxes may reach."""
    policy = running.data / "egress/policy"

    def look() -> list[str]:
        return sorted(str(path) for place in (policy, *places) for path in place.rglob("*"))

    before = look()
    yield
    assert look() == before


async def test_a_label_is_no_address_of_a_devbox(running: Seam, podman: Podman, tmp_path: Path) -> None:
    """Which names a DevBox reaches stands in a file of that address: another DevBox's, or any file of the machine's."""
    (tmp_path / "precious").touch()
    up = "../" * 9
    boxes, codes = [], []
    with nothing_written(running, tmp_path):
        built = await build(running, "address", f'LABEL io.clustercode.egress="{up}{tmp_path}/written"')
        boxes.append(await running.create("built", image=built, profile=pb.PROFILE_STRICT))
        for name, where in (("other", "127.77.1.1"), ("folder", f"{up}{tmp_path}")):
            with pulled(podman, f"LABEL io.clustercode.egress={where}") as image:
                boxes.append(await running.create(name, image=image, profile=pb.PROFILE_STRICT))
                codes.append(await set_egress(running, boxes[-1]))
                await running.remove(boxes[-1])
        codes.append(await set_egress(running, boxes[0]))
        await running.remove(boxes[0])

    assert {box.network for box in boxes} == {pb.NETWORK_NONE}
    assert set(codes) == {grpc.StatusCode.FAILED_PRECONDITION}


async def test_labels_do_not_keep_the_executor_from_starting(running: Seam, podman: Podman) -> None:
    """What is found at start is known by its name too; a DevBox stays what it was."""
    names = ["beside", "egress", "joins", "part", "devbox", "install", "managed", "display", "limits", "profile"]
    with pulled(podman, *(f"LABEL io.clustercode.{name}=../x" for name in names)) as image:
        box = await running.create("box", image=image)
        await running.process.kill()
        await running.process.start()
        await serves(running.process)
        await eventually(lambda: f"adopted DevBox {box.id}" in running.process.text(), 60)

        assert [found.id for found in await running.boxes()] == [box.id]
        assert await running.sh(box, "echo works") == "works\n"
        assert "Traceback" not in running.process.text()
        await running.remove(box)
        assert box.id not in podman.run("ps", "-a")


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ("ghost", "names the user 'ghost', which is not in its /etc/passwd: .* build this one with another USER"),
        ("root:ghosts", "names the group 'ghosts', which is not in its /etc/group"),
        ("4294967296", "names a number beyond 2147483647"),
    ],
)
async def test_an_image_for_a_user_that_it_lacks_is_refused(
    running: Seam, podman: Podman, user: str, says: str
) -> None:
    """By the engine, at the start: the sentence names the user, nothing is left, and nothing calls it a defect."""
    volumes = podman.run(*VOLUMES)
    with pulled(podman, f"USER {user}") as image:
        with pytest.raises(grpc.aio.AioRpcError, match=says) as at_create:
            await running.create("ghost", image=image)
        left = (await running.boxes(), podman.run(*VOLUMES))
        box = await running.create("ghost", image=image, stopped=True)
        with pytest.raises(grpc.aio.AioRpcError, match=says) as at_start:
            await running.stub.StartDevBox(pb.StartDevBoxRequest(tenant_id=TENANT, devbox_id=box.id))
        await running.remove(box)

    assert left == ([], volumes)
    assert {at_create.value.code(), at_start.value.code()} == {grpc.StatusCode.FAILED_PRECONDITION}


async def test_volumes_of_an_image_are_counted_and_go(running: Seam, podman: Podman) -> None:
    """They are writable, so a read-only DevBox has none but where it asked for that."""
    before = podman.run(*VOLUMES)
    for path in ("/dev/shm", "/proc", "/workspace/../run", "/dev"):
        with (
            pulled(podman, f"VOLUME {path}") as image,
            pytest.raises(grpc.aio.AioRpcError, match="belongs to the DevBox's system"),
        ):
            await running.create("system", image=image)
    paths = ["/data", "/more"]
    with pulled(podman, *(f"VOLUME {path}" for path in paths)) as image:
        with pytest.raises(grpc.aio.AioRpcError, match=r"/data, /more.*writablePaths"):
            await running.create("strict", image=image, profile=pb.PROFILE_STRICT)
        refused = podman.run(*VOLUMES)
        strict = await running.create("strict", image=image, profile=pb.PROFILE_STRICT, writable_paths=paths)
        types = await running.sh(strict, "grep -E ' /(data|more) ' /proc/mounts | cut -d' ' -f3")
        standard = await running.create("standard", image=image)
        wrote = await running.sh(standard, "echo x >/data/x && cat /data/x")
        for box in (strict, standard):
            await running.remove(box)

    assert (refused, podman.run(*VOLUMES)) == (before, before)
    assert (types, wrote) == ("tmpfs\ntmpfs\n", "x\n")


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_an_image_under_the_name_of_the_sidecars_is_not_run(running: Seam, podman: Podman) -> None:
    """One that somebody built would see what another tenant's DevBox sends: ours takes the name back."""
    engine = Engine(lambda: podman.socket)
    try:
        ours = await EgressImage(engine).ensure()
        genuine = podman.run("inspect", "-f", "{{.Id}}", ours)
        podman.run("rmi", ours)
        image = await build(running, "sidecar", "LABEL io.clustercode.part=egress")
        podman.run("tag", image, ours)
        assert await EgressImage(engine).ensure() == ours
        found = podman.run("inspect", "-f", "{{.Id}} {{.Config.Labels}}", ours)
    finally:
        await engine.aclose()

    assert "builder" not in found
    assert genuine
