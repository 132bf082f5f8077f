"""The three images together: every command, each of them restarted in turn, and what none of them has."""

import asyncio
import subprocess

import pytest

from conformance import suite
from tests.containers.conftest import HOSTNAME, Side, reaches, services
from tests.integration.conftest import eventually
from tests.integration.internet import CANARY

SOCKETS = """
import os, stat
for top, directories, files in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(top, name) not in ("/proc", "/sys")]
    for name in files:
        path = os.path.join(top, name)
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):
                print(path)
        except OSError:
            pass
"""
TOKENS = """
import os
token = bytes.fromhex("TOKEN")[::-1]  # this program must not find itself
for top, directories, files in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(top, name) not in ("/sys", "/proc")]
    for name in files:
        path = os.path.join(top, name)
        try:
            if os.path.isfile(path) and os.path.getsize(path) < 10**8 and token in open(path, "rb").read():
                print(path)
        except OSError:
            pass
me = str(os.getpid())
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline", "root/run/secrets/token"):
        try:
            if pid != me and token in open(f"/proc/{pid}/{name}", "rb").read():
                print(pid, name)
        except OSError:
            pass
"""
STAYS = """
import socket
way = socket.create_connection(("127.0.0.1", 3128))
way.sendall(b"CONNECT allowed.test:22 HTTP/1.1\\r\\n\\r\\n")
print("through" if b" 200 " in way.recv(100) else "not through", flush=True)
while True:
    try:
        if not way.recv(100): break
    except OSError: break
print("cut off", flush=True)
"""
DEAD = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        state = open(f"/proc/{pid}/stat").read()
    except OSError:
        continue
    if state.rpartition(")")[2].split()[0] == "Z":
        print(state)
"""


@pytest.mark.parametrize("name", list(suite.CHECKS))
async def test_containers_keep_the_protocol(side: Side, name: str) -> None:
    """Every check of ``clustercode conformance`` holds."""
    (result,) = [result async for result in suite.run(side.scene, [name])]

    assert result.outcome in ("passed", "limited"), f"{result.claim} Found: {result.detail}"


def test_the_hostname_is_the_machines(side: Side) -> None:
    """A container's id is no hostname."""
    assert side.scene.register["hostname"] == HOSTNAME


def test_the_gateway_cannot_reach_the_engine(side: Side) -> None:
    """The sockets it sees are the executor's; it is an ordinary user without any capability."""
    found = {path.removeprefix("/run/clustercode/") for path in side.inside(side.gateway, SOCKETS).split()}
    assert found == {"executor.sock", "terminals.sock", "displays.sock"}
    status = side.inside(side.gateway, "print(open('/proc/1/status').read())")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Uid:\t10001\t10001"):
        assert line in status


def test_the_executor_has_no_network_and_no_token(side: Side) -> None:
    """Loopback alone; the token is in no file, no environment and no process that it can look at."""
    devices = side.inside(side.executor, "print(open('/proc/net/dev').read())")
    assert [line.split(":")[0].strip() for line in devices.splitlines() if ":" in line] == ["lo"]
    program = TOKENS.replace("TOKEN", side.scene.orchestrator.token.encode()[::-1].hex())
    assert side.inside(side.executor, program) == ""
    assert "/run/secrets/token" in side.inside(side.gateway, program)  # so the program finds what is there
    wrapped = side.gateway.get_wrapped_container()
    wrapped.reload()
    gateway = wrapped.attrs["State"]["Pid"]
    looked = f"import os\ntry: os.listdir('/proc/{gateway}/root')\nexcept PermissionError: print('refused')"
    assert side.inside(side.executor, looked) == "refused\n"


def test_egress_sees_its_part_of_the_data_directory_and_nothing_else(side: Side) -> None:
    """An ordinary user without any capability, engine, token or secrets; what is allowed is not its to write."""
    assert side.inside(side.egress, SOCKETS) == ""  # but for its own, in a directory that it cannot list
    assert "control.sock" in side.inside(side.egress, f"import os; print(os.listdir('{side.data}/egress/run'))")
    program = TOKENS.replace("TOKEN", side.scene.orchestrator.token.encode()[::-1].hex())
    assert side.inside(side.egress, program) == ""
    assert side.inside(side.egress, f"import os; print(os.listdir('{side.data}'))") == "['egress']\n"
    for path in ("policy/x", "boxes/x", "own/x", "x"):
        script = f"try: open('{side.data}/egress/{path}', 'w')\nexcept PermissionError: print('refused')"
        assert side.inside(side.egress, script) == "refused\n"
    status = side.inside(side.egress, "print(open('/proc/1/status').read())")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Uid:\t10004\t10004"):
        assert line in status


async def test_a_standard_devbox_reaches_what_is_listed_and_nothing_else(side: Side) -> None:
    """By way of the egress container, also after it was away; a cut leaves no process behind in it."""
    checks = side.scene
    box = (await checks.create(allowedDomains=["allowed.test"]))["id"]
    fetch = "curl -sS --max-time 20 -w ' %{http_code}' http://HOST/probe"
    assert await checks.run(box, fetch.replace("HOST", "allowed.test")) == f"{CANARY}allowed\n 200"
    assert await reaches(checks, box, "evil.test") == 403
    assert not [seen for seen in side.internet.seen("http") if seen.startswith("evil")]

    await checks.peer.open(box, "t-out", tenantId=checks.tenant, command=["python3", "-c", STAYS])
    await checks.peer.shows("t-out", b"through")
    await checks.ask("DevBox.egress", {"devboxId": box, "allowedDomains": [], "cut": True})
    await checks.peer.shows("t-out", b"cut off")
    assert await reaches(checks, box, "allowed.test") == 403
    await eventually(lambda: side.inside(side.egress, DEAD) == "")  # one that has just ended is not yet waited for

    await checks.ask("DevBox.egress", {"devboxId": box, "allowedDomains": ["allowed.test"]})
    egress = side.egress.get_wrapped_container()
    await asyncio.to_thread(egress.stop, timeout=20)
    assert (await asyncio.to_thread(egress.wait))["StatusCode"] == 0  # by its signal, not by force
    assert await reaches(checks, box, "allowed.test") == 0
    await asyncio.to_thread(egress.start)
    async with asyncio.timeout(60):
        while await reaches(checks, box, "allowed.test") != 200:
            await asyncio.sleep(0.1)
    await checks.clear()


def test_all_are_healthy_and_write_nowhere(side: Side) -> None:
    """The images' own health checks pass; the root filesystems are read-only."""
    for container in (side.gateway, side.executor, side.egress):
        name = container.get_wrapped_container().name
        assert subprocess.run(["podman", "healthcheck", "run", name], check=False).returncode == 0
        script = "try: open('/opt/x', 'w')\nexcept OSError as error: print(error.strerror)"
        assert side.inside(container, script) == "Read-only file system\n"


async def test_each_is_restarted_in_turn(side: Side) -> None:
    """A terminal goes on across a restart of the gateway, DevBoxes across that of the executor; both end in order."""
    checks = side.scene
    box = (await checks.create())["id"]
    await checks.peer.open(box, "t-1", tenantId=checks.tenant, command="echo before; cat")
    await checks.peer.shows("t-1", b"before\r\n")

    gateway = side.gateway.get_wrapped_container()
    await asyncio.to_thread(gateway.restart, timeout=20)
    peer = await checks.connected()
    opened = await peer.open(box, "t-1", tenantId=checks.tenant, fromOffset=8)
    assert (opened["resumed"], opened["offset"]) == (True, 8)
    await peer.type("t-1", b"after\n")
    await peer.shows("t-1", b"after\r\nafter\r\n")

    executor = side.executor.get_wrapped_container()
    await asyncio.to_thread(executor.restart, timeout=20)
    async with asyncio.timeout(60):
        while (answer := await checks.answer("DevBox.list"))["ok"] is False:
            assert answer["error"]["code"] == "UNAVAILABLE"
            await asyncio.sleep(0.1)
    assert [found["state"] for found in answer["payload"]["devboxes"] if found["id"] == box] == ["running"]
    assert await checks.run(box, "echo still") == "still\n"
    for container, word in ((gateway, b"Stopped"), (executor, b"DevBoxes go on")):
        assert word in container.logs()  # by its signal, not by force
    await checks.clear()


def test_compose_gives_each_only_its_own() -> None:
    """Engine and token in one of them alone, no network in the executor, and none may anything."""
    variables = dict.fromkeys(("ORCHESTRATOR_WS_URL", "WORKER_ID", "WORKER_HOSTNAME"), "x")
    tokens = {"TOKEN_FILE": "/the-token", "CONSOLE_TOKEN_FILE": "/its-token"}
    found = services({**variables, **tokens, "ENGINE_SOCKET": "/engine.sock", "DATA_DIR": "/data"})

    def who_has(word: str) -> list[str]:
        return [name for name, service in found.items() if word in str(service)]

    assert who_has("engine.sock") == ["executor"]
    assert who_has("/the-token") == ["gateway"]
    assert who_has("/its-token") == ["console"]
    assert who_has("profiles") == ["console"]
    assert found["executor"]["network_mode"] == "none"
    assert found["egress"]["volumes"] == ["/data/egress:/data/egress"]
    for service in found.values():
        assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
        assert service["security_opt"] == ["no-new-privileges"]
        assert {"mem_limit", "pids_limit", "restart", "logging"} <= service.keys()
        assert "ports" not in service
