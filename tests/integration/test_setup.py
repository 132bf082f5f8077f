"""``DevBox.setup`` against a real engine, real git, and a real git server that asks for a password."""

import asyncio
import base64
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from console.app import serve
from console.config import ConsoleConfig
from console.workers import WorkerLink
from protos.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from tests.integration.conftest import (
    DEVBOX_IMAGE,
    OTHER_TENANT,
    TENANT,
    Podman,
    Worker,
    create,
    empty,
    running_worker,
)
from tests.integration.git_server import GitServer, run, serving

PASSWORD = f"pw-{secrets.token_hex(12)}"
COMMIT = "git -c user.name=B -c user.email=b@example.com commit --quiet --all --message mine"
TICKET = {"id": "ABC-12", "title": "Make it work", "body": "It does not.\n\nIt should.", "url": "https://t.example/12"}


@pytest.fixture(scope="module")
async def open_worker(podman: Podman) -> AsyncIterator[Worker]:
    """A worker that allows open DevBoxes, whose network is the machine's: they reach a server on loopback."""
    directory = Path(tempfile.mkdtemp(prefix="cc-"))
    try:
        async with (
            serve(ConsoleConfig(data_dir=directory / "console", port=0)) as console,
            running_worker(
                podman,
                console,
                directory,
                executor_args=("--mode", "fleet", "--tenants", f"{TENANT},{OTHER_TENANT}", "--floor", "open"),
            ) as running,
        ):
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def box(open_worker: Worker) -> AsyncIterator[str]:
    """An open DevBox with git."""
    link = await open_worker.link()
    yield await create(link, "open", DEVBOX_IMAGE, profile="open")
    await empty(link)


@pytest.fixture
async def offline_box(link: WorkerLink) -> str:
    """A DevBox with git and without any network: a new one for each test, because Podman slows as execs gather."""
    return await create(link, "standard", DEVBOX_IMAGE)


@pytest.fixture
def server() -> Iterator[GitServer]:
    """A git server with a password and one repository, ``project``."""
    root = Path(tempfile.mkdtemp(prefix="cc-git-"))
    try:
        with serving(root, PASSWORD) as server:
            server.make()
            yield server
    finally:
        shutil.rmtree(root)


async def sh(link: WorkerLink, box: str, command: str, **more: object) -> str:
    """Run a command that must succeed in a box; returns what it prints."""
    answer = await link.request("DevBox.exec", {"devboxId": box, "command": command, **more})
    assert answer["exitCode"] == 0, answer
    return str(answer["stdout"]).strip()


async def set_up(link: WorkerLink, box: str, url: str, timeout_s: float = 60, **more: object) -> dict[str, Any]:
    """Set a box up; what is not of the payload itself is of the repository."""
    own = {key: more.pop(key) for key in ("ticket", "instructions", "workdir", "timeoutMs", "tenantId") if key in more}
    payload = {"devboxId": box, "repository": {"url": url, **more}, **own}
    return await link.request("DevBox.setup", payload, timeout_s=timeout_s)


# --- With a password ----------------------------------------------------------------------------------------------


async def test_a_password_clones_and_is_found_nowhere(
    open_worker: Worker, box: str, server: GitServer, podman: Podman
) -> None:
    """Clone, branch, commit and CLAUDE.md are right; no file, process, log or engine store holds the password."""
    link = await open_worker.link()
    feature = server.commit("project", {"feature": "x\n" * 20000}, branch="feature")
    steps: list[dict[str, Any]] = []
    answer = await link.request(
        "DevBox.setup",
        {
            "devboxId": box,
            "repository": {"url": server.url(), "branch": "feature", "credential": PASSWORD},
            "ticket": TICKET,
            "instructions": "Run the tests.",
        },
        on_progress=steps.append,
        timeout_s=60,
    )

    assert answer == {
        "workdir": "/workspace/project",
        "branch": "feature",
        "commit": feature,
        "claudeMd": "/workspace/project/CLAUDE.md",
    }
    assert any(step["message"].startswith("Receiving objects") and step["fraction"] == 1 for step in steps)
    text = await sh(link, box, "cat project/CLAUDE.md; git -C project status --porcelain; git -C project remote -v")
    for part in ("ABC-12: Make it work", "It should.", "https://t.example/12", "Run the tests."):
        assert part in text
    assert "\n??" not in text
    # The needle comes by standard input, so that the search does not find itself.
    search = (
        "cat >/dev/shm/needle; for d in /*; do case $d in /proc|/sys|/dev) ;; *) grep -rlsF -f /dev/shm/needle $d ;; "
        "esac; done; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | grep -acF -f /dev/shm/needle; "
        "test -s /dev/shm/needle && rm /dev/shm/needle"
    )
    assert await sh(link, box, search, user="root", stdin=base64.b64encode(PASSWORD.encode()).decode()) == "0"
    for log in (open_worker.executor.text(), open_worker.gateway.text(), str(steps), str(answer)):
        assert PASSWORD not in log
    for directory in (open_worker.data, *_engine_folders(podman)):
        assert _files_with(PASSWORD.encode(), directory) == []
    assert PASSWORD not in podman.run("inspect", f"clustercode-{box}")


def _engine_folders(podman: Podman) -> list[Path]:
    """Where the engine keeps what it knows of containers and execs; images and layers are elsewhere."""
    root, run_root = podman.run("info", "--format", "{{.Store.GraphRoot}} {{.Store.RunRoot}}").split()
    return [Path(root) / "libpod", *Path(root).glob("*-containers"), *Path(run_root).glob("*-containers")]


def _files_with(needle: bytes, directory: Path) -> list[str]:
    found = []
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            try:
                if needle in path.read_bytes():
                    found.append(str(path))
            except OSError:  # gone meanwhile
                pass
    return found


async def test_a_wrong_password_is_refused_and_leaves_nothing(open_worker: Worker, box: str, server: GitServer) -> None:
    """Wrong and missing credentials are told apart, in sentences without the credential."""
    link = await open_worker.link()
    with pytest.raises(PermissionDenied, match="does not accept") as refusal:
        await set_up(link, box, server.url(), credential="wrong-one")
    with pytest.raises(PermissionDenied, match="send it as"):
        await set_up(link, box, server.url())
    with pytest.raises(NotFound, match="no repository"):
        await set_up(link, box, server.url("absent"), credential=PASSWORD)

    assert "wrong-one" not in refusal.value.message
    assert await sh(link, box, "ls -A /workspace") == ""


async def test_a_submodule_on_another_server_does_not_get_the_password(
    open_worker: Worker, box: str, server: GitServer
) -> None:
    """The credential is for the repository's own server; one elsewhere is asked without."""
    link = await open_worker.link()
    root = Path(tempfile.mkdtemp(prefix="cc-git-"))
    try:
        with serving(root, "another") as other:
            other.make("library")
            work = str(server.root / "project.work")
            run("-C", work, "submodule", "add", "--quiet", str(other.root / "library.git"), "library")
            run("-C", work, "config", "--file", ".gitmodules", "submodule.library.url", other.url("library"))
            server.commit("project", {})
            with pytest.raises(PermissionDenied):
                await set_up(link, box, server.url(), credential=PASSWORD)
    finally:
        shutil.rmtree(root)

    assert await sh(link, box, "ls -A /workspace") == ""


async def test_a_cancelled_clone_leaves_nothing(open_worker: Worker, box: str, server: GitServer) -> None:
    """After CANCELLED no git runs and nothing of the clone is there."""
    link = await open_worker.link()
    server.stalls = True
    payload = {"devboxId": box, "repository": {"url": server.url(), "credential": PASSWORD}}
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(_refused(link.request("DevBox.setup", payload, request_id="stop-me", timeout_s=60)))
        assert await asyncio.to_thread(server.stalled.wait, 60)
        link.cancel("stop-me")
    assert isinstance(asked.result(), Cancelled)

    assert await sh(link, box, "ls -A /workspace; ps -eo comm | grep git || true") == ""


async def _refused(work: Awaitable[object]) -> Exception | None:
    try:
        await work
    except Exception as error:  # noqa: BLE001
        return error
    return None


async def test_a_setup_that_takes_too_long_is_stopped(open_worker: Worker, box: str, server: GitServer) -> None:
    """After DEADLINE_EXCEEDED no git runs and nothing of the clone is there; then it works."""
    link = await open_worker.link()
    server.stalls = True
    with pytest.raises(DeadlineExceeded, match="timeoutMs"):
        await set_up(link, box, server.url(), credential=PASSWORD, timeoutMs=2500)
    assert await sh(link, box, "ls -A /workspace; ps -eo comm | grep git || true") == ""

    server.stalls = False
    assert (await set_up(link, box, server.url(), credential=PASSWORD))["branch"] == "main"


async def test_an_update_interrupted_leaves_the_old_state(open_worker: Worker, box: str, server: GitServer) -> None:
    """A fetch that is stopped changes nothing; the next one brings what is new."""
    link = await open_worker.link()
    old = (await set_up(link, box, server.url(), credential=PASSWORD, ticket=TICKET))["commit"]
    new = server.commit("project", {"more": "two\n"})
    server.stalls = True
    with pytest.raises(DeadlineExceeded):
        await set_up(link, box, server.url(), credential=PASSWORD, ticket=TICKET, timeoutMs=4000)
    assert (
        await sh(link, box, "cd project && git rev-parse HEAD && git status --porcelain && ls .git/*.lock || true")
        == old
    )

    server.stalls = False
    assert (await set_up(link, box, server.url(), credential=PASSWORD, ticket=TICKET))["commit"] == new
    assert PASSWORD not in open_worker.executor.text()


async def test_one_setup_at_a_time(open_worker: Worker, box: str, server: GitServer) -> None:
    """A second one is told to wait; it does not disturb the first."""
    link = await open_worker.link()
    server.stalls = True
    payload = {"devboxId": box, "repository": {"url": server.url(), "credential": PASSWORD}}
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(_refused(link.request("DevBox.setup", payload, request_id="first", timeout_s=60)))
        assert await asyncio.to_thread(server.stalled.wait, 60)
        with pytest.raises(FailedPrecondition, match="under way"):
            await link.request("DevBox.setup", payload)
        link.cancel("first")
        assert isinstance(await first, Cancelled)


# --- Without a network --------------------------------------------------------------------------------------------


@pytest.fixture
async def here(link: WorkerLink, offline_box: str) -> tuple[WorkerLink, str]:
    """The box without a network, with a repository at /workspace/origin whose ``main`` has two commits."""
    await sh(
        link,
        offline_box,
        "git init --quiet --initial-branch=main origin && cd origin && echo one > README && git add . && "
        f"{COMMIT} && echo two >> README && {COMMIT} && git branch feature && git tag v1",
    )
    return link, offline_box


ORIGIN = "/workspace/origin"


async def test_a_repository_by_path_needs_no_network(here: tuple[WorkerLink, str]) -> None:
    """Branch, depth, commit and workdir are as asked; a commit by itself has no branch."""
    link, box = here
    first, second = (await sh(link, box, "git -C origin rev-list --reverse main")).split()

    assert await set_up(link, box, ORIGIN, workdir="/workspace/a//b/") == {
        "workdir": "/workspace/a/b", "branch": "main", "commit": second
    }  # fmt: skip
    answer = await set_up(link, box, ORIGIN, workdir="/workspace/c", commit=first)
    assert (answer["commit"], answer.get("branch")) == (first, None)
    answer = await set_up(link, box, ORIGIN, workdir="/workspace/d", commit=first, branch="feature")
    assert (answer["commit"], answer["branch"]) == (first, "feature")
    answer = await set_up(link, box, f"file://{ORIGIN}", workdir="/workspace/e", depth=1, branch="feature")
    assert answer["branch"] == "feature"
    assert await sh(link, box, "git -C e rev-list --count HEAD; ls -A /workspace") == "1\na\nc\nd\ne\norigin"


async def test_a_workdir_that_is_a_mount_is_filled(here: tuple[WorkerLink, str]) -> None:
    """The workspace itself may be the workdir while it is empty."""
    link, box = here
    await sh(link, box, "rm -rf /tmp/origin && mv origin /tmp/origin")
    answer = await set_up(link, box, "/tmp/origin", workdir="/workspace", ticket=TICKET)

    assert answer["branch"] == "main"
    assert await sh(link, box, "ls -A /workspace; git status --porcelain") == ".git\nCLAUDE.md\nREADME"


async def test_submodules_come_too(here: tuple[WorkerLink, str]) -> None:
    """They are checked out on clone and update; work in them is not lost."""
    link, box = here
    add = "git -c protocol.file.allow=always submodule --quiet add /workspace/library library"
    await sh(
        link, box,
        f"git clone --quiet origin library && cd origin && {add} && {COMMIT}",
    )  # fmt: skip
    await set_up(link, box, ORIGIN, workdir="/workspace/a")
    assert await sh(link, box, "cat a/library/README") == "one\ntwo"
    await sh(link, box, f"cd library && echo three >> README && {COMMIT} && cd ../origin/library && git pull -q")
    await sh(link, box, f"cd origin && {COMMIT}")
    await set_up(link, box, ORIGIN, workdir="/workspace/a")
    assert await sh(link, box, "tail -n 1 a/library/README; git -C a status --porcelain") == "three"

    await sh(link, box, "echo mine >> a/library/README")
    with pytest.raises(FailedPrecondition, match="library"):
        await set_up(link, box, ORIGIN, workdir="/workspace/a")
    assert await sh(link, box, "tail -n 1 a/library/README") == "mine"


async def test_a_second_setup_updates(here: tuple[WorkerLink, str]) -> None:
    """It moves forward, to another branch too, and tells of the new ticket in place of the old."""
    link, box = here
    await set_up(link, box, ORIGIN, workdir="/workspace/a", ticket=TICKET)
    await sh(link, box, f"cd origin && echo three >> README && {COMMIT}")
    new = await sh(link, box, "git -C origin rev-parse HEAD")
    answer = await set_up(link, box, ORIGIN, workdir="/workspace/a", ticket={"id": "XY-1", "title": "Next"})

    assert (answer["commit"], answer["branch"], answer["claudeMd"]) == (new, "main", "/workspace/a/CLAUDE.md")
    text = await sh(link, box, "cat a/CLAUDE.md")
    assert "XY-1: Next" in text
    assert "ABC-12" not in text
    answer = await set_up(link, box, ORIGIN, workdir="/workspace/a", branch="feature")
    assert answer["branch"] == "feature"
    assert await sh(link, box, "git -C a status --porcelain; cat a/CLAUDE.md") == text


async def test_a_shallow_clone_updates_too(here: tuple[WorkerLink, str]) -> None:
    """It gets what is new, another branch, and all history when that is asked for."""
    link, box = here
    await set_up(link, box, ORIGIN, workdir="/workspace/a", depth=1)
    await sh(link, box, f"cd origin && for i in 1 2 3; do echo $i >> README && {COMMIT}; done")
    await set_up(link, box, ORIGIN, workdir="/workspace/a", depth=1)
    assert await sh(link, box, "git -C a rev-list --count HEAD") == "4"
    assert (await set_up(link, box, ORIGIN, workdir="/workspace/a", depth=1, branch="feature"))["branch"] == "feature"
    await set_up(link, box, ORIGIN, workdir="/workspace/a")
    assert await sh(link, box, "git -C a rev-list --count HEAD") == "5"


async def test_a_repository_s_own_claude_md_is_kept(here: tuple[WorkerLink, str]) -> None:
    """Its text stays and follows the repository; our section is no change that stands in the way."""
    link, box = here
    await sh(link, box, f"cd origin && printf 'Own text.' > CLAUDE.md && git add . && {COMMIT}")
    for _ in range(2):
        await set_up(link, box, ORIGIN, workdir="/workspace/a", ticket=TICKET)
    text = await sh(link, box, "cat a/CLAUDE.md")
    assert text.startswith("Own text.\n\n<!-- clustercode:begin -->")
    assert text.count("clustercode:begin") == 1

    await sh(link, box, f"cd origin && echo 'New own text.' > CLAUDE.md && {COMMIT}")
    await set_up(link, box, ORIGIN, workdir="/workspace/a", ticket=TICKET)
    text = await sh(link, box, "cat a/CLAUDE.md")
    assert text.startswith("New own text.\n\n<!-- clustercode:begin -->")

    await sh(link, box, "sed -i 's/New own/My own/' a/CLAUDE.md")
    with pytest.raises(FailedPrecondition, match=r"not committed \(CLAUDE.md\)"):
        await set_up(link, box, ORIGIN, workdir="/workspace/a", ticket=TICKET)
    assert (await sh(link, box, "cat a/CLAUDE.md")).startswith("My own")


async def test_a_claude_md_that_comes_later_does_not_overwrite_one_s_own(here: tuple[WorkerLink, str]) -> None:
    """What was added by hand beside our section stays until it is moved; our section alone makes way."""
    link, box = here
    for workdir in ("/workspace/a", "/workspace/b"):
        await set_up(link, box, ORIGIN, workdir=workdir, ticket=TICKET)
    await sh(link, box, "echo mine >> a/CLAUDE.md")
    await sh(link, box, f"cd origin && echo theirs > CLAUDE.md && git add . && {COMMIT}")

    with pytest.raises(FailedPrecondition, match="in the way"):
        await set_up(link, box, ORIGIN, workdir="/workspace/a", ticket=TICKET)
    assert (await sh(link, box, "cat a/CLAUDE.md")).endswith("mine")
    await set_up(link, box, ORIGIN, workdir="/workspace/b", ticket=TICKET)
    assert (await sh(link, box, "cat b/CLAUDE.md")).startswith("theirs\n\n<!-- clustercode:begin -->")


async def test_a_link_that_leads_out_is_not_written_through(here: tuple[WorkerLink, str]) -> None:
    """A link inside the repository is followed; one that leads out is refused and nothing is left."""
    link, box = here
    await sh(link, box, f"cd origin && echo agents > AGENTS.md && ln -s AGENTS.md CLAUDE.md && git add . && {COMMIT}")
    for _ in range(2):
        await set_up(link, box, ORIGIN, workdir="/workspace/a", ticket=TICKET)
    assert "clustercode:begin" in await sh(link, box, "test -L a/CLAUDE.md && cat a/AGENTS.md")

    await sh(link, box, f"cd origin && ln -sf /home/developer/.bashrc CLAUDE.md && {COMMIT}")
    with pytest.raises(FailedPrecondition, match="leads out"):
        await set_up(link, box, ORIGIN, workdir="/workspace/b", ticket=TICKET)
    assert await sh(link, box, "ls /workspace; grep -c clustercode ~/.bashrc || true") == "a\norigin\n0"


@pytest.mark.parametrize(
    ("work", "says"),
    [
        ("echo x >> README", r"not committed \(README\)"),
        ("echo x > new", r"not committed \(new\)"),
        (f"echo x >> README && {COMMIT}", "not pushed"),
        (f"git checkout -q --detach && echo x >> README && {COMMIT}", "not pushed"),
        ("git remote set-url origin /workspace/other", "another repository"),
        ("rm -rf .git", "not a repository"),
    ],
)
async def test_local_work_is_never_touched(here: tuple[WorkerLink, str], work: str, says: str) -> None:
    """Where work is in the box only, the refusal says what to do and all stays as it is."""
    link, box = here
    await set_up(link, box, ORIGIN, workdir="/workspace/a")
    await sh(link, box, f"cd a && {work}")
    await sh(link, box, f"cd origin && echo three >> README && {COMMIT}")
    look = "cd a && ls -A && cat README new; git rev-parse HEAD && git status"
    before = (await link.request("DevBox.exec", {"devboxId": box, "command": look}))["stdout"]

    with pytest.raises(FailedPrecondition, match=says):
        await set_up(link, box, ORIGIN, workdir="/workspace/a", ticket=TICKET)

    assert (await link.request("DevBox.exec", {"devboxId": box, "command": look}))["stdout"] == before


async def test_a_history_that_was_rewritten_is_not_followed(here: tuple[WorkerLink, str]) -> None:
    """Then the branch here has commits the repository no longer has: they stay."""
    link, box = here
    old = (await set_up(link, box, ORIGIN, workdir="/workspace/a", ticket=TICKET))["commit"]
    await sh(link, box, f"cd origin && git reset --quiet --hard HEAD~1 && echo other >> README && {COMMIT}")

    with pytest.raises(FailedPrecondition, match="moved forward"):
        await set_up(link, box, ORIGIN, workdir="/workspace/a", ticket=TICKET)
    assert await sh(link, box, "cd a && git rev-parse HEAD && grep -c ABC-12 CLAUDE.md") == f"{old}\n1"


async def test_an_empty_repository_is_set_up(here: tuple[WorkerLink, str]) -> None:
    """It has a branch without commits."""
    link, box = here
    await sh(link, box, "git init --quiet --bare --initial-branch=main empty.git")
    for _ in range(2):
        answer = await set_up(link, box, "/workspace/empty.git", ticket=TICKET)
        assert (answer["branch"], answer["commit"]) == ("main", "")


@pytest.mark.parametrize(
    ("asked", "refusal", "says"),
    [
        ({"url": "https://user:pa55@example.com/x.git"}, InvalidArgument, "leave the password out"),
        ({"url": "ext::sh -c id"}, InvalidArgument, "https or ssh address"),
        ({"url": "--upload-pack=id"}, InvalidArgument, "https or ssh address"),
        ({"url": "ssh://-oProxyCommand=id/x"}, InvalidArgument, "https or ssh address"),
        ({"url": "http://example.com/x", "credential": "c"}, InvalidArgument, "in the clear"),
        ({"url": ORIGIN, "credential": "c"}, InvalidArgument, "credential is for https"),
        ({"url": ORIGIN, "branch": "--force"}, InvalidArgument, "branch"),
        ({"url": ORIGIN, "commit": "main"}, InvalidArgument, "commit"),
        ({"url": ORIGIN, "workdir": "relative"}, InvalidArgument, "workdir"),
        ({"url": ORIGIN, "workdir": "/workspace/../etc"}, InvalidArgument, "workdir"),
        ({"url": ORIGIN, "branch": "absent"}, NotFound, "no such branch"),
        ({"url": ORIGIN, "branch": "v1"}, NotFound, "tag"),
        ({"url": ORIGIN, "commit": "0123456789abcdef0123456789abcdef01234567"}, NotFound, "commit"),
        ({"url": "/workspace/absent"}, NotFound, "no repository"),
        ({"url": "http://127.0.0.1:9/x"}, Unavailable, "does not reach"),
        ({"url": ORIGIN, "workdir": "/usr/x"}, FailedPrecondition, "may not write"),
        ({"url": ORIGIN, "workdir": ORIGIN}, FailedPrecondition, "another repository"),
        ({"url": ORIGIN, "tenantId": OTHER_TENANT}, NotFound, "There is no DevBox"),
    ],
)
async def test_a_refused_setup_says_why_and_leaves_nothing(
    here: tuple[WorkerLink, str], asked: dict[str, Any], refusal: type[Exception], says: str
) -> None:
    """Wrong input, another tenant and what is missing get their code and a sentence, without the secret in it."""
    link, box = here
    with pytest.raises(refusal, match=says) as told:
        await set_up(link, box, **{"workdir": "/workspace/a", **asked})

    assert "pa55" not in str(told.value)
    assert await sh(link, box, "ls -A /workspace") == "origin"


async def test_a_devbox_that_cannot_be_set_up_says_so(link: WorkerLink) -> None:
    """No git in the image, not running, not there: each its own sentence."""
    box = await create(link, "no-git")
    with pytest.raises(FailedPrecondition, match="no git"):
        await set_up(link, box, ORIGIN)
    await link.request("DevBox.stop", {"devboxId": box, "timeoutSeconds": 0})
    with pytest.raises(FailedPrecondition, match="start it first"):
        await set_up(link, box, ORIGIN)
    await link.request("DevBox.remove", {"devboxId": box})
    with pytest.raises(NotFound):
        await set_up(link, "abcdefabcdef", ORIGIN)
