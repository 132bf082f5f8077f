"""Images against a real engine: listed, checked, deleted, built, and builds that are stopped leave nothing."""

import asyncio
import base64
import io
import secrets
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from console.app import serve
from console.config import ConsoleConfig
from console.workers import WorkerLink
from protos.errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from tests.integration.conftest import (
    IMAGE,
    OTHER_TENANT,
    TENANT,
    Podman,
    Worker,
    answers,
    create,
    eventually,
    running_worker,
)

NAME = "cc-test-built"
BUILT = f"localhost/{NAME}:latest"


@pytest.fixture(autouse=True)
def no_images_left(podman: Podman, request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove at the end what a test built, with the layers the engine keeps of it."""
    # Asked for before the test, so that the worker is still there after it.
    worker: Worker = request.getfixturevalue("worker" if "worker" in request.fixturenames else "shared_worker")
    yield
    label = f"label=io.clustercode.builder={(worker.data / 'install').read_text().strip()}"
    while images := podman.run("images", "-aq", "--no-trunc", "--filter", label).split():
        podman.run("rmi", "-f", *set(images))


@pytest.fixture
def sleeper() -> str:
    """A number of seconds by which a test finds its own sleeping process."""
    return f"8{secrets.randbelow(10**8):08}"


def tar(**files: str) -> bytes:
    """An archive with these files; '__' in a name stands for a slash."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


async def build(link: WorkerLink, containerfile: str, **more: object) -> str:
    """Build an image; returns its id."""
    answer = await link.request("image.build", {"name": NAME, "containerfile": containerfile, **more})
    return str(answer["imageId"])


class Watched:
    """Progress of a request, and an event for when some line came."""

    def __init__(self, awaited: str = "") -> None:
        self.steps: list[dict[str, Any]] = []
        self.log = ""
        self.seen = asyncio.Event()
        self._awaited = awaited

    def __call__(self, step: dict[str, Any]) -> None:
        if "log" in step:
            self.log += step["log"] + "\n"
        else:
            self.steps.append(step)
        if self._awaited and self._awaited in f"{self.log}{self.steps}":
            self.seen.set()

    async def wait(self) -> None:
        async with asyncio.timeout(60):
            await self.seen.wait()


class Engine:
    """What is on the engine that builds of one installation could have left."""

    def __init__(self, podman: Podman, worker: Worker) -> None:
        self._podman = podman
        self._label = f"label=io.clustercode.builder={(worker.data / 'install').read_text().strip()}"

    def layers(self) -> set[str]:
        """Images without a name that any build left, labelled or not."""
        return set(self._podman.run("images", "-aq", "--no-trunc", "--filter", "dangling=true").split())

    def ours(self) -> set[str]:
        """Ids of all that is labelled as of this installation, containers too."""
        images = self._podman.run("images", "-aq", "--no-trunc", "--filter", self._label).split()
        return {*images, *self._podman.run("ps", "-aq", "--filter", self._label).split()}

    def working(self) -> set[str]:
        """Containers that builds work in, whoever's."""
        lines = self._podman.run("ps", "-a", "--external", "--format", "{{.ID}} {{.Command}}").splitlines()
        return {line.split()[0] for line in lines if line.endswith(" buildah")}


def sleeping(seconds: str) -> list[int]:
    """Processes of this machine that sleep for so long."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and process.info["cmdline"][-2:] == ["sleep", seconds]
    ]


@pytest.fixture
def engine(podman: Podman, shared_worker: Worker) -> Engine:
    """What the shared worker's builds leave."""
    return Engine(podman, shared_worker)


# --- image.build --------------------------------------------------------------------------------------------------


async def test_an_image_is_built_with_steps_and_log(link: WorkerLink, podman: Podman, engine: Engine) -> None:
    """Steps with a fraction, the log, arguments, labels, the context without our Containerfile; no network; stamped."""
    watched = Watched()
    working = engine.working()
    containerfile = (
        "ARG BASE=nothing\nFROM ${BASE}\n# a remark\nARG WORD\nCOPY . /app\nRUN echo said ${WORD} && \\\n"
        "    ls -A /app /app/sub && ls /sys/class/net\n"
    )
    answer = await link.request(
        "image.build",
        {
            "name": NAME,
            "tag": "v1",
            "containerfile": containerfile,
            "context": base64.b64encode(tar(file="one", sub__file="two")).decode(),
            "buildArgs": {"BASE": IMAGE, "WORD": "hello"},
            "labels": {"team": "blue"},
        },
        on_progress=watched,
    )

    assert "said hello" in watched.log
    assert watched.log.split("said hello")[1].split()[:7] == ["/app:", "file", "sub", "/app/sub:", "file", "lo", "-->"]
    assert f"FROM {IMAGE}" in watched.log
    fractions = [step["fraction"] for step in watched.steps if step.get("fraction") is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any("RUN echo said" in step["message"] for step in watched.steps)
    image = await link.request("image.check", {"image": f"localhost/{NAME}:v1"})
    assert image["id"] == answer["imageId"]
    assert image["labels"]["io.clustercode.managed"] == "true"
    assert (image["labels"]["io.clustercode.tenant"], image["labels"]["team"]) == (TENANT, "blue")
    assert engine.working() <= working
    assert "clustercode-build" not in podman.run("images") + podman.run("ps", "-a")
    box = await create(link, image=f"localhost/{NAME}:v1")
    told = await link.request("DevBox.exec", {"devboxId": box, "command": ["cat", "/app/sub/file"]})
    assert told["stdout"] == "two"


async def test_steps_that_did_not_change_come_from_the_cache(link: WorkerLink, engine: Engine) -> None:
    """A second build of the same runs nothing again; with noCache it does, and what it replaces goes."""
    containerfile = f"FROM {IMAGE}\nRUN date +%s%N > /workspace/when\n"
    first = await build(link, containerfile)
    watched = Watched()
    again = await link.request("image.build", {"name": NAME, "containerfile": containerfile}, on_progress=watched)
    layers = len(engine.ours())
    third = await build(link, containerfile, noCache=True)

    assert again["imageId"] == first
    assert "Using cache" in watched.log
    assert third != first
    assert len(engine.ours()) <= layers + 1


async def test_stages_build_on_each_other(link: WorkerLink) -> None:
    """FROM a stage and COPY from one by name and by number."""
    watched = Watched()
    await link.request(
        "image.build",
        {
            "name": NAME,
            "containerfile": f"FROM {IMAGE} AS first\nRUN echo 1 > /workspace/one\nFROM {IMAGE} AS second\n"
            "COPY --from=first /workspace/one /workspace/two\nFROM second\n"
            f"COPY --from=0 /workspace/one /workspace/three\nCOPY --from={IMAGE} /etc/passwd /workspace/four\n"
            "RUN cat /workspace/two /workspace/three && head -1 /workspace/four",
        },
        on_progress=watched,
    )

    assert "1\n1\nroot:" in watched.log
    assert any("stage 3" in step["message"] for step in watched.steps)


async def test_a_step_that_fails_says_so(link: WorkerLink, engine: Engine, podman: Podman) -> None:
    """FAILED_PRECONDITION with the step; its output is in the log; the name is not given, and nothing is left."""
    working, layers = engine.working(), engine.layers()
    watched = Watched()
    with pytest.raises(FailedPrecondition, match="RUN echo wrong"):
        await link.request(
            "image.build",
            {"name": NAME, "containerfile": f"FROM {IMAGE}\nRUN echo wrong; exit 3\n"},
            on_progress=watched,
        )

    assert "wrong" in watched.log
    assert (await link.request("image.check", {"image": BUILT})) == {"exists": False}
    assert engine.working() <= working
    assert engine.layers() <= layers  # nor what was only stamped as ours to build on
    assert "clustercode-build" not in podman.run("images") + podman.run("ps", "-a")


async def test_what_a_failed_build_made_serves_the_next(link: WorkerLink) -> None:
    """Its steps up to the wrong one come from the cache."""
    first = f"FROM {IMAGE}\nRUN echo cost''ly\n"
    with pytest.raises(FailedPrecondition, match="exit 3"):
        await build(link, f"{first}RUN exit 3\n")
    watched = Watched()
    await link.request("image.build", {"name": NAME, "containerfile": f"{first}RUN true\n"}, on_progress=watched)

    assert "Using cache" in watched.log
    assert "costly" not in watched.log


@pytest.mark.parametrize(
    ("spec", "refusal", "says"),
    [
        ({"containerfile": ""}, InvalidArgument, "no FROM"),
        ({"containerfile": "RUN true"}, InvalidArgument, "begins with FROM"),
        ({"containerfile": f"FROM {IMAGE}\nRUN --mount=type=bind,from=x,source=/ ls"}, InvalidArgument, "line 2, RUN"),
        ({"containerfile": f"FROM {IMAGE}\nRUN --network=host true"}, InvalidArgument, "network"),
        ({"containerfile": f"FROM {IMAGE}\nADD http://127.0.0.1/ /x"}, InvalidArgument, "no network"),
        ({"containerfile": "FROM dir:/etc"}, InvalidArgument, "no name of an image"),
        ({"containerfile": "FROM localhost/absent"}, NotFound, "build it first"),
        ({"name": "docker.io/library/debian"}, InvalidArgument, "without a registry"),
        ({"name": "devbox"}, AlreadyExists, "another name"),
        ({"name": "clustercode-egress"}, InvalidArgument, "worker's own"),
        ({"name": "localhost/clustercode-egress"}, InvalidArgument, "worker's own"),
        ({"tag": "-x"}, InvalidArgument, "tag"),
        ({"labels": {"io.clustercode.tenant": "other"}}, InvalidArgument, "worker's own"),
        ({"uploadId": "absent"}, NotFound, "image.context"),
        ({"context": base64.b64encode(b"no archive at all").decode()}, InvalidArgument, "tar"),
        ({"tenantId": "nobody"}, NotFound, "tenant"),
    ],
)
async def test_a_refused_build_says_why(
    link: WorkerLink, engine: Engine, spec: dict[str, str], refusal: type[Exception], says: str
) -> None:
    """Wrong input gets its code and a sentence, and leaves nothing."""
    with pytest.raises(refusal, match=says):
        await link.request("image.build", {"name": NAME, "containerfile": f"FROM {IMAGE}", **spec})

    assert engine.ours() == set()


async def test_a_context_that_leads_out_is_refused(link: WorkerLink) -> None:
    """A link to the machine's own files never reaches the engine."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "../../../etc/shadow"
        archive.addfile(member)
    with pytest.raises(InvalidArgument, match="leads out"):
        await build(link, f"FROM {IMAGE}\nCOPY link /x", context=base64.b64encode(packed.getvalue()).decode())


SLOW = "RUN echo 1 > /workspace/before\nRUN (setsid sleep {0} &); echo slow $((1+1)) step; sleep {0}\nRUN echo after\n"


async def test_a_cancelled_build_leaves_nothing(link: WorkerLink, engine: Engine, sleeper: str) -> None:
    """No process, container or layer of it is left once CANCELLED is answered; the same build then works."""
    containerfile = f"FROM {IMAGE}\n{SLOW.format(sleeper)}"
    layers, working, ours = engine.layers(), engine.working(), engine.ours()
    watched = Watched("slow 2 step")
    async with asyncio.TaskGroup() as group:

        async def expect_cancelled() -> None:
            with pytest.raises(Cancelled):
                await link.request(
                    "image.build",
                    {"name": NAME, "containerfile": containerfile},
                    on_progress=watched,
                    request_id="cancelled-build",
                )

        building = group.create_task(expect_cancelled())
        await watched.wait()
        await eventually(lambda: bool(sleeping(sleeper)))
        link.cancel("cancelled-build")
        link.cancel("cancelled-build")
        async with asyncio.timeout(60):
            await building

    assert sleeping(sleeper) == []
    assert engine.working() <= working
    assert engine.layers() <= layers
    assert engine.ours() == ours
    assert (await link.request("image.check", {"image": BUILT})) == {"exists": False}
    assert await build(link, containerfile.replace(f"sleep {sleeper}", "true"))


async def test_a_build_that_takes_too_long_is_stopped(link: WorkerLink, engine: Engine, sleeper: str) -> None:
    """DEADLINE_EXCEEDED after timeoutMs, and nothing of it is left."""
    ours, working = engine.ours(), engine.working()
    with pytest.raises(DeadlineExceeded, match="stopped and removed"):
        await build(link, f"FROM {IMAGE}\n{SLOW.format(sleeper)}", timeoutMs=2000)

    assert sleeping(sleeper) == []
    assert engine.ours() == ours
    assert engine.working() <= working


async def test_builds_wait_in_line(link: WorkerLink, sleeper: str) -> None:
    """One at a time: the others are told how many are before them, and one that gives up leaves the line."""
    first, second, third = (
        Watched("slow 2 step"),
        Watched("Waiting: 1 build before"),
        Watched("Waiting: 2 builds before"),
    )
    third_moved = Watched("Waiting: 1 build before")

    def on_third(step: dict[str, Any]) -> None:
        third(step)
        third_moved(step)

    async def slow(watched: Callable[[dict[str, Any]], None], request_id: str) -> None:
        with pytest.raises(Cancelled):
            await link.request(
                "image.build",
                {"name": NAME, "containerfile": f"FROM {IMAGE}\nRUN echo slow $((1+1)) step; sleep {sleeper}"},
                on_progress=watched,
                request_id=request_id,
            )

    async with asyncio.TaskGroup() as group:
        group.create_task(slow(first, "line-1"))
        await first.wait()
        group.create_task(slow(second, "line-2"))
        await second.wait()
        group.create_task(slow(on_third, "line-3"))
        await third.wait()
        link.cancel("line-2")
        await third_moved.wait()
        link.cancel("line-3")
        link.cancel("line-1")


async def test_memory_of_a_build_is_bounded(link: WorkerLink) -> None:
    """A step runs with the worker's limit, its own network and without the right to make devices."""
    watched = Watched()
    await link.request(
        "image.build",
        {
            "name": NAME,
            "containerfile": f"FROM {IMAGE}\nUSER root\n"
            "RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; "
            "mknod /tmp/device c 1 3 || echo no device; grep CapEff /proc/self/status; true",
        },
        on_progress=watched,
    )

    assert str(4 * 1024**3) in watched.log
    assert "no device" in watched.log


async def test_a_killed_executor_leaves_no_build(worker: Worker, podman: Podman, sleeper: str) -> None:
    """After SIGKILL in the middle of a build the next executor stops it and removes what it left."""
    link = await worker.link()
    watched = Watched("slow 2 step")
    engine = Engine(podman, worker)
    working = engine.working()
    async with asyncio.TaskGroup() as group:

        async def ask() -> None:
            with pytest.raises(Unavailable, match="may have been done"):
                await link.request(
                    "image.build",
                    {"name": NAME, "containerfile": f"FROM {IMAGE}\n{SLOW.format(sleeper)}"},
                    on_progress=watched,
                )

        group.create_task(ask())
        await watched.wait()
        await worker.executor.kill()
        await worker.executor.start()
    async with asyncio.timeout(60):
        while sleeping(sleeper) or not engine.working() <= working or "-holder" in podman.run("ps", "-a"):
            await asyncio.sleep(0.1)
    await eventually(lambda: answers(link))
    assert await build(link, f"FROM {IMAGE}\nRUN true")


async def test_an_engine_that_dies_in_a_build_is_cleaned_when_it_returns(
    worker: Worker, podman: Podman, sleeper: str
) -> None:
    """SIGKILL to its service: UNAVAILABLE, never a hang; with the engine back nothing of the build runs or works on."""
    link = await worker.link()
    working = Engine(podman, worker).working()
    watched = Watched("slow 2 step")
    async with asyncio.TaskGroup() as group:

        async def ask() -> None:
            with pytest.raises((Unavailable, FailedPrecondition), match=r"engine|build failed"):
                await link.request(
                    "image.build",
                    {"name": NAME, "containerfile": f"FROM {IMAGE}\n{SLOW.format(sleeper)}"},
                    on_progress=watched,
                )

        asking = group.create_task(ask())
        await watched.wait()
        podman.stop()
        podman.start()
        async with asyncio.timeout(90):
            await asking
    assert sleeping(sleeper) == []
    assert "-holder" not in podman.run("ps", "-a")
    assert Engine(podman, worker).working() <= working


async def test_nothing_is_built_on_a_full_disk(podman: Podman) -> None:
    """Below the floor a build is refused with RESOURCE_EXHAUSTED."""
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        directory = Path(name)
        async with (
            serve(ConsoleConfig(data_dir=directory / "console", port=0)) as console,
            running_worker(podman, console, directory, executor_args=("--build-min-free", str(2**60))) as worker,
        ):
            with pytest.raises(ResourceExhausted, match="nearly full"):
                await build(await worker.link(), f"FROM {IMAGE}")


# --- image.context ------------------------------------------------------------------------------------------------


async def test_a_context_is_sent_in_pieces(link: WorkerLink) -> None:
    """Pieces in order, a repeat is no error, a gap is refused with where to go on; the build then has the files."""
    archive = tar(big="x" * 300_000, small="hello")
    pieces = [(offset, archive[offset : offset + 100_000]) for offset in range(0, len(archive), 100_000)]

    async def send(offset: int, data: bytes, **more: object) -> int:
        payload = {"uploadId": "u-1", "offset": offset, "data": base64.b64encode(data).decode(), **more}
        return int((await link.request("image.context", payload))["offset"])

    assert await send(*pieces[0]) == 100_000
    assert await send(*pieces[0]) == 100_000
    with pytest.raises(FailedPrecondition, match="100000 bytes"):
        await send(*pieces[2])
    with pytest.raises(FailedPrecondition, match="not complete"):
        await build(link, f"FROM {IMAGE}\nCOPY small /", uploadId="u-1")
    for offset, data in pieces[1:-1]:
        await send(offset, data)
    for _ in range(2):
        assert await send(*pieces[-1], last=True) == len(archive)
    with pytest.raises(NotFound, match=r"image\.context"):
        await build(link, f"FROM {IMAGE}\nCOPY small /", uploadId="u-1", tenantId=OTHER_TENANT, name="cc-test-other")
    watched = Watched()
    await link.request(
        "image.build",
        {
            "name": NAME,
            "containerfile": f"FROM {IMAGE}\nUSER root\nCOPY . /in\nRUN wc -c /in/big && cat /in/small",
            "uploadId": "u-1",
        },
        on_progress=watched,
    )
    assert "300000 /in/big\nhello" in watched.log


# --- images.list, image.check, image.delete -----------------------------------------------------------------------


async def test_images_are_listed_with_who_uses_them(link: WorkerLink) -> None:
    """Managed ones by default, all if asked, each with the DevBoxes of this worker that use it."""
    image_id = await build(link, f"FROM {IMAGE}\nRUN true")
    box = await create(link, image=BUILT)

    managed = (await link.request("images.list"))["images"]
    everything = (await link.request("images.list", {"all": True}))["images"]

    listed = {tag: image for image in managed for tag in image["tags"]}
    assert (listed[BUILT]["id"], listed[BUILT]["devboxes"]) == (image_id, [box])
    assert listed[BUILT]["sizeBytes"] > 1_000_000
    assert listed[BUILT]["createdAt"].endswith("Z")
    assert IMAGE in listed
    assert all(image["labels"]["io.clustercode.managed"] == "true" for image in managed)
    assert {image["id"] for image in managed} < {image["id"] for image in everything}


async def test_an_image_is_checked_by_tag_digest_and_id(link: WorkerLink, podman: Podman) -> None:
    """All three name the same image; what is not there does not exist; what is no name is refused."""
    image_id, digest = podman.run("image", "inspect", IMAGE, "--format", "{{.Id}} {{.Digest}}").split()
    for reference in (IMAGE, f"localhost/clustercode-test@{digest}", image_id, image_id[:12], f"sha256:{image_id}"):
        answer = await link.request("image.check", {"image": reference})
        assert (answer["exists"], answer["id"]) == (True, f"sha256:{image_id}")
    assert await link.request("image.check", {"image": "localhost/absent:v9"}) == {"exists": False}
    for wrong in ("docker-archive:/etc/passwd", "../x", "a b"):
        with pytest.raises(InvalidArgument, match="image"):
            await link.request("image.check", {"image": wrong})


async def test_an_image_in_use_is_not_deleted(link: WorkerLink) -> None:
    """The refusal names the DevBox; once that is gone, so is the image; repeating finds nothing."""
    image_id = await build(link, f"FROM {IMAGE}\nRUN echo x > /workspace/x")
    box = await create(link, "the-user", image=BUILT)

    for image in (BUILT, image_id):
        with pytest.raises(FailedPrecondition, match=rf"the-user \({box}\)"):
            await link.request("image.delete", {"image": image, "force": True})
    await link.request("DevBox.remove", {"devboxId": box, "force": True})
    assert BUILT in (await link.request("image.delete", {"image": BUILT}))["deleted"]
    assert await link.request("image.check", {"image": BUILT}) == {"exists": False}
    with pytest.raises(NotFound, match=r"images\.list"):
        await link.request("image.delete", {"image": BUILT})


async def test_an_image_with_two_names_loses_one_or_with_force_both(link: WorkerLink) -> None:
    """By name only that name goes; by id it is refused with the names, and force takes all."""
    containerfile = f"FROM {IMAGE}\nRUN echo two > /workspace/x"
    image_id = await build(link, containerfile)
    assert await build(link, containerfile, tag="second") == image_id

    with pytest.raises(FailedPrecondition, match=f"{NAME}:second"):
        await link.request("image.delete", {"image": image_id})
    deleted = (await link.request("image.delete", {"image": image_id, "force": True}))["deleted"]
    assert {BUILT, f"localhost/{NAME}:second"} <= set(deleted)
    assert await link.request("image.check", {"image": image_id}) == {"exists": False}


async def test_an_image_belongs_to_who_built_it(link: WorkerLink) -> None:
    """To another tenant it is not there: not to delete, not to build on, not to create from; nor is its name free."""
    image_id = await build(link, f"FROM {IMAGE}\nRUN true")
    other = {"tenantId": OTHER_TENANT}

    with pytest.raises(NotFound) as foreign:
        await link.request("image.delete", {**other, "image": BUILT})
    with pytest.raises(NotFound) as absent:
        await link.request("image.delete", {**other, "image": "localhost/absent:latest"})
    assert foreign.value.message.replace(BUILT, "X") == absent.value.message.replace("localhost/absent:latest", "X")
    for base in (BUILT, image_id.removeprefix("sha256:")):
        with pytest.raises(NotFound):
            await build(link, f"FROM {base}", **other, name="cc-test-theirs")
    with pytest.raises(AlreadyExists):
        await build(link, f"FROM {IMAGE}", **other)
    with pytest.raises(NotFound, match="build it first"):
        await link.request("DevBox.create", {**other, "name": "b", "image": BUILT})


async def test_the_operators_images_are_not_deleted(link: WorkerLink) -> None:
    """What no message built, no message deletes."""
    with pytest.raises(PermissionDenied, match="operator"):
        await link.request("image.delete", {"image": IMAGE, "force": True})
    with pytest.raises(NotFound):
        await link.request("image.delete", {"image": IMAGE, "tenantId": "nobody"})
