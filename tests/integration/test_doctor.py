"""``clustercode doctor``: each thing that can be wrong with a machine, made wrong for real, names what mends it."""

import asyncio
import json
import shlex
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trustme
from aiohttp import web

from console.app import Console
from tests.integration.commands import Ended, execute, run
from tests.integration.conftest import IMAGE, PROGRAM, TENANT, Podman, Process, create, running_worker, started


@pytest.fixture
def home(directory: Path, console: Console) -> Path:
    """The home of somebody who has logged in and registered."""
    files = directory / ".clustercode"
    files.mkdir(mode=0o700)
    credentials = {"apiKey": console.worker_token, "email": "e@example.com", "createdAt": "2026-01-01T00:00:00Z"}
    (files / "credentials.json").write_text(json.dumps(credentials))
    (files / "credentials.json").chmod(0o600)
    worker = {"workerId": "w", "tenantId": TENANT, "tenantName": "Local", "orchestratorUrl": console.worker_url}
    (files / "worker.json").write_text(json.dumps(worker))
    return directory


@pytest.fixture
def stopped_engine() -> Iterator[Path]:
    """The socket of an engine that ran and was stopped."""
    with TemporaryDirectory(prefix="cc-") as name:
        engine = Podman(Path(name))
        engine.start()
        engine.stop()
        yield engine.socket


def findings(ended: Ended) -> dict[str, dict[str, Any]]:
    """The checks of a run by name; that the exit code, the verdict and they agree is checked on the way."""
    said = json.loads(ended.out)
    statuses = [check["status"] for check in said["checks"]]
    assert ended.code == (1 if "fail" in statuses else 0)
    assert said["healthy"] == (ended.code == 0)
    assert all(check["fix"] for check in said["checks"] if check["status"] == "fail")
    return {check["name"]: check for check in said["checks"]}


async def in_namespace(prepare: str, home: Path, **more: str) -> Ended:
    """Run the doctor where other file systems are mounted than elsewhere."""
    doctor = shlex.join([*PROGRAM, "doctor", "--json"])
    return await execute("unshare", "--mount", "sh", "-ec", f"{prepare}\nexec {doctor}", home=home, **more)


async def test_a_good_machine_is_all_green(podman: Podman, home: Path) -> None:
    """Every check of it passes, in words and in JSON; at 80 columns nothing is cut or runs over."""
    told, shown = await asyncio.gather(
        run("doctor", "--json", home=home, ENGINE_SOCKET=str(podman.socket)),
        run("doctor", home=home, ENGINE_SOCKET=str(podman.socket)),
    )
    found = findings(told)

    # But that the tests are root, and name no users.
    assert {name: check["status"] for name, check in found.items() if check["status"] != "pass"} == {"users": "warn"}
    assert found.keys() >= {
        "auth", "registration", "orchestrator", "clock", "engine", "limits", "leftovers", "data directory", "disk",
        "inodes", "memory", "egress",
    }  # fmt: skip
    assert "e@example.com" in found["auth"]["detail"]
    assert found["engine"]["detail"].startswith("podman ")
    assert podman.run("ps", "-aq", "--filter", "label=io.clustercode.doctor") == ""

    assert shown.code == 0
    assert "A worker can run here." in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


async def test_it_starts_podmans_service_for_the_while_as_a_worker_would(podman: Podman, home: Path) -> None:
    """Where nothing listens yet and Podman is there; it finds what another installation left, and leaves nothing."""
    podman.run(
        "create", "--name", "clustercode-0123456789ab", "--label", "io.clustercode.managed=true", "--label",
        "io.clustercode.install=another", "localhost/clustercode-test:latest", "true",
    )  # fmt: skip
    try:
        found = findings(await in_namespace("mount -t tmpfs tmpfs /run", home))
    finally:
        podman.run("rm", "-f", "clustercode-0123456789ab")

    assert found["engine"]["status"] == "pass"
    assert "its service starts" in found["engine"]["detail"]
    assert found["leftovers"]["status"] == "warn"
    assert "1 containers and 0 volumes" in found["leftovers"]["detail"]
    assert found["leftovers"]["fix"].endswith("podman rm -fv --depend clustercode-0123456789ab")


async def test_what_another_installation_left_goes_by_the_advice(
    podman: Podman, console: Console, home: Path, directory: Path
) -> None:
    """All of it, as the commands stand there: the DevBox, what stands beside it for its network, and the volumes."""
    data = directory / "data"
    egress = Process("egress", [*PROGRAM, "egress", "--data-dir", str(data)], directory / "egress.log")
    there = {"ENGINE_SOCKET": str(podman.socket), "DATA_DIR": str(directory / "other")}
    async with (
        running_worker(podman, console, directory, executor_args=("--with-egress",)) as worker,
        started(egress),
    ):
        box = await create(await worker.link(), allowedDomains=["example.com"])
        for process in (worker.gateway, worker.executor):
            await process.stop()
        label = f"label=io.clustercode.install={(data / 'install').read_text().strip()}"
        listings = [("ps", "-aq", "--filter", label), ("volume", "ls", "-q", "--filter", label)]
        assert [len(podman.run(*listing).split()) for listing in listings] == [3, 2]
        # Somebody's own, from an image that was made from a DevBox: it has the labels.
        podman.run("run", "-d", "--name", "somebodys-own", "--network", "none", "--label", label[6:], IMAGE)

        told, shown = await asyncio.gather(
            run("doctor", "--json", home=home, **there), run("doctor", home=home, **there)
        )
        fix = findings(told)["leftovers"]["fix"]
        commands = [line for line in fix.splitlines() if box in line]
        assert len(commands) == 2
        for command in commands:
            assert f" {command}\n" in shown.out
            assert (await execute("sh", "-ec", command, home=home)).code == 0

        assert podman.run(*listings[0], "--format", "{{.Names}}").split() == ["somebodys-own"]
        assert podman.run(*listings[1]) == ""
        after = await run("doctor", "--json", home=home, **there)
        assert box not in findings(after)["leftovers"]["fix"]


async def test_an_engine_that_is_not_the_one_asked_for(podman: Podman, home: Path) -> None:
    """Podman is not taken for Docker; and Podman's socket in the data directory is no socket of Docker's."""
    data = home / "data"
    (data / "engine").mkdir(parents=True)
    (data / "engine" / "podman.sock").symlink_to(podman.socket)
    by_name = f"unix://{podman.socket}"
    named, beside = map(findings, await asyncio.gather(
        run("doctor", "--docker", "--json", home=home, DOCKER_HOST=by_name, DATA_DIR=str(data)),
        in_namespace("mount -t tmpfs tmpfs /run", home, CONTAINER_RUNTIME="docker", DATA_DIR=str(data)),
    ))  # fmt: skip

    assert named["engine"]["status"] == "warn"
    assert named["engine"]["detail"].endswith("and not docker")
    assert "--podman" in named["engine"]["fix"]
    assert beside["engine"]["status"] == "fail"
    assert beside["engine"]["detail"].startswith("Docker ")


async def test_a_worker_is_told_by_its_id_once_it_has_one(
    console: Console, directory: Path, stopped_engine: Path
) -> None:
    """Also one that is not registered here: its data directory keeps the id."""
    flags = ("--url", console.worker_url, "--token-file", str(console.token_file), "--tenant", TENANT)
    where = {"ENGINE_SOCKET": str(stopped_engine), "DATA_DIR": str(directory / "data")}
    new = findings(await run("doctor", "--json", *flags, home=directory, **where))
    (directory / "data").mkdir()
    (directory / "data" / "worker-id").write_text("w-kept\n")
    known = findings(await run("doctor", "--json", *flags, home=directory, **where))

    assert new["registration"]["detail"].endswith("as a new worker")
    assert known["registration"]["detail"].endswith("as w-kept")


async def test_no_engine_no_proxy_and_a_full_disk(home: Path) -> None:
    """It says what to install, and which directory has no room."""
    data = home / "data"
    data.mkdir()
    hidden = "mount -t tmpfs tmpfs /run; mount --bind /dev/null /usr/sbin/squid"
    full = f"mount -t tmpfs -o size=4m tmpfs {data}; head -c 8m /dev/zero > {data}/fill 2>/dev/null || true"
    found, docker = map(findings, await asyncio.gather(
        in_namespace(f"{hidden}; {full}", home, PODMAN_PATH="/nonexistent/podman", DATA_DIR=str(data)),
        in_namespace(hidden, home, CONTAINER_RUNTIME="docker"),
    ))  # fmt: skip

    assert found["engine"]["status"] == "fail"
    assert "is not installed" in found["engine"]["detail"]
    assert "apt-get install podman" in found["engine"]["fix"]
    assert (found["disk"]["status"], found["inodes"]["status"]) == ("fail", "pass")
    assert str(data) in found["disk"]["detail"]
    assert "DATA_DIR" in found["disk"]["fix"]
    assert found["auth"]["status"] == "pass"
    assert found["egress"]["status"] == "warn"
    assert "apt-get install squid" in found["egress"]["fix"]
    assert docker["engine"]["status"] == "fail"
    assert "Docker" in docker["engine"]["detail"]
    assert docker["disk"]["status"] == "pass"


async def test_a_stopped_engine_and_no_credentials(console: Console, directory: Path, stopped_engine: Path) -> None:
    """An empty home and a dead socket: start it, log in, run the worker; and a disk that takes no more files."""
    data = directory / "data"
    data.mkdir()
    crowd = f"mount -t tmpfs -o nr_inodes=64 tmpfs {data}; for n in $(seq 99); do touch {data}/$n || break; done 2>&1"
    where = {"ORCHESTRATOR_URL": console.base_url, "ENGINE_SOCKET": str(stopped_engine), "DATA_DIR": str(data)}
    found = findings(await in_namespace(f"{{ {crowd}; }} >/dev/null", directory, **where))

    assert found["engine"]["status"] == "fail"
    assert found["engine"]["detail"] == f"no engine answers on {stopped_engine}"
    assert "Start it" in found["engine"]["fix"]
    assert (found["auth"]["status"], found["auth"]["fix"]) == ("fail", "clustercode login")
    assert (found["registration"]["status"], found["registration"]["fix"]) == ("fail", "clustercode worker")
    assert (found["disk"]["status"], found["inodes"]["status"]) == ("pass", "fail")
    assert found["orchestrator"]["status"] == "pass"
    assert not (directory / ".clustercode").exists()  # it changes nothing


async def test_a_token_that_is_no_longer_accepted(home: Path, stopped_engine: Path) -> None:
    """It says so rather than that all is well because a file is there; and that others can read that file."""
    (home / ".clustercode" / "credentials.json").write_text('{"apiKey": "old", "email": "e@example.com"}')
    (home / ".clustercode" / "credentials.json").chmod(0o640)
    found = findings(await run("doctor", "--json", home=home, ENGINE_SOCKET=str(stopped_engine)))

    assert (found["auth"]["status"], found["auth"]["fix"]) == ("fail", "clustercode login")
    assert "does not accept" in found["auth"]["detail"]
    assert found["token file"]["status"] == "warn"
    assert found["token file"]["fix"] == f"chmod 600 {home}/.clustercode/credentials.json"


async def test_a_proxy_that_is_away(directory: Path, stopped_engine: Path) -> None:
    """The way to the orchestrator is the worker's own, so what is wrong with it is found here too."""
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "NO_PROXY": "", "no_proxy": ""}
    where = {"ORCHESTRATOR_URL": "https://orchestrator.test", "ENGINE_SOCKET": str(stopped_engine), **proxy}
    found = findings(await run("doctor", "--json", home=directory, **where))

    assert found["orchestrator"]["status"] == "fail"
    assert "proxy" in found["orchestrator"]["detail"]
    assert "HTTPS_PROXY" in found["orchestrator"]["fix"]


@asynccontextmanager
async def healthy_over_tls(authority: trustme.CA) -> AsyncIterator[str]:
    """An orchestrator's health, vouched for by a private authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    app = web.Application()

    async def health(_: web.Request) -> web.Response:
        return web.json_response({})

    app.add_routes([web.get("/api/health", health)])
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_wrong_authority(directory: Path, stopped_engine: Path) -> None:
    """A certificate that nobody here vouches for is called that, with the variable that mends it; which then does."""
    authority, other = trustme.CA(), trustme.CA()
    right, wrong = directory / "right.pem", directory / "wrong.pem"
    authority.cert_pem.write_to_path(right)
    other.cert_pem.write_to_path(wrong)
    async with healthy_over_tls(authority) as url:
        where = {"ORCHESTRATOR_URL": url, "ENGINE_SOCKET": str(stopped_engine), "NO_PROXY": "localhost"}
        bad, good = map(findings, await asyncio.gather(
            run("doctor", "--json", home=directory, SSL_CERT_FILE=str(wrong), **where),
            run("doctor", "--json", home=directory, SSL_CERT_FILE=str(right), **where),
        ))  # fmt: skip

    assert bad["orchestrator"]["status"] == "fail"
    assert "certificate" in bad["orchestrator"]["detail"]
    assert "SSL_CERT_FILE" in bad["orchestrator"]["fix"]
    assert good["orchestrator"]["status"] == "pass"


async def test_a_user_without_sub_ids(home: Path, stopped_engine: Path) -> None:
    """What an ordinary user's Podman needs, and root's does not."""
    # The capability stands for a Python that everybody may read, which is not so everywhere.
    as_other = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps=+dac_read_search",
                "--ambient-caps=+dac_read_search")  # fmt: skip
    doctor = (*as_other, *PROGRAM, "doctor", "--json")
    told = await execute(*doctor, home=home, ENGINE_SOCKET=str(stopped_engine), XDG_RUNTIME_DIR=str(home / "absent"))

    said = [check for check in json.loads(told.out)["checks"] if check["name"] == "rootless"]
    assert told.code == 1
    assert any("no sub-ids in /etc/subuid and /etc/subgid" in check["detail"] for check in said)
    assert any("usermod --add-subuids" in check["fix"] for check in said)
    assert any("runtime directory" in check["detail"] for check in said)


async def test_a_file_that_is_wrong_is_a_finding_too(home: Path) -> None:
    """With its line, as everywhere."""
    (home / ".clustercode" / "config.json").write_text('{\n"SECURITY_FLOOR": "hard"}')
    found = findings(await run("doctor", "--json", home=home))

    assert "config.json, line 2, SECURITY_FLOOR: 'hard' is not one of" in found["configuration"]["detail"]
