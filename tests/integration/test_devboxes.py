"""DevBoxes against a real engine: created, listed, run in, stopped, removed."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from console.workers import WorkerLink
from protos.errors import AlreadyExists, DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from tests.integration.conftest import IMAGE, Podman, create, eventually, relayed
from tests.integration.seam import seam


async def test_a_devbox_lives_from_create_to_remove(link: WorkerLink, podman: Podman) -> None:
    """It is created with progress, listed, stopped, started and removed with its volume; repeating is no error."""
    steps: list[dict[str, object]] = []
    answer = await link.request("DevBox.create", {"name": "one", "image": IMAGE}, on_progress=steps.append)
    box = answer["devbox"]

    assert box["state"] == "running"
    assert (box["name"], box["tenantId"], box["profile"], box["engine"]) == ("one", "local", "standard", "podman")
    said = [step["message"] for step in steps]
    assert said[0] == "Creating one"
    assert said[1].startswith("one gets no network: ")  # no egress process runs beside this executor
    assert said[2:] == ["Starting one"]
    of_box = {"devboxId": box["id"]}
    assert [found["id"] for found in (await link.request("DevBox.list", {}))["devboxes"]] == [box["id"]]
    assert [found["id"] for found in (await link.request("DevBox.list-all", {}))["devboxes"]] == [box["id"]]
    for _ in range(2):
        stopped = (await link.request("DevBox.stop", {**of_box, "timeoutSeconds": 1}))["devbox"]
        assert stopped["state"] == "exited"
        assert "exitCode" in stopped
    for _ in range(2):
        assert (await link.request("DevBox.start", of_box))["devbox"]["state"] == "running"
    with pytest.raises(FailedPrecondition, match="force"):
        await link.request("DevBox.remove", of_box)
    for _ in range(2):
        assert (await link.request("DevBox.remove", {**of_box, "force": True}))["devbox"]["state"] == "removing"
    assert (await link.request("DevBox.list", {}))["devboxes"] == []
    assert box["id"] not in podman.run("volume", "ls", "-q")


async def test_a_devbox_whose_processes_die_slowly_is_removed(podman: Podman, directory: Path) -> None:
    """On a busy machine Podman gives up waiting for what it killed; it is asked again, and nobody has to know."""
    said = b'{"message":"it could not be stopped: given PIDs did not die within timeout"}'
    gives_up = [
        b"HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)
    ] * 2

    def give_up(data: bytes) -> tuple[bytes, bytes]:
        is_removal = data.startswith(b"DELETE ") and b"/containers/" in data.splitlines()[0]
        return (b"", gives_up.pop()) if is_removal and gives_up else (data, b"")

    async with relayed(podman, directory, give_up) as engine, seam(podman, directory, engine_socket=engine) as running:
        box = await running.create("slow")
        await running.remove(box)

        assert not gives_up
        assert await running.boxes() == []
        assert box.id not in podman.run("ps", "-a")


async def test_the_list_says_of_each_what_looking_at_it_says(link: WorkerLink, podman: Podman) -> None:
    """In every state; oldest first; one that was killed a moment ago is soon said to have ended."""
    boxes = {state: await create(link, state) for state in ("running", "exited", "paused", "killed")}
    spec = {"name": "created", "image": IMAGE, "start": False, "labels": {"a": "1"}, "profile": "strict"}
    boxes["created"] = (await link.request("DevBox.create", spec))["devbox"]["id"]
    exited = (await link.request("DevBox.stop", {"devboxId": boxes["exited"], "timeoutSeconds": 0}))["devbox"]
    podman.run("pause", f"clustercode-{boxes['paused']}")
    pid = int(podman.run("inspect", "-f", "{{.State.Pid}}", f"clustercode-{boxes['killed']}"))
    running = (await link.request("DevBox.start", {"devboxId": boxes["running"]}))["devbox"]
    created = (await link.request("DevBox.create", spec))["devbox"]

    os.kill(pid, signal.SIGKILL)
    listed = (await link.request("DevBox.list", {}))["devboxes"]

    assert [box["id"] for box in listed] == list(boxes.values())
    assert listed[0] == running
    assert (listed[1], listed[1]["exitCode"]) == (exited, 137)
    assert listed[2]["state"] == "paused"
    assert listed[4] == created
    assert created["state"] == "created"
    await eventually(lambda: is_dead(link, boxes["killed"]))


async def is_dead(link: WorkerLink, box: str) -> bool:
    """Whether the list says that a DevBox's main process was killed."""
    (found,) = (each for each in (await link.request("DevBox.list", {}))["devboxes"] if each["id"] == box)
    return (found["state"], found.get("exitCode")) == ("exited", 137)


async def test_the_workspace_outlives_a_stop(link: WorkerLink) -> None:
    """What is written to /workspace is there after stop and start."""
    box = {"devboxId": await create(link)}
    await link.request("DevBox.exec", {**box, "command": "echo kept > /workspace/file"})
    await link.request("DevBox.stop", {**box, "timeoutSeconds": 1})
    await link.request("DevBox.start", box)

    assert (await link.request("DevBox.exec", {**box, "command": ["cat", "/workspace/file"]}))["stdout"] == "kept\n"


async def test_creating_the_same_again_answers_with_what_is_there(link: WorkerLink) -> None:
    """The same name and spec is the same DevBox, whatever its secrets; another spec is refused."""
    spec = {"name": "one", "image": IMAGE, "env": {"A": "1"}}
    first = (await link.request("DevBox.create", spec))["devbox"]

    assert (await link.request("DevBox.create", {**spec, "secretEnv": {"T": "x"}}))["devbox"]["id"] == first["id"]
    with pytest.raises(AlreadyExists, match="another name"):
        await link.request("DevBox.create", {**spec, "env": {"A": "2"}})


@pytest.mark.parametrize(
    ("spec", "refusal", "says"),
    [
        ({"image": "localhost/absent:latest"}, NotFound, "build it"),
        ({"name": "no spaces"}, InvalidArgument, "name"),
        ({"profile": "open"}, FailedPrecondition, "floor of this worker is standard"),
        ({"profile": "offline", "env": {"A": "1"}}, InvalidArgument, "offline"),
        ({"allowedDomains": ["example.com"]}, FailedPrecondition, "egress"),
        ({"allowedDomains": ["example.com"], "profile": "offline"}, InvalidArgument, "allowedDomains"),
        ({"profile": "strict", "writablePaths": ["/etc"]}, InvalidArgument, "/etc"),
        ({"image": "-v/:/host"}, InvalidArgument, "image"),
    ],
)
async def test_a_refused_creation_says_why_and_leaves_nothing(
    link: WorkerLink, podman: Podman, spec: dict[str, object], refusal: type[Exception], says: str
) -> None:
    """Wrong input gets its code and a sentence."""
    volumes = podman.run("volume", "ls", "-q")

    with pytest.raises(refusal, match=says):
        await link.request("DevBox.create", {"name": "one", "image": IMAGE, **spec})

    assert (await link.request("DevBox.list", {}))["devboxes"] == []
    assert podman.run("volume", "ls", "-q") == volumes


async def test_a_devbox_is_held_as_its_profile_says(link: WorkerLink) -> None:
    """No capabilities, no new privileges, no network but loopback; a strict one has a read-only root besides."""
    look = (
        "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; ls /sys/class/net; "
        "touch /root-file 2>&1; touch /tmp/x && echo tmp"
    )
    standard = await create(link, "a")
    strict = await create(link, "b", profile="strict")

    answers = [
        (await link.request("DevBox.exec", {"devboxId": box, "command": look, "user": "root"}))["stdout"]
        for box in (standard, strict)
    ]

    for answer in answers:
        assert answer.count("0000000000000000") == 2
        assert "NoNewPrivs:\t1" in answer
        assert "lo" in answer.split()
        assert "eth0" not in answer
        assert answer.endswith("tmp\n")
    assert "Read-only file system" in answers[1]


async def test_exec_gives_output_and_exit_code(link: WorkerLink) -> None:
    """Both streams, the exit code, standard input, user, workdir and environment are as asked."""
    box = await create(link, secretEnv={"TOKEN": "s3cret"})
    answer = await link.request(
        "DevBox.exec",
        {
            "devboxId": box,
            "command": 'cat; echo "$PWD $A $TOKEN $(id -un)"; echo wrong >&2; exit 3',
            "stdin": "aW4K",
            "user": "root",
            "workdir": "/tmp",
            "env": {"A": "b"},
        },
    )

    assert (answer["stdout"], answer["stderr"]) == ("in\n/tmp b s3cret root\n", "wrong\n")
    assert (answer["exitCode"], answer["truncated"]) == (3, False)


async def test_exec_keeps_head_and_tail_of_long_output(link: WorkerLink) -> None:
    """Output beyond the bound is cut from its middle, with the count of what is missing."""
    box = await create(link)
    answer = await link.request(
        "DevBox.exec", {"devboxId": box, "command": "seq 1 1000000", "maxOutputBytes": 1000, "encoding": "utf-8"}
    )

    assert answer["stdout"].startswith("1\n2\n3\n")
    assert answer["stdout"].endswith("999999\n1000000\n")
    assert len(answer["stdout"]) == 1000
    assert answer["truncated"] == {"stdout": 6888896 - 1000, "stderr": 0}


async def test_exec_that_takes_too_long_is_killed_with_all_it_started(link: WorkerLink) -> None:
    """After DEADLINE_EXCEEDED nothing of it runs: not what ignored the signal, not what left its session."""
    box = await create(link)
    command = "trap '' TERM HUP; (setsid sleep 901 &); sleep 902 & env -i sleep 903; sleep 904"
    with pytest.raises(DeadlineExceeded, match="killed"):
        await link.request("DevBox.exec", {"devboxId": box, "command": command, "timeoutMs": 500})

    assert "sleep 9" not in (await link.request("DevBox.exec", {"devboxId": box, "command": "ps"}))["stdout"]


async def test_work_runs_once_though_it_is_asked_for_twice(link: WorkerLink) -> None:
    """Two exec requests are two runs; each has its own id."""
    box = await create(link)
    once = {"devboxId": box, "command": "echo ran >> /workspace/runs; sleep 0.2"}
    await asyncio.gather(link.request("DevBox.exec", once), link.request("DevBox.exec", once))

    assert (await link.request("DevBox.exec", {"devboxId": box, "command": "cat /workspace/runs"}))["stdout"] == (
        "ran\nran\n"
    )


@pytest.mark.parametrize("kind", ["DevBox.start", "DevBox.stop", "DevBox.remove"])
async def test_an_unknown_devbox_is_not_found(link: WorkerLink, kind: str) -> None:
    """The sentence names it and says how to see those there are."""
    with pytest.raises(NotFound, match=r"DevBox\.list"):
        await link.request(kind, {"devboxId": "abcdefabcdef"})
