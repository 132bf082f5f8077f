"""``worker-agent`` as the public CLI starts it, and ``clustercode worker`` on its first run."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest
from aiohttp import web

from console.app import Console
from tests.integration.commands import environment, run
from tests.integration.conftest import TENANT, Podman, eventually, remove_all

WORKER_ID = "5c1f3bd2-6f4b-4d0e-9d43-2a5d2f6d1c55"
WORKER_AGENT = Path(sys.executable).with_name("worker-agent")


@pytest.fixture
def home(directory: Path, console: Console) -> Path:
    """A home in which somebody has logged in with the public CLI."""
    files = directory / ".clustercode"
    files.mkdir(mode=0o700)
    credentials = {"apiKey": console.worker_token, "email": "e@example.com", "createdAt": "2026-01-01T00:00:00.000Z"}
    (files / "credentials.json").write_text(json.dumps(credentials))
    return directory


@asynccontextmanager
async def running(command: list[str], log: Path, env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program with exactly this environment; its standard output goes to a file, its errors beside it."""
    with log.open("wb") as out, log.with_suffix(".err").open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=WORKER_AGENT.parent
        )
    try:
        yield process
    except BaseException:
        print(log.read_text()[-6000:])  # noqa: ASYNC240 - the test has failed
        raise
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(60):
                await process.wait()


@pytest.mark.usefixtures("podman")
async def test_the_public_cli_starts_it_in_place_of_the_go_agent(console: Console, home: Path) -> None:
    """With that CLI's files and environment it registers as the right worker, logs JSON lines, and ends on SIGTERM."""
    registration = {
        "workerId": WORKER_ID, "tenantId": TENANT, "tenantName": "Local", "orchestratorUrl": console.worker_url,
    }  # fmt: skip
    (home / ".clustercode" / "worker.json").write_text(json.dumps(registration))
    (home / ".clustercode" / "config.json").write_text('{"WORKER_NAME": "attic", "RUNTIME_MEMORY_MB": "8192"}')
    given = {
        "HOME": str(home), "PATH": os.environ["PATH"], "FORCE_COLOR": "1", "CONTAINER_RUNTIME": "podman",
        "LOG_LEVEL": "info",
    }  # fmt: skip
    # What this machine's engine needs, as a person's shell would have it.
    given |= {name: os.environ[name] for name in ("CONTAINERS_CONF",) if name in os.environ}
    log = home / "agent.log"
    try:
        async with running([str(WORKER_AGENT)], log, given) as agent:
            link = await console.worker(WORKER_ID, 60)
            await eventually(lambda: bool(link.register and link.register.container_engines))
            assert link.register is not None
            assert (link.register.worker_id, link.register.tenant_id) == (WORKER_ID, TENANT)
            assert (link.register.name, link.register.mode) == ("attic", "byom")
            assert (await link.request("DevBox.list"))["devboxes"] == []
            agent.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                assert await agent.wait() == 0
    finally:
        remove_all(home / ".clustercode" / "data")

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines
    for line in lines:
        assert line["level"] in ("INFO", "WARN", "ERROR")
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
        assert line["msg"]
    assert {line["process"] for line in lines} >= {"worker", "gateway", "executor"}
    assert console.worker_token not in log.read_text()
    assert log.with_suffix(".err").read_text() == ""


async def test_the_drop_in_says_in_its_log_what_is_missing(directory: Path) -> None:
    """From an empty home: one JSON line with what to do, and a documented exit code."""
    log = directory / "agent.log"
    async with running([str(WORKER_AGENT)], log, environment(directory)) as agent:
        assert await agent.wait() == 4

    line = json.loads(log.read_text())
    assert line["level"] == "ERROR"
    assert "clustercode login" in line["msg"]


async def test_the_first_run_registers_for_the_only_tenant(podman: Podman, console: Console, home: Path) -> None:
    """It asks the orchestrator, remembers what it chose in worker.json, and is the same worker the next time."""
    log, program = home / "worker.log", [sys.executable, "-m", "clustercode", "worker"]
    env = environment(
        home, ORCHESTRATOR_URL=console.base_url, ENGINE_SOCKET=str(podman.socket), WORKER_NAME="from a variable"
    )
    async with running(program, log, env):
        link = await console.worker(timeout_s=60)
        assert link.register is not None
        assert link.register.name == "from a variable"
    kept = json.loads((home / ".clustercode" / "worker.json").read_text())
    assert kept == {
        "workerId": link.id, "tenantId": TENANT, "tenantName": "Local", "orchestratorUrl": console.worker_url,
    }  # fmt: skip
    assert (home / ".clustercode" / "worker.json").stat().st_mode & 0o777 == 0o600

    shown = await run("config", "get", "WORKER_ID", home=home)
    assert (shown.code, shown.out.strip()) == (0, link.id)


@asynccontextmanager
async def with_two_tenants() -> AsyncIterator[str]:
    """An orchestrator whose token may serve two; nothing listens for workers there."""

    async def tenants(_: web.Request) -> web.Response:
        return web.json_response([{"id": "a", "name": "Ann"}, {"id": "b", "name": "Bob\x1b[31m"}])

    app = web.Application()
    app.add_routes([web.get("/api/tenants", tenants)])
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_person_chooses_among_several_tenants(podman: Podman, home: Path) -> None:
    """On a terminal it asks, and keeps the answer; elsewhere it says which there are."""
    async with with_two_tenants() as url:
        told = await run("worker", home=home, ORCHESTRATOR_URL=url)
        assert told.code == 4
        assert "choose one with --tenant: a, b" in told.err

        ours, theirs = os.openpty()
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "clustercode", "worker", stdin=theirs, stdout=theirs, stderr=theirs,
            env=environment(home, ORCHESTRATOR_URL=url, ENGINE_SOCKET=str(podman.socket)),
        )  # fmt: skip
        os.close(theirs)
        try:
            seen = b""
            async with asyncio.timeout(60):
                while b"Tenant (1" not in seen and b"Tenant:" not in seen:
                    seen += await asyncio.to_thread(os.read, ours, 4096)
                assert b"1  Ann  (a)" in seen
                assert b"2  Bob[31m  (b)" in seen  # what a terminal would obey is taken out
                os.write(ours, b"2\n")
                await eventually((home / ".clustercode" / "worker.json").exists)
        finally:
            worker.terminate()
            await worker.wait()
            os.close(ours)
    kept = json.loads((home / ".clustercode" / "worker.json").read_text())
    assert (kept["tenantId"], kept["orchestratorUrl"]) == ("b", f"{url.replace('http', 'ws')}/ws/worker")


async def test_a_first_run_for_a_tenant_that_is_not_ones_own_is_refused(console: Console, home: Path) -> None:
    """Before anything is started or written."""
    refused = await run("worker", "--tenant", "foreign", home=home, ORCHESTRATOR_URL=console.base_url)

    assert refused.code == 4
    assert "may not serve the tenant foreign, only local" in refused.err
    assert not (home / ".clustercode" / "worker.json").exists()
