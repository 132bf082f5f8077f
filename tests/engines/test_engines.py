"""The same worker on rootful Podman, rootless Podman and Docker: the checks of the protocol, and one table of them."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import ROOT, Engine, interpreter, shared_path

TABLE = ROOT / "docs/engines.md"
ENGINES = ("rootful", "rootless", "docker")
TITLES = ("rootful Podman", "rootless Podman", "Docker")
MISSING = {"rootless": "memory,cpus,pids"}
"""Limits that the owner accepts the lack of: a rootless engine has no control groups of version 1."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


def conformance(
    engine: Engine,
    *,
    accept: str = "",
    only: tuple[str, ...] = (),
    gateway_user: str | None = None,
    meanwhile: Callable[[int], None] = lambda _: None,
) -> dict[str, dict[str, str]]:
    """Run ``clustercode conformance`` against a foreground worker; returns the results by check.

    ``gateway_user``: root starts it and gives the executor the engine's user, who has to start that engine.
    ``meanwhile`` is called with the worker's process id.
    """
    with tempfile.TemporaryDirectory(prefix="cc-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        token, report, log = directory / "token", directory / "report.json", directory / "log"
        token.write_text("a-token-of-the-conformance-run")
        token.chmod(0o600)
        data = directory / "data"
        command = [*interpreter(), "conformance", "--token-file", str(token), "--report", str(report), "--wait", "60"]
        command += [word for name in only for word in ("--only", name)]
        checks = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert checks.stdout is not None
        url = next(word for word in checks.stdout.readline().split() if word.startswith("ws://")).rstrip(",")
        worker = [
            *interpreter(of_all=True), "worker", "--mode", "byom", "--url", url, "--token-file", str(token),
            "--tenant", "local", "--data-dir", str(data), "--accept-missing-limits", accept,
        ]  # fmt: skip
        as_user: dict[str, Any] = {"env": {**os.environ, **shared_path(), **engine.environment}}
        if gateway_user is not None:
            assert engine.user is not None
            worker += ["--gateway-user", gateway_user, "--executor-user", engine.user]
            as_user = {"env": {**os.environ, **shared_path()}}
        else:
            worker += ["--engine-socket", str(engine.socket)]
            engine.own(data)
            if engine.user is not None:
                shutil.chown(token, engine.user)
                as_user |= {"user": engine.user, "group": engine.user, "extra_groups": []}
        with log.open("wb") as out:
            running = subprocess.Popen(worker, stdout=out, stderr=out, cwd="/", start_new_session=True, **as_user)
        try:
            meanwhile(running.pid)
            printed = checks.communicate(timeout=900)[0]
        except BaseException:
            print(log.read_text()[-3000:])
            raise
        finally:
            checks.kill()
            running.terminate()
            running.wait(30)
            install = data / "install"
            if install.exists():
                engine.clear(install.read_text().strip())
        print(printed, log.read_text()[-3000:])
        return {result["name"]: result for result in json.loads(report.read_text())["results"]}


def test_every_engine_passes_and_the_table_says_with_what_limits(request: pytest.FixtureRequest) -> None:
    """No check fails anywhere; docs/engines.md has the outcome of each (CC_WRITE_DOCS=docs/engines.md writes it)."""
    results = [conformance(request.getfixturevalue(name), accept=MISSING.get(name, "")) for name in ENGINES]
    rows = [
        "| check | " + " | ".join(TITLES) + " |",
        "|---|" + "---|" * len(TITLES),
        *(
            f"| {name} | " + " | ".join(cell(found[name]) for found in results) + " |"
            for name in results[0]
        ),
    ]  # fmt: skip
    head, mark, _ = TABLE.read_text().partition("<!-- the run's table: make test-long holds it -->\n")
    assert mark, f"{TABLE} has lost its mark"
    text = head + mark + "\n".join(rows) + "\n"
    if place := os.environ.get("CC_WRITE_DOCS"):
        Path(place).write_text(text)

    failed = {f"{title}: {name}": found[name]["detail"] for title, found in zip(TITLES, results, strict=True)
              for name in found if found[name]["outcome"] == "failed"}  # fmt: skip
    assert failed == {}
    assert TABLE.read_text() == text


def cell(result: dict[str, str]) -> str:
    """What the table says of one check on one engine."""
    if result["outcome"] == "passed":
        return "passes"
    return f"{'passes' if result['outcome'] == 'limited' else 'FAILS'}: {result['detail'].rstrip('.')}"


def test_a_rootless_engine_refuses_limits_that_it_cannot_hold(rootless: Engine) -> None:
    """Unless the machine's owner accepted that by name: no DevBox runs there and nothing is built."""
    results = conformance(rootless, only=("limits hold", "is built used"))

    if rootless.holds_limits:
        return
    limits, build = results.values()
    assert limits["outcome"] == "limited"
    assert "refused: The container engine does not keep what the profile promises" in limits["detail"]
    assert build["outcome"] == "failed"
    assert "acceptMissingLimits" in build["detail"]
