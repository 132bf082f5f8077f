"""Another user of the same machine: it connects to no socket of the worker's and reads nothing secret of it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from console.app import Console
from console.terminal_client import Terminal
from tests.integration.canary import CANARY, SECRET_ENV
from tests.integration.conftest import PROGRAM, Podman, Process, create, running_worker, started

NOBODY = 65534
NAME = "what-we-reach.test"
"""On the list of a DevBox, which is no business of others."""
CLOSED = (
    "data/secrets", "data/rpc", "data/operator", "data/audit",
    "data/egress/policy", "data/egress/boxes", "data/egress/own", "data/egress/hosts", "data/egress/run",
)  # fmt: skip

# What an attacker would do first. Says what it got: paths of files that hold a secret, sockets that let it in.
LOOK = r"""
import json, os, socket, sys
asked = json.load(sys.stdin)
user = int(sys.argv[1])
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
marks = [mark.encode() for mark in asked["marks"]]
got = {"read": [], "connected": [], "listed": [], "processes": [], "seen": 0, "control": ""}
def holds(path):
    try:
        with open(path, "rb") as file:
            data = file.read(8 << 20)
    except OSError:
        return False
    got["seen"] += 1
    return any(mark in data for mark in marks)
for place in asked["places"]:
    for folder, folders, files in os.walk(place):
        if folder.endswith(tuple(asked["closed"])):
            got["listed"].append(folder)
        for name in files:
            path = os.path.join(folder, name)
            if holds(path):
                got["read"].append(path)
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("cmdline", "environ", "mem", "fd", "maps"):
        path = f"/proc/{pid}/{name}"
        if name in ("cmdline", "environ") and holds(path):
            got["processes"].append(path)
        elif name in ("fd", "environ") and int(pid) in asked["pids"] and os.access(path, os.R_OK):
            got["processes"].append(path)
for path in asked["sockets"]:
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(path)
        got["connected"].append(path)
    except OSError:
        pass
with open("/proc/net/unix") as table:
    for line in table.read().splitlines():
        if "@" in line and ("clustercode" in line or "executor" in line):
            got["connected"].append(line)
try:
    probe = socket.socket(socket.AF_UNIX)
    probe.connect(asked["control"])
    got["control"] = "connected"
except OSError as error:
    got["control"] = error.strerror
print(json.dumps(got))
"""


def listening(pids: list[int]) -> list[str]:
    """TCP and UDP sockets that processes listen on."""
    inodes = set()
    for pid in pids:
        with suppress(FileNotFoundError):  # a process that ended, whose sockets went with it
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # one that was closed
                    if (to := str(link.readlink())).startswith("socket:"):
                        inodes.add(to.removeprefix("socket:[").removesuffix("]"))
    found = []
    for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/{pids[0]}/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state and fields[9] in inodes:
                found.append(f"{kind} {fields[1]}")
    return found


@pytest.mark.usefixtures("squatter")
async def test_a_third_user_gets_nothing(podman: Podman, console: Console, directory: Path) -> None:
    """Runtime and data directories, logs, /proc, and every socket: as root all of it is found, as another user none.

    Of gateway, executor and egress with all that it has started.
    """
    open_up(directory)
    egress = Process(
        "egress", [*PROGRAM, "egress", "--data-dir", str(directory / "data"), "--log-level", "DEBUG"],
        directory / "egress.log",
    )  # fmt: skip
    async with running_worker(podman, console, directory, executor_args=("--with-egress",)) as worker, started(egress):
        link = await worker.link()
        box = await create(link, secretEnv=SECRET_ENV, allowedDomains=[NAME])
        token = console.token_file.read_text().strip()
        outside = [egress.pid, *(child.pid for child in psutil.Process(egress.pid).children(recursive=True))]
        pids = [worker.gateway.pid, worker.executor.pid]
        sockets = found_sockets(directory)
        async with Terminal(link, box) as terminal:
            await terminal.write(b"test -n $CANARY && echo se''en\n")
            await terminal.read_until(b"seen")
            as_root, as_nobody = (
                look(sockets, [*pids, *outside], directory, podman, [CANARY, token, NAME], user) for user in (0, NOBODY)
            )
        networks, proxies = listening(pids), listening(outside)
        name = (directory / "data/egress/run/squid.name").read_text()
        assert shared_memory(name) != []

    read = {
        str(Path(path).relative_to(directory).parent) for path in as_root["read"] if path.startswith(str(directory))
    }
    assert read >= {"data/secrets", "data/egress/policy", "data/egress/own", "console"}
    assert {path for name in CLOSED for path in as_root["listed"] if path.endswith(name)} == set(as_root["listed"])
    assert len(as_root["listed"]) == len(CLOSED)
    assert sorted(as_root["connected"]) == sorted(sockets)
    assert {Path(path).name for path in sockets} == {
        "executor.sock",
        "terminals.sock",
        "displays.sock",
        "rpc.sock",
        "control.sock",
        "acl.sock",
        "proxy.sock",
    }
    assert len(outside) >= 3, "Squid, its helper, a bridge"
    assert as_nobody["control"] == "connected"
    assert as_nobody["seen"] > 0
    assert (as_nobody["read"], as_nobody["listed"], as_nobody["connected"], as_nobody["processes"]) == ([], [], [], [])
    assert networks == []
    # Squid, on loopback; besides it has what it asks for names with.
    assert [where.partition(":")[0] for where in proxies if where.startswith("tcp")] == ["tcp 0100007F"]


def open_up(directory: Path) -> None:
    """Let others enter, which is worse than how a worker's directories lie: only its own modes protect it then."""
    directory.chmod(0o755)


@pytest.fixture
def squatter() -> Iterator[None]:
    """That user has the names that a Squid by itself takes for what it shares in memory, so that it would not start."""
    names = [Path(f"/dev/shm/squid-cf__{name}.shm") for name in ("metadata", "queues", "readers")]
    mine = [path for path in names if not path.exists()]
    for path in mine:
        path.touch(0o600)
        os.chown(path, NOBODY, NOBODY)
    yield
    for path in mine:
        path.unlink()


def shared_memory(name: str) -> list[Path]:
    return [*Path("/dev/shm").glob(f"{name}-*")]


def found_sockets(directory: Path) -> list[str]:
    return sorted(str(path) for path in directory.rglob("*.sock"))


def look(
    sockets: list[str], pids: list[int], directory: Path, podman: Podman, marks: list[str], user: int
) -> dict[str, list[str]]:
    """Look as a user; a socket that is open to everybody is the positive control."""
    control = directory / "control.sock"
    places = [str(directory), str(podman.directory), "/run"]
    asked = {
        "places": places, "marks": marks, "closed": CLOSED, "sockets": sockets, "pids": pids, "control": str(control)
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX) as listener:
        control.unlink(missing_ok=True)
        listener.bind(str(control))
        control.chmod(0o777)
        listener.listen()
        # It becomes the user once it runs: the interpreter may lie where only root can read.
        found = subprocess.run(
            [sys.executable, "-I", "-c", LOOK, str(user)],
            input=json.dumps(asked), check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    return dict(json.loads(found.stdout))
