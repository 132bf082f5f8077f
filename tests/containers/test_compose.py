"""``compose.yaml`` as people start it, with podman-compose and docker-compose."""

import asyncio
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import aiohttp
import psutil
import pytest

from conformance import suite
from conformance.orchestrator import orchestrator
from conformance.scene import scene
from tests.containers.conftest import (
    CONSOLE_UID,
    GATEWAY_UID,
    GROUP,
    HOSTNAME,
    ROOT,
    TARGET,
    prepared,
    reaches,
    remove_built,
)
from tests.integration.conftest import Podman, eventually, remove_all
from tests.integration.internet import CANARY, Internet

COMPOSE = ROOT / ".cache/podman-compose"
PROGRAMS = {
    "podman-compose": [sys.executable, str(COMPOSE / "bin/podman-compose")],
    "docker-compose": ["docker-compose"],
}
"""podman-compose from PyPI: Debian 12's own gives services a network whose network_mode is none, and fails."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@dataclass
class Compose:
    """One of the programs, in a directory with our compose.yaml as docs/containers.md has people prepare it."""

    program: str
    directory: Path
    data: Path
    podman: Podman
    options: tuple[str, ...] = ()

    def say(self, **variables: str) -> None:
        """Write .env, by what .env.example has and what its reader fills in."""
        text = (ROOT / ".env.example").read_text()
        filled = {"WORKER_ID": "w-compose", "WORKER_HOSTNAME": HOSTNAME, "DATA_DIR": str(self.data), **variables}
        for name, value in {**filled, "ENGINE_SOCKET": str(self.podman.socket)}.items():
            text, found = re.subn(f"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
            assert found == 1, f".env.example does not explain {name}"
        (self.directory / ".env").write_text(text)

    async def run(self, *arguments: str) -> str:
        """Run the program, which must succeed; returns what it prints."""
        command = [*PROGRAMS[self.program], "-p", "cctest", *self.options, *arguments]
        environment = {**os.environ, "DOCKER_HOST": f"unix://{self.podman.socket}", "PYTHONPATH": str(COMPOSE)}
        if self.program == "docker-compose":
            del environment["PYTHONPATH"]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Have the services run while the block does; a failing test shows their logs."""
        await self.run("up", "-d")
        try:
            yield
        except BaseException:
            print((await self.run("logs"))[-8000:])
            raise
        finally:
            if (self.data / "install").exists():
                remove_built(self.podman, self.data)
            await self.run("down")


@pytest.fixture(params=list(PROGRAMS))
def compose(request: pytest.FixtureRequest, podman: Podman) -> Iterator[Compose]:
    """Each of them."""
    program = request.param
    if shutil.which(PROGRAMS[program][-1]) is None:
        pytest.fail(f"This test needs {program}: run it by 'make test-long', which installs it.")
    directory = Path(tempfile.mkdtemp(prefix="cc-"))
    podman.socket.chmod(0o660)  # as systemd makes it
    for name in ("compose.yaml", "compose.health.yaml"):
        shutil.copy(ROOT / name, directory)
    data = prepared(directory)
    try:
        yield Compose(program, directory, data, podman)
    finally:
        remove_all(data)
        shutil.rmtree(directory, ignore_errors=True)


async def test_compose_up_gives_a_worker_that_keeps_the_protocol(compose: Compose, world: Internet) -> None:
    """Up, every check, what a standard DevBox reaches with egress and without, down, and nothing is left."""
    # Egress is in the test's internet instead of the machine's network.
    (compose.directory / "internet.yaml").write_text(
        'version: "3.8"\nservices:\n  egress:\n'
        f"    network_mode: ns:/run/netns/{world.worker}\n"
        f"    volumes: ['{world.directory}/resolv.conf:/etc/resolv.conf:ro']\n"
    )
    compose.options = ("-f", "compose.yaml", "-f", "internet.yaml")
    async with orchestrator(compose.directory, token=secrets.token_urlsafe(32)) as listening:
        os.chown(listening.token_file, GATEWAY_UID, GROUP)
        listening.token_file.chmod(0o400)
        # Its orchestrator listens on the machine itself, where the engine's own network does not lead.
        compose.say(
            ORCHESTRATOR_WS_URL=listening.worker_url, TOKEN_FILE=str(listening.token_file), GATEWAY_NETWORK="host"
        )
        async with compose.up(), scene(listening, TARGET, 60) as running:
            results = [result async for result in suite.run(running, suite.CHECKS)]
            box = (await running.create(allowedDomains=["allowed.test"]))["id"]
            assert await running.run(box, "curl -sS http://allowed.test/probe") == f"{CANARY}allowed\n"
            assert await reaches(running, box, "evil.test") == 403
            await compose.run("stop", "egress")
            assert await reaches(running, box, "allowed.test") == 0
            refused = await running.refused(
                "FAILED_PRECONDITION",
                "DevBox.create",
                {"name": "late", "image": TARGET.image, "allowedDomains": ["allowed.test"]},
            )
            assert "egress process does not run" in refused
            without = (await running.create())["id"]
            boxes = (await running.ask("DevBox.list"))["devboxes"]
            assert {found["id"]: found["network"] for found in boxes} == {box: "allowlist", without: "none"}
            await compose.run("start", "egress")
            async with asyncio.timeout(60):
                while await reaches(running, box, "allowed.test") != 200:
                    await asyncio.sleep(0.2)
            await running.clear()
    assert running.register["hostname"] == HOSTNAME
    assert [f"{result.name}: {result.detail}" for result in results if result.outcome == "failed"] == []


async def test_the_profile_console_adds_a_page_with_the_worker_on_it(compose: Compose) -> None:
    """On loopback alone; the address is in its log, and the worker comes in with the token of both files."""
    for name, user in (("token", GATEWAY_UID), ("console-token", CONSOLE_UID)):
        file = compose.directory / name
        file.write_text("one-and-the-same-token\n")
        os.chown(file, user, GROUP)
        file.chmod(0o400)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    compose.say(ORCHESTRATOR_WS_URL=f"ws://127.0.0.1:{port}/ws/worker", CONSOLE_PORT=str(port), GATEWAY_NETWORK="host")
    compose.options = ("--profile", "console")

    async with compose.up():
        found: list[str] = []

        async def is_announced() -> bool:
            found[:] = re.findall(rf"http://127\.0\.0\.1:{port}/\?token=[\w-]+", await compose.run("logs", "console"))
            return bool(found)

        await eventually(is_announced, timeout_s=60)
        base = f"http://127.0.0.1:{port}"
        # The cookies of an address: aiohttp keeps none of those unless it is told to.
        async with aiohttp.ClientSession(base, cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.get(found[-1]) as page:
                assert (page.status, "xterm" in await page.text()) == (200, True)
            async with browser.ws_connect("/ws/browser?page=00000000-aaaa", origin=base) as ws, asyncio.timeout(60):
                while HOSTNAME not in (said := await ws.receive_str()):
                    pass
        assert "w-compose" in json.dumps(json.loads(said))
        assert listening_at(port) == ["127.0.0.1"]


def listening_at(port: int) -> list[str]:
    """The machine's addresses that something listens on at a port."""
    connections = psutil.net_connections("tcp")
    return [found.laddr.ip for found in connections if found.status == psutil.CONN_LISTEN and found.laddr.port == port]


@pytest.mark.parametrize("compose", ["docker-compose"], indirect=True)
async def test_each_waits_until_the_one_it_needs_is_healthy(compose: Compose) -> None:
    """With compose.health.yaml, where somebody runs the images' health checks: on a machine with systemd that does."""
    (compose.directory / "token").write_text("a-token-that-nobody-asks-for\n")
    compose.say(ORCHESTRATOR_WS_URL="ws://127.0.0.1:9/ws/worker", GATEWAY_NETWORK="host")
    compose.options = ("-f", "compose.yaml", "-f", "compose.health.yaml")

    async def check_health() -> None:
        while True:
            for name in compose.podman.run("ps", "-q", "--filter", "label=com.docker.compose.project=cctest").split():
                checking = await asyncio.create_subprocess_exec("podman", "healthcheck", "run", name)
                await checking.wait()
            await asyncio.sleep(0.2)

    async with asyncio.TaskGroup() as tasks:
        checks = tasks.create_task(check_health(), name="health checks")
        async with compose.up():
            found = {
                box["Config"]["Labels"]["com.docker.compose.service"]: box["State"]
                for box in json.loads(compose.podman.run("inspect", *(await compose.run("ps", "-q")).split()))
            }
            checks.cancel()
            with suppress(asyncio.CancelledError):
                await checks
    assert {name: state["Health"]["Status"] for name, state in found.items() if name != "gateway"} == {
        "executor": "healthy", "egress": "healthy",
    }  # fmt: skip
    begun = [datetime.fromisoformat(found[name]["StartedAt"]) for name in ("egress", "executor", "gateway")]
    assert begun == sorted(begun)
