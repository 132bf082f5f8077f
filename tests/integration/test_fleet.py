"""A fleet's worker, told everything by its agent.yaml; and the two processes told by files of their own."""

import os
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from clustercode.process import MAX_DESCRIPTORS
from console.app import Console
from protos.errors import FailedPrecondition, NotFound
from tests.integration.commands import environment, run
from tests.integration.conftest import OTHER_TENANT, TENANT, Podman, Process, eventually, remove_all, started

WORKER_ID = "w-fleet"


def written(path: Path, content: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump(content))
    path.chmod(0o600)
    return path


async def test_the_supervisor_alone_reads_agent_yaml(podman: Podman, console: Console, directory: Path) -> None:
    """Token and security section reach their process and show nowhere else, also after the gateway was killed."""
    data = directory / "data"
    agent = written(
        directory / "agent.yaml",
        {
            "url": console.worker_url, "token": console.worker_token, "mode": "fleet", "workerId": WORKER_ID,
            "dataDir": str(data), "engineSocket": str(podman.socket),
            "security": {"floor": "strict", "tenants": {TENANT: None, OTHER_TENANT: {"quotas": {"devboxes": 1}}}},
        },
    )  # fmt: skip
    # The variable says less than the file: of the two, the stricter floor counts.
    env = environment(directory, AGENT_CONFIG=str(agent), SECURITY_FLOOR="open")
    # It is started in a directory of a stranger's, whose modules are not ours.
    (directory / "click.py").write_text("raise SystemExit(2)\n")
    variables = (f"{name}={value}" for name, value in env.items())
    command = ["env", "-i", "-C", str(directory), *variables, sys.executable, "-P", "-m", "clustercode"]
    command = ["sh", "-c", 'ulimit -Sn 512; exec "$@"', "sh", *command]
    worker = Process("worker", [*command, "worker"], directory / "worker.log")
    try:
        async with started(worker):
            link = await console.worker(WORKER_ID, 60)
            await eventually(lambda: bool(link.register and link.register.container_engines))
            assert link.register is not None
            assert (link.register.mode, link.register.security_floor) == ("fleet", "strict")
            with pytest.raises(FailedPrecondition, match="floor of this worker is strict"):
                await link.request("DevBox.create", {"name": "b", "image": "localhost/i", "profile": "standard"})
            assert (await link.request("DevBox.list", {"tenantId": OTHER_TENANT}))["devboxes"] == []
            with pytest.raises(NotFound):
                await link.request("DevBox.list", {"tenantId": "foreign"})

            # Neither has been given what is not its own, and nobody who lists processes sees any of it.
            children = {child.cmdline()[-2]: child for child in psutil.Process(worker.pid).children(recursive=True)}
            assert children.keys() >= {"gateway", "executor"}
            for child in children.values():
                seen = f"{child.cmdline()} {child.environ()}"
                assert console.worker_token not in seen
                assert "SECURITY_FLOOR" not in seen
                assert str(agent) not in seen

            assert children["gateway"].rlimit(psutil.RLIMIT_CORE) == (0, 0)
            for name in ("gateway", "executor"):  # the soft limit was below the hard one
                soft, hard = children[name].rlimit(psutil.RLIMIT_NOFILE)
                assert soft == min(hard, MAX_DESCRIPTORS)

            children["gateway"].kill()
            await eventually(lambda: not link.connected)
            await eventually(lambda: link.connected)
            # The worker says so once it has read the answer, which is after the console has sent it.
            await eventually(lambda: worker.text().count("Connected and registered") == 2)
            assert console.worker_token not in worker.text()
    finally:
        remove_all(data)


async def test_each_process_runs_by_a_file_of_its_own(podman: Podman, console: Console, directory: Path) -> None:
    """What systemd starts: the token is systemd's credential, and a shared file that holds one is refused."""
    data = directory / "data"
    (directory / "token").write_text(console.worker_token)
    executor_yaml = written(
        directory / "executor.yaml",
        {
            "dataDir": str(data), "engineSocket": str(podman.socket), "mode": "fleet",
            "security": {"tenants": [TENANT, OTHER_TENANT]},
        },
    )  # fmt: skip
    gateway_yaml = written(
        directory / "gateway.yaml",
        {
            "url": console.worker_url, "mode": "fleet", "workerId": WORKER_ID, "executorUid": os.getuid(),
            "executorSocket": str(data / "rpc" / "executor.sock"),
        },
    )  # fmt: skip
    program = [sys.executable, "-m", "clustercode"]
    executor = Process("executor", [*program, "executor", "--config", str(executor_yaml)], directory / "executor.log")
    gateway = Process(
        "gateway", [*program, "gateway", "--config", str(gateway_yaml)], directory / "gateway.log",
        environment={"CREDENTIALS_DIRECTORY": str(directory)},
    )  # fmt: skip
    async with started(executor, gateway):
        link = await console.worker(WORKER_ID, 60)
        await eventually(lambda: bool(link.register and link.register.container_engines))
        assert (await link.request("DevBox.list", {"tenantId": OTHER_TENANT}))["devboxes"] == []

    shared = written(directory / "agent.yaml", {"url": console.worker_url, "token": console.worker_token})
    for process in ("gateway", "executor"):
        refused = await run(process, "--config", str(shared), home=directory)
        assert refused.code == 2
        assert "agent.yaml, line 1, token" in refused.err or "agent.yaml, line 1, url" in refused.err
        assert console.worker_token not in refused.err
    assert "tokenFile" in (await run("gateway", "--config", str(shared), home=directory)).err
