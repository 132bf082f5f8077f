"""Background commands against a real engine: they outlive everything but their DevBox, and lose no byte."""

import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pytest

from console.workers import WorkerLink
from protos.errors import (
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Refusal,
    ResourceExhausted,
)
from tests.integration.conftest import DEVBOX_IMAGE, IMAGE, OTHER_TENANT, Podman, Worker, create

START, CAPTURE, KILL = (f"DevBox.exec.background{suffix}" for suffix in ("", ".capture", ".kill"))

PATTERN = "i=0; while [ $i -lt {blocks} ]; do cat /tmp/block; i=$((i + 1)); done; exit 9"
"""Writes blocks of 1 MiB that are all the same but in no two places within."""


@dataclass
class Background:
    """A background command of a test."""

    link: WorkerLink
    of: dict[str, Any]

    @classmethod
    async def start(cls, link: WorkerLink, box: str, command: str | list[str], **more: object) -> "Background":
        answer = await link.request(START, {"devboxId": box, "command": command, **more})
        return cls(link, {"devboxId": box, **answer})

    async def capture(self, **more: object) -> tuple[bytes, dict[str, Any]]:
        """Return the bytes and the answer."""
        answer = await self.link.request(CAPTURE, {**self.of, **more})
        return base64.b64decode(answer["data"]), answer

    async def all(self, offset: int = 0) -> tuple[bytes, dict[str, Any]]:
        """Return all bytes from an offset to the end, and the last answer."""
        output = bytearray()
        while True:
            data, answer = await self.capture(offset=offset + len(output), waitMs=20_000, maxBytes=512 * 1024)
            assert answer["offset"] == offset + len(output)
            assert answer["nextOffset"] == answer["offset"] + len(data)
            output += data
            if not data and not answer["running"]:
                return bytes(output), answer

    async def kill(self, **more: object) -> dict[str, Any]:
        return await self.link.request(KILL, {**self.of, **more}, timeout_s=60)


async def run(link: WorkerLink, box: str, command: str | list[str], **more: object) -> str:
    return str((await link.request("DevBox.exec", {"devboxId": box, "command": command, **more}))["stdout"])


async def backgrounds(link: WorkerLink, kind: str = "DevBox.list", name: str = "box") -> list[dict[str, Any]]:
    """The background commands of a DevBox as it is listed; a list does not wait long for a DevBox that is slow."""
    async with asyncio.timeout(60):
        while True:
            listed = {box["name"]: box for box in (await link.request(kind, {}))["devboxes"]}
            if "background" in listed[name]:
                found: list[dict[str, Any]] = listed[name]["background"]
                return found


@pytest.mark.parametrize("image", [IMAGE, DEVBOX_IMAGE])
async def test_a_background_command_runs_by_itself(link: WorkerLink, image: str) -> None:
    """It is started, captured while it runs and after its end, and listed with its exit code."""
    box = await create(link, image=image)
    await run(link, box, ["mkfifo", "/workspace/go"])
    command = "echo one; read -r line </workspace/go; echo $line; exit 7"
    background = await Background.start(link, box, command)

    data, answer = await background.capture(waitMs=20_000)
    assert (data, answer["offset"], answer["nextOffset"], answer["running"]) == (b"one\n", 0, 4, True)
    assert "exitCode" not in answer
    (shown,) = await backgrounds(link)
    assert (shown["backgroundId"], shown["command"]) == (background.of["backgroundId"], command)
    assert (shown["running"], shown["outputBytes"]) == (True, 4)
    await run(link, box, "echo two >/workspace/go")
    data, answer = await background.all(4)
    assert (data, answer["running"], answer["exitCode"]) == (b"two\n", False, 7)
    for _ in range(2):
        (shown,) = await backgrounds(link, "DevBox.list-all")
        assert (shown["running"], shown["exitCode"], shown["outputBytes"]) == (False, 7, 8)
    assert (await background.capture(offset=1, maxBytes=2))[0] == b"ne"
    assert await background.kill() == {"exitCode": 7}


@pytest.mark.parametrize("profile", ["standard", "strict"])
async def test_it_runs_as_asked(link: WorkerLink, profile: str) -> None:
    """User, workdir, environment and secrets are as for an exec; standard input is empty; the profile matters not."""
    box = await create(link, profile=profile, secretEnv={"TOKEN": "s3cret"})
    command = 'cat; echo "$PWD $A $TOKEN $(id -un) $(umask)"; echo wrong >&2; env | grep -c CLUSTERCODE_[SK]'
    for user in ("root", "developer", "root"):
        background = await Background.start(link, box, command, user=user, workdir="/tmp", env={"A": "b"})
        data, answer = await background.all()
        assert data == f"/tmp b s3cret {user} 0022\nwrong\n0\n".encode()
        assert answer["exitCode"] == 1


async def test_the_same_request_starts_it_once_even_after_a_kill_of_the_executor(worker: Worker) -> None:
    """A repeat of the id answers with the same command, by another executor too; another command is refused."""
    link = await worker.link()
    box = await create(link)
    asked = {"devboxId": box, "command": "echo once >>/workspace/log; exec sleep 600"}
    first = await link.request(START, asked, request_id="r-one")
    await worker.executor.kill()
    await worker.executor.start()

    again = await until_answered(link, START, asked, "r-one")

    assert again == first
    with pytest.raises(InvalidArgument, match="another command"):
        await link.request(START, {**asked, "command": "true"}, request_id="r-one")
    background = Background(link, {"devboxId": box, **first})
    _, answer = await background.capture()
    assert answer["running"]
    assert await run(link, box, "until [ -s /workspace/log ]; do sleep 0.1; done; cat /workspace/log") == "once\n"
    assert await background.kill() == {"exitCode": 143}


async def until_answered(link: WorkerLink, kind: str, payload: dict[str, Any], request_id: str | None = None) -> Any:  # noqa: ANN401
    """Ask until the executor is there again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await link.request(kind, payload, request_id=request_id)
            except Refusal as refusal:
                if refusal.code != "UNAVAILABLE":
                    raise
                await asyncio.sleep(0.1)


def numbers(count: int) -> str:
    """A command that writes so many lines of 8 bytes, each with its number."""
    return f"awk 'BEGIN {{ for (i = 0; i < {count}; i++) printf \"%07d\\n\", i }}'"


@pytest.mark.parametrize("megabytes", [10, pytest.param(200, marks=pytest.mark.long)])
async def test_all_output_comes_once_though_the_executor_is_killed(worker: Worker, megabytes: int) -> None:
    """While it writes known bytes the executor is killed three times: capture by offset yields all, and the code."""
    link = await worker.link()
    box = await create(link)
    block = b"".join(b"%07d\n" % number for number in range(131072))
    assert len(block) == 1024**2
    await run(link, box, f"{numbers(131072)} >/tmp/block")
    blocks = megabytes * 1_000_000 // len(block)
    background = await Background.start(link, box, PATTERN.format(blocks=blocks), logBytes=256 * 1024**2)
    digest, size, answer, kills = hashlib.sha256(), 0, {"running": True}, 0
    while True:
        answer = await until_answered(
            link, CAPTURE, {**background.of, "offset": size, "waitMs": 10_000, "maxBytes": 512 * 1024}
        )
        data = base64.b64decode(answer["data"])
        assert answer["offset"] == size
        digest.update(data)
        size += len(data)
        if kills < 3 and size > (kills + 1) * blocks * len(block) // 4:
            kills += 1
            await worker.executor.kill()
            await worker.executor.start()
        if not data and not answer["running"]:
            break

    assert kills == 3
    expected = hashlib.sha256()
    for _ in range(blocks):
        expected.update(block)
    assert (size, digest.hexdigest()) == (blocks * len(block), expected.hexdigest())
    assert answer["exitCode"] == 9


async def test_the_log_is_bounded_and_says_the_oldest_offset_it_keeps(link: WorkerLink) -> None:
    """Of 5 MB through a log of 1 MiB the newest are kept, at their true offsets; what is gone is said to be."""
    box = await create(link)
    background = await Background.start(link, box, numbers(625000), logBytes=1024**2)
    end = 0
    while (answer := (await background.capture(offset=end, waitMs=20_000))[1])["running"]:
        end = answer["nextOffset"]

    data, answer = await background.capture(offset=1)

    oldest = answer["offset"]
    assert 5_000_000 - 1024**2 <= oldest < 5_000_000 - 1024**2 // 2
    data, _ = await background.all(oldest)
    expected = b"".join(b"%07d\n" % number for number in range(625000))
    assert data == expected[oldest:]
    assert (await background.capture())[1]["offset"] == oldest
    kept = await run(link, box, f"du -sk /var/lib/clustercode/{background.of['backgroundId']}")
    assert int(kept.split()[0]) <= 1100
    with pytest.raises(InvalidArgument, match="beyond"):
        await background.capture(offset=5_000_001)


async def test_it_outlives_gateway_and_executor_and_ends_with_its_devbox(worker: Worker) -> None:
    """Both processes stop in order and start again: it runs on. A stop of the DevBox ends it."""
    link = await worker.link()
    box = await create(link)
    background = await Background.start(link, box, "echo here; exec sleep 600")
    assert (await background.capture(waitMs=20_000))[0] == b"here\n"
    for process in (worker.gateway, worker.executor):
        await process.stop()
        await process.start()
    await link.wait_connected(60)

    answer = await until_answered(link, CAPTURE, background.of)

    assert answer["running"]
    await link.request("DevBox.stop", {"devboxId": box, "timeoutSeconds": 0})
    with pytest.raises(FailedPrecondition, match="start it first"):
        await background.capture()
    await link.request("DevBox.start", {"devboxId": box})
    data, answer = await background.all()
    assert (data, answer["running"]) == (b"here\n", False)
    assert "exitCode" not in answer
    assert await background.kill() == {}


@pytest.mark.parametrize(("signal", "code"), [(None, 143), ("INT", 5), ("SIGUSR1", 6), ("KILL", 137)], ids=str)
async def test_kill_sends_the_signal_and_answers_with_the_exit_code(
    link: WorkerLink, signal: str | None, code: int
) -> None:
    """The command hears the signal asked for, its last words are kept, and its exit code is answered; again too."""
    box = await create(link)
    command = "trap 'echo int; exit 5' INT; trap 'echo usr; exit 6' USR1; echo up; while :; do sleep 0.1; done"
    background = await Background.start(link, box, command)
    await background.capture(waitMs=20_000)

    for _ in range(2):
        assert await background.kill(**({"signal": signal} if signal else {})) == {"exitCode": code}

    data, _ = await background.all()
    assert data.startswith(b"up\n")
    assert data.endswith({5: b"int\n", 6: b"usr\n"}.get(code, b"\n"))
    assert "sleep 0.1" not in await run(link, box, "ps")


async def test_kill_takes_what_hides_and_what_ignores_the_signal(link: WorkerLink) -> None:
    """What ignores the signal, left the session or cleared its environment within it is gone when kill answers."""
    box = await create(link)
    command = (
        "trap '' TERM; (setsid sleep 901 &); env -i sleep 902 & env CLUSTERCODE_KEEPER=x sleep 903 & "
        "(sleep 904 >/dev/null 2>&1 &); echo up; sleep 905"
    )
    background = await Background.start(link, box, command, user="root")
    await background.capture(waitMs=20_000)

    assert await background.kill(graceSeconds=1) == {"exitCode": 137}

    assert "sleep 9" not in await run(link, box, "ps")


async def test_a_command_may_signal_its_group_and_leave_children(link: WorkerLink) -> None:
    """`kill 0` ends the command, not those who keep its log; a child that keeps its output open keeps it running."""
    box = await create(link)
    suicide = await Background.start(link, box, "sleep 300 & echo before; kill 0")
    data, answer = await suicide.all()
    assert (data, answer["exitCode"]) == (b"before\n", 143)
    parent = await Background.start(link, box, "(while [ ! -e /tmp/go ]; do sleep 0.1; done; echo child) & exit 3")
    assert (await parent.capture(waitMs=500))[1]["running"]
    await run(link, box, "touch /tmp/go")
    data, answer = await parent.all()
    assert (data, answer["exitCode"]) == (b"child\n", 3)


async def test_a_command_that_cannot_be_run_says_so_in_its_log(link: WorkerLink) -> None:
    """An absent program ends with 127 and the shell's words; a user or folder that is not there is refused."""
    box = await create(link)
    absent = await Background.start(link, box, ["no-such-program"])
    data, answer = await absent.all()
    assert b"not found" in data
    assert answer["exitCode"] == 127
    for wrong in ({"user": "nobody-here"}, {"workdir": "/no/such/folder"}):
        with pytest.raises(FailedPrecondition):
            await Background.start(link, box, "true", **wrong)
    assert [shown["exitCode"] for shown in await backgrounds(link)] == [127]


async def test_a_capture_that_waits_is_cancelled_and_bounded(link: WorkerLink) -> None:
    """A wait ends when it is over, with nothing, or at once when it is cancelled; nothing of it is left in the box."""
    box = await create(link)
    background = await Background.start(link, box, "sleep 600")
    data, answer = await background.capture(waitMs=300)
    assert (data, answer["nextOffset"], answer["running"]) == (b"", 0, True)

    async def wait() -> None:
        with pytest.raises(Cancelled):
            await link.request(CAPTURE, {**background.of, "waitMs": 60_000}, request_id="r-wait")

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(wait(), name="capture")
        while "sleep 0.2" not in await run(link, box, "ps"):
            await asyncio.sleep(0.05)
        link.cancel("r-wait")
    async with asyncio.timeout(60):
        while "sleep 0.2" in await run(link, box, "ps"):
            await asyncio.sleep(0.05)


async def test_wrong_and_foreign_requests_are_refused(link: WorkerLink) -> None:
    """Absent and another tenant's are the same; fields out of bounds are named."""
    box = await create(link)
    background = await Background.start(link, box, "sleep 600")
    absent = {"devboxId": box, "backgroundId": "b-000000000000000000000000"}
    odd = {"devboxId": box, "backgroundId": "..-..-etc"}
    for kind in (CAPTURE, KILL):
        for wrong in (absent, {"devboxId": box, "backgroundId": "etc"}):
            with pytest.raises(NotFound, match="no background command"):
                await link.request(kind, wrong)
        with pytest.raises(InvalidArgument):
            await link.request(kind, odd)
        for payload in ({**background.of, "tenantId": OTHER_TENANT}, {**background.of, "devboxId": "0" * 12}):
            with pytest.raises(NotFound, match="no DevBox"):
                await link.request(kind, payload)
    with pytest.raises(NotFound, match="no DevBox"):
        await link.request(START, {"devboxId": box, "command": "true", "tenantId": OTHER_TENANT})
    for kind, more, field in (
        (KILL, {"signal": "STOP"}, "signal"),
        (KILL, {"signal": "9; reboot"}, "signal"),
        (KILL, {"graceSeconds": 10_000}, "grace"),
        (CAPTURE, {"waitMs": 60_001}, "wait"),
        (CAPTURE, {"offset": -1}, "offset"),
        (CAPTURE, {"maxBytes": 2**20}, "max"),
    ):
        with pytest.raises(InvalidArgument, match=f"(?i){field}"):
            await link.request(kind, {**background.of, **more})
    with pytest.raises(InvalidArgument, match=r"(?i)log"):
        await link.request(START, {"devboxId": box, "command": "true", "logBytes": 1})
    await link.request("DevBox.stop", {"devboxId": box, "timeoutSeconds": 0})
    with pytest.raises(FailedPrecondition, match="start it first"):
        await Background.start(link, box, "true")


async def test_an_image_without_a_shell_and_a_box_without_the_volume_say_so(link: WorkerLink, podman: Podman) -> None:
    """Background commands need /bin/sh and the second volume; without them the refusal says what to do."""
    box = await create(link)
    await run(link, box, ["rm", "/bin/sh"], user="root")
    with pytest.raises(FailedPrecondition, match="/bin/sh"):
        await Background.start(link, box, ["sleep", "1"])
    assert (await link.request("DevBox.list", {}))["devboxes"][0].get("background") is None
    old = await create(link, "old")
    labels = json.loads(podman.run("inspect", "--format", "{{json .Config.Labels}}", f"clustercode-{old}"))
    podman.run("rm", "-f", "-t", "0", f"clustercode-{old}")
    given = [f"--label={key}={value}" for key, value in labels.items()]
    podman.run(
        "run", "-d", "--init", f"--name=clustercode-{old}", "--net=none", *given, IMAGE, "tail", "-f", "/dev/null"
    )
    with pytest.raises(FailedPrecondition, match="create it anew"):
        await Background.start(link, old, "true")
    assert len((await link.request("DevBox.list", {}))["devboxes"]) == 2


async def test_what_a_box_plants_in_its_volume_misleads_nobody(link: WorkerLink) -> None:
    """FIFOs, links, nonsense and floods of names: requests answer in time, and never from outside the volume."""
    box = await create(link)
    background = await Background.start(link, box, "echo real; exec sleep 600")
    await background.capture(waitMs=20_000)
    base = f"/var/lib/clustercode/{background.of['backgroundId']}"
    planted = "b-aaaaaaaaaaaaaaaaaaaaaaaa"
    await run(
        link,
        box,
        "cd /var/lib/clustercode; mkfifo b-bbbbbbbbbbbbbbbbbbbbbbbb; ln -s / b-cccccccccccccccccccccccc; "
        f"mkdir {planted}; cd {planted}; mkfifo pid code log.000000000000000; ln -s /etc/passwd log.000000000000007; "
        "printf 'x\\nroot; rm -rf /\\n99\\tx\\n\\033[31mred\\n' >about; "
        "mkdir log.000000000000009; touch log.99999999999999999999 log.x 'log.000000000000008;'",
    )
    data, answer = await Background(link, {"devboxId": box, "backgroundId": planted}).capture()
    assert (data, answer["running"]) == (b"", False)
    shown = {command["backgroundId"]: command for command in await backgrounds(link)}
    assert set(shown) == {background.of["backgroundId"], planted}
    assert "\033" not in shown[planted]["command"]
    await run(link, box, f"mv {base}/about /tmp/a; mkfifo {base}/about; mv {base}/pid /tmp/p; ln -s /tmp/p {base}/pid")
    data, answer = await background.capture(offset=0)
    assert data == b"real\n"
    await run(link, box, f"rm {base}/log.*; printf x >{base}/log.999999999999999")
    data, answer = await background.capture(offset=0)
    assert (data, answer["offset"]) == (b"x", 999999999999999)


async def test_a_box_that_hangs_does_not_hold_up_the_list(link: WorkerLink) -> None:
    """A frozen DevBox is listed without its background commands; the other's are there."""
    frozen, other = await create(link, "frozen"), await create(link, "other")
    for box in (frozen, other):
        await Background.start(link, box, "sleep 600")
    await run(
        link,
        frozen,
        "mv /bin/sh /bin/shell; printf '#!/bin/shell\\nsleep 60\\n' >/bin/sh; chmod +x /bin/sh",
        user="root",
    )
    shown = await backgrounds(link, name="other")
    boxes = {box["name"]: box for box in (await link.request("DevBox.list", {}, timeout_s=30))["devboxes"]}
    assert "background" not in boxes["frozen"]
    assert shown[0]["running"]


async def test_only_so_many_are_kept(link: WorkerLink) -> None:
    """The hundred newest are kept; the oldest that have ended make room, those that run do not."""
    box = await create(link)
    await run(
        link,
        box,
        "cd /var/lib/clustercode; i=100; while [ $i -lt 220 ]; do mkdir b-000000000000000000000$i; "
        "printf 'f\\n\\n2020-01-01T00:00:00Z\\nold\\n' >b-000000000000000000000$i/about; i=$((i+1)); done",
    )
    running = await Background.start(link, box, "sleep 600")
    assert len((await run(link, box, "ls /var/lib/clustercode")).split()) == 100
    assert (await running.capture())[1]["running"]


async def test_a_full_disk_ends_the_log_and_nothing_else(link: WorkerLink, podman: Podman) -> None:
    """The command runs to its end and its exit code is kept; whoever reads the log is told that it stops short."""
    box = await create(link)
    container, volume = f"clustercode-{box}", f"clustercode-{box}-state"
    labels = json.loads(podman.run("inspect", "--format", "{{json .Config.Labels}}", container))
    given = [f"--label={key}={value}" for key, value in labels.items()]
    podman.run("rm", "-f", "-t", "0", container)
    podman.run("volume", "rm", "-f", volume)
    podman.run("volume", "create", *given, "-o=type=tmpfs", "-o=device=tmpfs", "-o=o=nr_blocks=512,mode=1777", volume)
    of_box = ("--init", f"--name={container}", "--net=none", f"--volume={volume}:/var/lib/clustercode", *given)
    podman.run("run", "-d", *of_box, IMAGE, "tail", "-f", "/dev/null")
    background = await Background.start(link, box, "yes | head -c 5000000; echo done >/tmp/done; exit 4")

    with pytest.raises(ResourceExhausted, match="disk was full"):
        await background.all()

    async with asyncio.timeout(60):
        while (shown := (await backgrounds(link))[0])["running"]:
            await asyncio.sleep(0.05)
    assert await run(link, box, "cat /tmp/done") == "done\n"
    assert shown["exitCode"] == 4
    assert shown["outputBytes"] <= 2 * 1024**2
    with pytest.raises(ResourceExhausted, match="disk is full"):
        await Background.start(link, box, "true")
