"""One foreground command, three users: the gateway's, and the executor's with a rootless Podman of its own."""

import pwd
import secrets
import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.engines.conftest import Engine
from tests.engines.test_engines import MISSING, conformance
from tests.integration.test_users import processes, status

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture
def gateway_user() -> Iterator[str]:
    """A user that owns nothing."""
    name = f"cc-gateway-{secrets.token_hex(3)}"
    subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", name], check=True)
    yield name
    subprocess.run(["userdel", name], check=True)


def test_the_executors_user_has_a_rootless_podman_of_its_own(rootless: Engine, gateway_user: str) -> None:
    """Root starts the worker; gateway and executor are their users alone; every check of the protocol holds."""
    seen: dict[str, dict[str, list[int]]] = {}
    engines: list[str] = []

    def look(worker: int) -> None:
        deadline = time.monotonic() + 60
        while not engines:
            assert time.monotonic() < deadline, "the executor has not started Podman"
            time.sleep(0.05)
            found = processes(worker)
            if found.keys() >= {"gateway", "executor"}:
                seen.update({name: status(process) for name, process in found.items()})
                engines.extend(own_podman(found["executor"]))

    results = conformance(
        rootless, accept=MISSING["rootless"], gateway_user=gateway_user, meanwhile=look
    )  # fmt: skip

    assert {name: found["detail"] for name, found in results.items() if found["outcome"] == "failed"} == {}
    for name, user in (("gateway", gateway_user), ("executor", rootless.user)):
        assert user is not None
        entry = pwd.getpwnam(user)
        assert (seen[name]["Uid"], seen[name]["Gid"]) == ([entry.pw_uid] * 4, [entry.pw_gid] * 4)
        assert seen[name]["Groups"] == []
        assert [seen[name][kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [[0]] * 4
    # Podman's newuidmap becomes root for a moment; nothing else of these two may.
    assert (seen["gateway"]["NoNewPrivs"], seen["executor"]["NoNewPrivs"]) == ([1], [0])
    assert engines == [rootless.user]


def own_podman(executor: psutil.Process) -> list[str]:
    """Who runs the Podman service that an executor started; nobody where it has not yet."""
    return [pwd.getpwuid(child.uids().real).pw_name for child in executor.children() if child.name() == "podman"]
