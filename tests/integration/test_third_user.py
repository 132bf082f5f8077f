"""Another user of the same machine: it connects to no socket of the worker's and reads nothing secret of it."""

import json
import socket
import subprocess
import sys
from pathlib import Path

from console.app import Console
from console.terminal_client import Terminal
from tests.integration.conftest import CANARY, Podman, create, running_worker

NOBODY = 65534

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
        if folder.endswith(("/secrets", "/rpc", "/operator", "/audit")):
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
    inodes = {
        str(link.readlink()).removeprefix("socket:[").removesuffix("]")
        for pid in pids
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if str(link.readlink()).startswith("socket:")
    }
    found = []
    for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/{pids[0]}/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state and fields[9] in inodes:
                found.append(f"{kind} {fields[1]}")
    return found


async def test_a_third_user_gets_nothing(podman: Podman, console: Console, directory: Path) -> None:
    """Runtime and data directories, logs, /proc, and every socket: as root all of it is found, as another user none."""
    open_up(directory)
    async with running_worker(podman, console, directory) as worker:
        link = await worker.link()
        box = await create(link, secretEnv={"CANARY": CANARY})
        token = console.token_file.read_text().strip()
        pids = [worker.gateway.pid, worker.executor.pid]
        sockets = found_sockets(directory)
        async with Terminal(link, box) as terminal:
            await terminal.write(b"test -n $CANARY && echo se''en\n")
            await terminal.read_until(b"seen")
            as_root, as_nobody = (look(sockets, pids, directory, podman, token, user) for user in (0, NOBODY))
        networks = listening(pids)

    assert any(path.endswith(f"secrets/{box}") for path in as_root["read"])
    assert sorted(as_root["connected"]) == sorted(sockets)
    assert len(sockets) >= 2
    assert as_nobody["control"] == "connected"
    assert as_nobody["seen"] > 0
    assert (as_nobody["read"], as_nobody["listed"], as_nobody["connected"], as_nobody["processes"]) == ([], [], [], [])
    assert networks == []


def open_up(directory: Path) -> None:
    """Let others enter, which is worse than how a worker's directories lie: only its own modes protect it then."""
    directory.chmod(0o755)


def found_sockets(directory: Path) -> list[str]:
    return sorted(str(path) for path in directory.rglob("*.sock"))


def look(
    sockets: list[str], pids: list[int], directory: Path, podman: Podman, token: str, user: int
) -> dict[str, list[str]]:
    """Look as a user; a socket that is open to everybody is the positive control."""
    control = directory / "control.sock"
    places = [str(directory), str(podman.directory), "/run"]
    asked = {"places": places, "marks": [CANARY, token], "sockets": sockets, "pids": pids, "control": str(control)}
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
