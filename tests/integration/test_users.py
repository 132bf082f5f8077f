"""Gateway and executor as a user each: root is gone before they are anything of ours, and neither gets the other's."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psutil
import pytest

from clustercode.configuration import for_worker
from clustercode.errors import ConfigurationError, Unusable
from clustercode.home import Home
from clustercode.registration import complete
from clustercode.worker_lock import held
from console.app import Console
from console.terminal_client import Terminal
from executor.data_dir import install_of
from executor.egress_files import EgressFiles
from executor.owner import as_owner_of
from tests.integration.commands import environment, execute
from tests.integration.conftest import CANARY, PROGRAM, TENANT, Podman, Process, create, eventually, remove_all, started
from tests.integration.private_users import PrivateUsers, private_users

GATEWAY, EXECUTOR = "clustercode-gateway", "clustercode-executor"
NOBODY = 65534
USERS = ("--gateway-user", GATEWAY, "--executor-user", EXECUTOR)

# What somebody who has taken a process over would try: run as its user, with its groups. Says what it got.
ATTACK = r"""
import json, os, socket, sys
asked = json.load(sys.stdin)
os.setgroups(asked["groups"])
os.setresgid(*[asked["gid"]] * 3)
os.setresuid(*[asked["uid"]] * 3)
got = {"read": [], "listed": [], "connected": [], "processes": [], "signalled": [], "locked": [], "orders": ""}
marks = [mark.encode() for mark in asked["marks"]]
def holds(path):
    try:
        with open(path, "rb") as file:
            data = file.read(8 << 20)
        return any(mark in data for mark in marks)
    except OSError:
        return False
for path in asked["directories"]:
    try:
        os.listdir(path)
        got["listed"].append(path)
    except OSError:
        pass
for path in asked["files"]:
    if holds(path):
        got["read"].append(path)
for name in ("lock", "worker.lock", "install"):
    try:
        os.close(os.open(asked["data"] + "/" + name, os.O_RDONLY))
        got["locked"].append(name)
    except OSError:
        pass
for pid in asked["pids"]:
    for name in ("environ", "fd", "mem", "maps"):
        path = f"/proc/{pid}/{name}"
        try:
            os.listdir(path) if name == "fd" else open(path, "rb").read(1)
            got["processes"].append(path)
        except OSError as error:
            if name == "mem" and error.errno == 5:  # opened: there is nothing at address 0
                got["processes"].append(path)
    try:
        os.kill(pid, 0)
        got["signalled"].append(pid)
    except OSError:
        pass
for path in asked["sockets"]:
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(path)
        got["connected"].append(path)
        if path.endswith("control.sock"):
            probe.settimeout(60)
            probe.sendall(b'{"id": 1, "do": "close", "address": "127.77.0.1"}\n')
            got["orders"] = probe.recv(1000).decode()
    except OSError:
        pass
print(json.dumps(got))
"""


@pytest.fixture(scope="module")
async def users() -> AsyncIterator[PrivateUsers]:
    """A machine with the users that installing makes where systemd is."""
    with TemporaryDirectory(prefix="cc-") as name:
        users = private_users(Path(name))
        installed = await execute(
            *users.command(*PROGRAM, "worker", "--mode", "fleet", "--install"), home=Path(name), stdin="y\n"
        )
        assert installed.code == 0, installed.err
        yield users


@pytest.fixture
def open_directory(directory: Path) -> Path:
    """One that every user may enter."""
    directory.chmod(0o755)
    return directory


async def test_installing_makes_the_users_after_showing_how(users: PrivateUsers, directory: Path) -> None:
    """With and without systemd: a user each, a group of both, one for the engine. They stay, and it is said."""
    without = private_users(directory)
    worker = without.command(*PROGRAM, "worker", "--mode", "fleet", hide=shutil.which("systemd-sysusers"))
    refused = await execute(*worker, "--install", home=directory, stdin="n\n")
    assert (refused.code, f"'ClusterCode executor' {EXECUTOR}\n" in refused.out) == (1, True)
    with pytest.raises(KeyError):
        without.ids(GATEWAY)
    installed = await execute(*worker, "--install", home=directory, stdin="y\n")
    assert installed.code == 0, installed.err

    for made in (users, without):
        group, members = made.group("clustercode")
        assert (made.ids(GATEWAY)[1], made.ids(EXECUTOR)[1], members) == (group, group, [])
        assert made.group("clustercode-engine")[1] == [EXECUTOR]
        assert len({made.ids(GATEWAY)[0], made.ids(EXECUTOR)[0], 0}) == 3

    again = await execute(*worker, "--install", home=directory, stdin="y\n")
    assert (again.code, "useradd" in again.out) == (0, False)
    removed = await execute(*worker, "--uninstall", home=directory)
    assert (removed.code, f"userdel {GATEWAY}; userdel {EXECUTOR}" in removed.out) == (0, True)
    assert without.ids(EXECUTOR)


async def test_what_cannot_be_is_refused_with_what_to_do(users: PrivateUsers, open_directory: Path) -> None:
    """Before anything is dialled or made: nobody is left to find out from a log."""
    token, data, closed = open_directory / "token", open_directory / "data", open_directory / "closed"
    token.write_text("a-token")
    closed.mkdir(mode=0o700)
    common = ("--url", "ws://127.0.0.1:1/ws/worker", "--token-file", str(token), "--tenant", TENANT, "--mode", "byom")
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(open_directory / "engine.sock"))
        (open_directory / "engine.sock").chmod(0o600)
        refusals: list[tuple[tuple[str, ...], int, str]] = [
            ((*USERS[:3], "nosuch"), 2, "there is no user 'nosuch'"),
            (USERS[:2], 2, "Give it a user too: --executor-user"),
            ((*USERS[:3], GATEWAY), 2, "is the user of both"),
            (("--gateway-user", "nobody", *USERS[2:]), 4, "shares its group with"),
            ((*USERS, "--engine-socket", str(open_directory / "engine.sock")), 4, f"usermod -aG GROUP {EXECUTOR}"),
            ((*USERS, "--data-dir", str(closed / "data"), "--docker"), 4, "cannot reach"),
        ]
        commands = [
            users.command(*PROGRAM, "worker", *common, "--data-dir", str(data), *arguments)
            for arguments, _, _ in refusals
        ]
        ordinary = ("setpriv", "--reuid", str(users.ids(GATEWAY)[0]), "--clear-groups")
        refusals.append((ordinary, 2, "only root"))
        commands.append(users.command(*ordinary, *PROGRAM, "worker", *USERS))
        answers = await asyncio.gather(*(execute(*command, home=open_directory) for command in commands))
        for refused, (case, code, sentence) in zip(answers, refusals, strict=True):
            assert (refused.code, sentence in refused.err) == (code, True), (case, refused)
            assert "Traceback" not in refused.err
    assert not data.exists()


async def test_the_doctor_says_what_it_costs_and_what_keeps_users_out(
    users: PrivateUsers, open_directory: Path
) -> None:
    """Root without users is warned, an ordinary user is told; what users lack is found before a worker runs."""
    (open_directory / "of-root").mkdir()
    (open_directory / "handed-over").mkdir(mode=0o700)
    os.chown(open_directory / "handed-over", users.ids(EXECUTOR)[0], 0)
    ordinary = ("setpriv", "--reuid", str(users.ids(GATEWAY)[0]), "--clear-groups")
    nowhere = ("--engine-socket", "/nonexistent")
    cases: list[tuple[tuple[str, ...], tuple[str, ...], str, str]] = [
        ((), nowhere, "warn", "both run as root"),
        (ordinary, nowhere, "pass", "your files and your engine"),
        ((), USERS, "fail", "lacks a home directory of its own, ids in /etc/subuid"),
        ((), (*USERS, *nowhere, "--data-dir", str(open_directory / "of-root")), "fail", "belongs to root"),
        (
            (),
            (*USERS, *nowhere, "--data-dir", str(open_directory / "handed-over")),
            "pass",
            f"the executor as {EXECUTOR}",
        ),
    ]
    doctors = [users.command(*before, *PROGRAM, "doctor", "--json", *arguments) for before, arguments, _, _ in cases]
    answers = await asyncio.gather(*(execute(*doctor, home=open_directory) for doctor in doctors))
    for answer, (_, _, status, detail) in zip(answers, cases, strict=True):
        (found,) = (check for check in json.loads(answer.out)["checks"] if check["name"] == "users")
        assert (found["status"], detail in found["detail"]) == (status, True), found


async def test_each_process_is_its_user_and_gets_nothing_of_the_other(
    console: Console, users: PrivateUsers, open_directory: Path
) -> None:
    """On root's Podman through a group: from the first to the last of their life, also when one was killed."""
    directory, data = open_directory, open_directory / "data"
    podman = Podman(directory)
    podman.start()
    engine_gid = users.group("clustercode-engine")[0]
    os.chown(podman.socket, 0, engine_gid)
    podman.socket.chmod(0o660)
    command = users.command(
        "env", "SECRET_OF_ROOT=1", *PROGRAM, "worker", *USERS, "--mode", "byom", "--tenant", TENANT, "--worker-id", "w",
        "--url", console.worker_url, "--token-file", str(console.token_file), "--data-dir", str(data),
        "--engine-socket", str(podman.socket),
    )  # fmt: skip
    worker = Process("worker", command, directory / "worker.log", environment(directory))
    try:
        async with started(worker):
            link = await console.worker("w", 60)
            await eventually(lambda: bool(link.register and link.register.container_engines), timeout_s=60)
            box = await create(link, secretEnv={"CANARY": CANARY})
            async with Terminal(link, box) as terminal:
                await terminal.write(b"test -n $CANARY && echo se''en\n")
                await terminal.read_until(b"seen")

            (gateway, gateway_gid), (executor, executor_gid) = users.ids(GATEWAY), users.ids(EXECUTOR)
            found = processes(worker.pid)
            assert status(found["gateway"]) == {
                "Uid": [gateway] * 4, "Gid": [gateway_gid] * 4, "Groups": [], "NoNewPrivs": [1], "CapInh": [0],
                "CapPrm": [0], "CapEff": [0], "CapAmb": [0],
            }  # fmt: skip
            assert status(found["executor"]) == {
                "Uid": [executor] * 4, "Gid": [executor_gid] * 4, "Groups": [engine_gid], "NoNewPrivs": [1],
                "CapInh": [0], "CapPrm": [0], "CapEff": [0], "CapAmb": [0],
            }  # fmt: skip
            for name, process in found.items():
                assert "SECRET_OF_ROOT" not in process.environ(), name
                assert process.cwd() == ("/" if name != "egress" else str(data / "egress"))
            assert found["executor"].environ()["XDG_RUNTIME_DIR"] == f"/run/user/{executor}"
            assert found["gateway"].environ()["USER"] == GATEWAY

            rpc, operator = data / "rpc" / "executor.sock", data / "operator" / "rpc.sock"
            sessions = [data / "rpc" / name for name in ("terminals.sock", "displays.sock")]
            control = data / "egress" / "run" / "control.sock"
            await eventually(control.exists)  # a DevBox does not wait for it for ever
            secrets = data / "secrets" / box
            folders = {folder: names for folder, _, names in os.walk(directory)}
            files = [f"{folder}/{name}" for folder, names in folders.items() for name in names]
            scene = {
                "data": str(data), "marks": [CANARY, console.worker_token],
                "files": files, "directories": [folder for folder in folders if folder.startswith(str(data))],
                "sockets": [str(path) for path in (rpc, *sessions, operator, control, podman.socket)],
            }  # fmt: skip
            pids = {name: process.pid for name, process in found.items()} | {"worker": worker.pid}
            others = [pid for name, pid in pids.items() if name != "gateway"]
            as_root = attack(scene, others, 0, 0, [])
            assert {str(secrets), str(console.token_file)} <= set(as_root["read"])
            assert as_root["signalled"] == others
            assert as_root["connected"] == scene["sockets"]
            assert as_root["orders"]
            assert as_root["processes"]
            assert {"lock", "worker.lock", "install"} <= set(as_root["locked"])

            as_gateway = attack(scene, others, gateway, gateway_gid, [])
            assert as_gateway == {
                "read": [], "listed": [str(data / "rpc")], "processes": [], "signalled": [], "locked": [], "orders": "",
                # Its group is the executor's too, and so may knock at the door of egress: no order of its is taken.
                "connected": [str(path) for path in (rpc, *sessions, control)],
            }  # fmt: skip

            others = [pid for name, pid in pids.items() if name != "executor"]
            as_executor = attack(scene, others, executor, executor_gid, [engine_gid])
            assert as_executor["read"] == [str(secrets)]
            assert (as_executor["processes"], as_executor["signalled"]) == ([], [])

            for name in ("gateway", "executor"):
                before = status(found[name])
                found[name].kill()
                dead = found[name]
                await eventually(lambda name=name, dead=dead: processes(worker.pid).get(name, dead).pid != dead.pid)
                await eventually(lambda: link.connected)
                assert status(processes(worker.pid)[name]) == before
            await worker.stop(signal.SIGTERM)
            assert console.worker_token not in worker.text()

        # Whoever comes without them is told whose all this is.
        alone = await execute(
            *users.command(*PROGRAM, "worker", "--mode", "byom", "--data-dir", str(data)), home=directory
        )
        assert (alone.code, f"--executor-user {EXECUTOR}" in alone.err) == (4, True)
    finally:
        remove_all(data)
        podman.stop()


def test_root_follows_no_link_that_the_executor_laid(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its data directory: neither a lock, nor an id, nor a directory of egress leads root to a file of root's."""
    monkeypatch.chdir(open_directory)
    precious, hidden, data = open_directory / "precious", open_directory / "hidden", open_directory / "data"
    precious.write_text("of root")
    precious.chmod(0o600)
    hidden.mkdir(mode=0o755)
    (hidden / "file").write_text("of root")
    for name in ("", "egress"):
        (data / name).mkdir()
        os.chown(data / name, NOBODY, NOBODY)
    for name in ("worker.lock", "worker-id", "drain"):
        (data / name).symlink_to(precious)

    with pytest.raises(Unusable, match="Permission denied"), held(data):
        pass
    with pytest.raises(ConfigurationError, match="Permission denied"):
        complete(
            for_worker(
                {"mode": "byom", "url": "ws://127.0.0.1/", "tenant": "t", "dataDir": data}, {}, Home(open_directory)
            ),
            Home(open_directory),
        )
    assert precious.read_text() == "of root"
    (hidden / "id").write_text(str(uuid4()))
    (data / "install").symlink_to(hidden / "id")
    assert install_of(data) is None
    (data / "install").unlink()
    (data / "install").write_text((hidden / "id").read_text())
    assert install_of(data) == (hidden / "id").read_text()

    files = EgressFiles(data)
    with as_owner_of(data):
        files.make()
    (data / "egress" / "policy").rmdir()
    (data / "egress" / "policy").symlink_to(hidden)
    before = hidden.stat()
    with pytest.raises(NotADirectoryError):
        files.share(13, 13, 13)
    # To its process that is a sentence, and final.
    ended = subprocess.run([*PROGRAM, "egress", "--data-dir", data], check=False, capture_output=True, timeout=60)
    assert (ended.returncode, b"Traceback" in ended.stderr) == (4, False), ended.stderr
    assert b"egress cannot be used" in ended.stderr
    after = hidden.stat()
    assert (after.st_gid, after.st_mode, (hidden / "file").stat().st_gid) == (before.st_gid, before.st_mode, 0)
    assert (os.geteuid(), os.getegid()) == (0, 0)

    # Where it is as it should be, what another user of earlier runs left is no obstacle.
    (data / "egress" / "policy").unlink()
    (data / "egress" / "run" / "squid.conf").write_text("")
    with as_owner_of(data):
        files.make()
    files.share(13, 13, 13)
    assert list((data / "egress" / "run").iterdir()) == []
    assert (data / "egress" / "run").stat().st_uid == 13


def processes(worker: int) -> dict[str, psutil.Process]:
    """The processes of a worker by name, once they are ours and no longer setpriv."""
    found = {}
    for child in psutil.Process(worker).children():
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        if words[-1:] == ["--handed-over"] and not words[0].endswith("setpriv"):
            found[words[-2]] = child
    return found


def status(process: psutil.Process) -> dict[str, list[int]]:
    """What the kernel says a process is."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    numbers = {name: [int(word) for word in lines[name].split()] for name in ("Uid", "Gid", "Groups", "NoNewPrivs")}
    return numbers | {name: [int(lines[name], 16)] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}


def attack(scene: dict[str, Any], pids: list[int], uid: int, gid: int, groups: list[int]) -> dict[str, Any]:
    """Try it as a user, once the interpreter runs: it may lie where only root can read."""
    found = subprocess.run(
        [sys.executable, "-I", "-c", ATTACK],
        input=json.dumps({**scene, "pids": pids, "uid": uid, "gid": gid, "groups": groups}),
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return dict(json.loads(found.stdout))
