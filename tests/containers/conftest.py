"""Our images side by side under testcontainers, with what compose.yaml gives them and nothing more."""

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # read at import; our own census looks for leftovers
from testcontainers.core.container import DockerContainer

from conformance.orchestrator import orchestrator
from conformance.scene import Scene, Target, scene
from tests.integration.conftest import DEVBOX_IMAGE, Podman, remove_all
from tests.integration.conftest import podman as podman  # noqa: PLC0414 - a fixture of that folder
from tests.integration.internet import Internet, internet

ROOT = Path(__file__).parents[2]
GATEWAY_UID, EXECUTOR_UID, CONSOLE_UID, EGRESS_UID, GROUP = 10001, 10002, 10003, 10004, 10000
HOSTNAME = "the-machine"
TARGET = Target(DEVBOX_IMAGE, "localhost/devbox-display:latest")

_RENAMED = {"pid": "pid_mode"}
_NOT_OF_A_CONTAINER = {"restart", "logging", "image", "environment", "volumes", "secrets"}
"""What is carried over in another way, or is nothing that changes what a container may do."""


@dataclass
class Side:
    """The three containers, and the orchestrator that the gateway is connected to."""

    gateway: DockerContainer
    executor: DockerContainer
    egress: DockerContainer
    internet: Internet
    data: Path
    scene: Scene

    def inside(self, container: DockerContainer, script: str) -> str:
        """Run Python in a container, as its user; returns what it prints."""
        done = container.get_wrapped_container().exec_run(["python3", "-c", script])
        assert done.exit_code == 0, done.output.decode()
        return str(done.output.decode())


def services(variables: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The services of compose.yaml, filled in as compose does: ``${NAME:-default}``, ``${NAME:?why}``."""

    def fill(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        assert kind == "-" or name in variables, f"{name}: {rest}"
        return variables.get(name) or rest

    text = re.sub(r"\$\{(\w+):([-?])([^}]*)\}", fill, (ROOT / "compose.yaml").read_text())
    compose = yaml.safe_load(text)
    found: dict[str, dict[str, Any]] = compose["services"]
    for service in found.values():
        for secret in service.get("secrets", ()):
            service["volumes"].append(f"{compose['secrets'][secret]['file']}:/run/secrets/{secret}:ro")
    return found


@contextmanager
def started(service: dict[str, Any], podman: Podman, **changes: str) -> Iterator[DockerContainer]:
    """Start one service as a container; it is removed at the end, and a failing test shows its log."""
    options = {_RENAMED.get(key, key): value for key, value in service.items() if key not in _NOT_OF_A_CONTAINER}
    volumes = [(*volume.split(":"), "rw")[:3] for volume in service["volumes"]]
    client = {"environment": {"DOCKER_HOST": f"unix://{podman.socket}"}}
    container = DockerContainer(service["image"], docker_client_kw=client, **{**options, **changes, "volumes": volumes})
    for name, value in service["environment"].items():
        container.with_env(name, value)
    container.start()
    try:
        yield container
    except BaseException:
        print(b"\n".join(container.get_logs()).decode()[-4000:])
        raise
    finally:
        container.stop()


@pytest.fixture(scope="session", autouse=True)
def images() -> None:
    """The images must be there: see `make containers`."""
    for name in ("gateway", "executor", "egress", "console"):
        if subprocess.run(["podman", "image", "exists", f"localhost/clustercode-{name}"], check=False).returncode != 0:
            pytest.fail(f"The image localhost/clustercode-{name} is missing: run 'make containers'.")


def remove_built(podman: Podman, data: Path) -> None:
    """Remove the layers that the engine keeps of an installation's builds."""
    label = f"label=io.clustercode.builder={(data / 'install').read_text().strip()}"
    while built := podman.run("images", "-aq", "--no-trunc", "--filter", label).split():
        podman.run("rmi", "-f", *set(built))


def prepared(directory: Path) -> Path:
    """Make the data directory by the very commands of docs/containers.md."""
    directory.chmod(0o755)
    data = directory / "data"
    commands = re.findall(r"^install -d .*$", (ROOT / "docs/containers.md").read_text(), re.MULTILINE)
    for command in commands:
        subprocess.run(command.replace("/var/lib/clustercode", str(data)).split(), check=True)
    return data


@pytest.fixture(scope="module")
def world() -> Iterator[Internet]:
    """The internet that egress is in: what a DevBox reaches or not is shown without leaving the machine."""
    directory = Path(tempfile.mkdtemp(prefix="cc-net-"))
    (directory / "site").mkdir()
    try:
        with internet(directory, directory / "site") as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def in_internet(service: dict[str, Any], world: Internet) -> dict[str, Any]:
    """The egress service where its "machine" is one of that internet's instead of this one."""
    volumes = [*service["volumes"], f"{world.directory}/resolv.conf:/etc/resolv.conf:ro"]
    return {**service, "network_mode": f"ns:/run/netns/{world.worker}", "volumes": volumes}


async def reaches(checks: Scene, box: str, host: str) -> int:
    """The status with which a page of a host is answered in a DevBox; 0: there is no answer."""
    fetch = f"curl -s --max-time 20 -o /dev/null -w '%{{http_code}}' http://{host}/probe || true"
    return int(await checks.run(box, fetch))


@pytest.fixture(scope="module")
async def side(podman: Podman, world: Internet) -> AsyncIterator[Side]:
    """Gateway, executor and egress, prepared as docs/containers.md says."""
    directory = Path(tempfile.mkdtemp(prefix="cc-"))
    data = prepared(directory)
    podman.socket.chmod(0o660)  # as systemd makes it; the executor is in its group
    try:
        async with orchestrator(directory, token=secrets.token_urlsafe(32)) as listening:
            os.chown(listening.token_file, GATEWAY_UID, GROUP)
            listening.token_file.chmod(0o400)
            found = services(
                {
                    "ORCHESTRATOR_WS_URL": listening.worker_url,
                    "WORKER_ID": "w-containers",
                    "WORKER_HOSTNAME": HOSTNAME,
                    "TOKEN_FILE": str(listening.token_file),
                    "DATA_DIR": str(data),
                    "ENGINE_SOCKET": str(podman.socket),
                }
            )
            # The gateway first: in whichever order they start, they find each other. Its network is the machine's,
            # because that is where this orchestrator listens; compose gives it one of its own.
            with (
                started(found["gateway"], podman, network_mode="host") as gateway,
                started(in_internet(found["egress"], world), podman) as egress,
                started(found["executor"], podman) as executor,
            ):
                async with scene(listening, TARGET, 60) as running:
                    yield Side(gateway, executor, egress, world, data, running)
        remove_built(podman, data)
    finally:
        remove_all(data)
        shutil.rmtree(directory, ignore_errors=True)
