"""``compose.yaml`` as people start it, with podman-compose and docker-compose."""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conformance import suite
from conformance.orchestrator import orchestrator
from conformance.scene import scene
from tests.containers.conftest import GATEWAY_UID, GROUP, HOSTNAME, ROOT, TARGET, prepared, remove_built
from tests.integration.conftest import Podman, remove_all

COMPOSE = ROOT / ".cache/podman-compose"
PROGRAMS = {
    "podman-compose": [sys.executable, str(COMPOSE / "bin/podman-compose")],
    "docker-compose": ["docker-compose"],
}
"""podman-compose from PyPI: Debian 12's own gives services a network whose network_mode is none, and fails."""

# The orchestrator of this test listens on the machine itself, where a network of compose's own does not reach.
NETWORK = """
version: "3.8"
services:
  gateway:
    network_mode: host
"""


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", PROGRAMS)
async def test_compose_up_gives_a_worker_that_keeps_the_protocol(podman: Podman, program: str) -> None:
    """Prepared as docs/containers.md says: up, every check, down, and nothing is left."""
    if shutil.which(PROGRAMS[program][-1]) is None:
        pytest.fail(f"This test needs {program}: run it by 'make test-long', which installs it.")
    directory = Path(tempfile.mkdtemp(prefix="cc-"))
    data = prepared(directory)
    podman.socket.chmod(0o660)
    (directory / "network.yaml").write_text(NETWORK)
    shutil.copy(ROOT / "compose.yaml", directory)

    async def compose(*arguments: str) -> None:
        command = [*PROGRAMS[program], "-p", "cctest", "-f", "compose.yaml", "-f", "network.yaml", *arguments]
        environment = {**os.environ, "DOCKER_HOST": f"unix://{podman.socket}", "PYTHONPATH": str(COMPOSE)}
        if program == "docker-compose":
            del environment["PYTHONPATH"]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        async with orchestrator(directory, token=secrets.token_urlsafe(32)) as listening:
            os.chown(listening.token_file, GATEWAY_UID, GROUP)
            (directory / ".env").write_text(
                f"ORCHESTRATOR_WS_URL={listening.worker_url}\nWORKER_ID=w-compose\nWORKER_HOSTNAME={HOSTNAME}\n"
                f"TENANT_ID=local\nTOKEN_FILE={listening.token_file}\nDATA_DIR={data}\nENGINE_SOCKET={podman.socket}\n"
                "LOG_DRIVER=k8s-file\n"
            )
            await compose("up", "-d")
            try:
                async with scene(listening, TARGET, 60) as running:
                    results = [result async for result in suite.run(running, suite.CHECKS)]
            finally:
                if (data / "install").exists():
                    remove_built(podman, data)
                await compose("down")
        assert running.register["hostname"] == HOSTNAME
        assert [f"{result.name}: {result.detail}" for result in results if result.outcome == "failed"] == []
    finally:
        remove_all(data)
        shutil.rmtree(directory, ignore_errors=True)
