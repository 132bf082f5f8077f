"""``clustercode config``: values with their sources, secrets masked, and changes that are checked first."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clustercode.cli import cli
from clustercode.configuration import without_ours


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with somebody logged in, and an environment without settings of ours."""
    import os  # noqa: PLC0415 - this fixture alone

    for name in set(os.environ) - set(without_ours(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AGENT_MODE", "byom")
    files = tmp_path / ".clustercode"
    files.mkdir()
    (files / "credentials.json").write_text('{"apiKey": "a-secret", "email": "e@example.com"}')
    worker = {"workerId": "w", "tenantId": "t", "tenantName": "T", "orchestratorUrl": "wss://o.example/ws?key=hidden"}
    (files / "worker.json").write_text(json.dumps(worker))
    return files


def config(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["config", *arguments])


def test_the_list_says_where_each_value_is_from_and_hides_secrets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag is given to a command, so here it is variable, file or default."""
    monkeypatch.setenv("WORKER_NAME", "attic")
    lines = {line.split()[0]: line for line in config("list").output.splitlines()}

    assert lines["WORKER_NAME"].split(maxsplit=2)[1:] == ["attic", "variable WORKER_NAME"]
    assert lines["TENANT_ID"].split(maxsplit=2)[1:] == ["t", str(home / "worker.json")]
    assert lines["SECURITY_FLOOR"].split() == ["SECURITY_FLOOR", "standard", "default"]
    assert lines["token"].split(maxsplit=2)[1:] == ["********", str(home / "credentials.json")]
    assert "a-secret" not in config("list").output
    assert "hidden" not in config("list").output
    assert config("get", "token").output == "********\n"


def test_a_preference_is_checked_kept_and_removed(home: Path) -> None:
    """By either of its names; what is wrong changes nothing."""
    assert config("set", "SECURITY_FLOOR", "strict").exit_code == 0
    assert config("get", "security.floor").output == "strict\n"
    wrong = config("set", "security.floor", "hard")
    assert wrong.exit_code == 2
    assert "'hard' is not one of 'open', 'standard', 'strict', 'offline'" in wrong.output
    assert json.loads((home / "config.json").read_text()) == {"SECURITY_FLOOR": "strict"}

    assert config("set", "SECURITY_FLOOR", "--unset").exit_code == 0
    assert config("get", "SECURITY_FLOOR").output == "standard\n"
    assert json.loads((home / "config.json").read_text()) == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("get", "WORKER_NAM"), "did you mean WORKER_NAME?"),
        (("set", "token", "x"), "log in with 'clustercode login'"),
        (("set", "TENANTS", "a,,b"), "TENANTS: a name is missing in 'a,,b': say it, or take the comma out."),
        (("set", "TENANTS", "a, "), "TENANTS: a name is missing in 'a, '"),
        (("set", "ACCEPT_MISSING_LIMITS", ",cpus"), "ACCEPT_MISSING_LIMITS: a name is missing in ',cpus'"),
        (("set", "WORKER_NAME"), "Give a value, or --unset"),
        (("set", "WORKER_NAME", "x", "--unset"), "Give a value, or --unset"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, ...], sentence: str, home: Path) -> None:
    """With exit code 2, and nothing of it is kept."""
    refused = config(*arguments)

    assert refused.exit_code == 2
    assert sentence in refused.output
    assert not (home / "config.json").exists()


def test_what_has_no_value_prints_nothing(home: Path) -> None:
    """So that scripts can ask."""
    assert (config("get", "ENGINE_SOCKET").exit_code, config("get", "ENGINE_SOCKET").output) == (1, "")
    assert config("path").output.splitlines() == [
        f"{home / 'config.json'}  (not there)", str(home / "worker.json"), str(home / "credentials.json"),
    ]  # fmt: skip
