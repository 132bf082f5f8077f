"""Where a setting's value comes from: each variable, flag and file key in turn, and what each refuses."""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from clustercode import registration
from clustercode.configuration import DEFAULT, Configuration, for_process, for_worker, handed_over, without_ours
from clustercode.errors import ConfigurationError, Unusable
from clustercode.home import Home
from clustercode.options import given, options
from clustercode.settings import BY_KEY, SETTINGS, Setting

EXAMPLES: dict[str, tuple[str, str, str]] = {
    "url": ("wss://flag.example/ws", "wss://variable.example/ws", "wss://file.example/ws"),
    "orchestrator": ("https://flag.example", "https://variable.example", "https://file.example"),
    "portal": ("https://flag.example", "https://variable.example", "https://file.example"),
    "tokenFile": ("/flag", "/variable", "/file"),
    "tenant": ("flag", "variable", "file"),
    "name": ("flag", "variable", "file"),
    "hostname": ("flag", "variable", "file"),
    "workerId": ("flag", "variable", "file"),
    "mode": ("fleet", "byom", "fleet"),
    "allowInsecure": ("yes", "no", "yes"),
    "executorSocket": ("/flag", "/variable", "/file"),
    "executorUid": ("1", "2", "3"),
    "gatewayUser": ("flag", "variable", "file"),
    "executorUser": ("flag", "variable", "file"),
    "metrics": ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"),
    "dataDir": ("/flag", "/variable", "/file"),
    "runtime": ("podman", "docker", "podman"),
    "podmanPath": ("flag", "variable", "file"),
    "engineSocket": ("/flag", "/variable", "/file"),
    "engineService": ("yes", "no", "yes"),
    "withEgress": ("no", "yes", "no"),
    "terminalGraceSeconds": ("1.5", "2.5", "3.5"),
    "reconcileSeconds": ("1.5", "2.5", "3.5"),
    "buildMinFreeBytes": ("1", "2", "3"),
    "logLevel": ("DEBUG", "ERROR", "INFO"),
    "logFormat": ("json", "text", "json"),
    "security.floor": ("open", "offline", "strict"),
    "security.tenants": ("flag", "variable", "file"),
    "security.allowPrivileged": ("yes", "no", "yes"),
    "security.acceptMissingLimits": ("memory", "cpus", "pids,memory"),
    "security.stopBelowFloor": ("yes", "no", "yes"),
    "security.openBesideOthers": ("yes", "no", "yes"),
}
"""A value for flag, variable and file each; those next to each other differ."""


def value(setting: Setting, text: str) -> Any:  # noqa: ANN401 - a setting's
    return setting.kind.convert(text, None, None)


def flags_of(setting: Setting, text: str) -> dict[str, Any]:
    """What Click hands over for a flag of the real command line."""
    kept: dict[str, Any] = {}

    @click.command()
    @options([setting.key])
    def command(**flags: Any) -> None:  # noqa: ANN401 - click's
        kept.update(given(flags))

    on, _, off = setting.flags[0].partition("/")
    arguments = [on if text == "yes" else off] if off else [on, text]
    command.main(arguments, standalone_mode=False)
    return kept


def in_yaml(directory: Path, setting: Setting, text: str) -> Path:
    path = directory / "agent.yaml"
    section, _, name = setting.key.rpartition(".")
    line = f"{name}: {text}" if text not in ("", "pids,memory") else f"{name}: [pids, memory]"
    path.write_text(f"{section}:\n  {line}\n" if section else f"{line}\n")
    return path


def found(setting: Setting, **places: Any) -> tuple[Any, str]:  # noqa: ANN401 - any of the three
    """The value and its source, whichever process reads the setting."""
    flags, environ = places.get("flags", {}), places.get("environ", {})
    if "worker" in setting.read_by or "command" in setting.read_by:
        configuration = for_worker(flags, environ, places["home"], etc=places["etc"])
    else:
        configuration = for_process(setting.read_by[0], flags, environ, etc=places["etc"])
    return configuration.get(setting.key), configuration.source(setting.key)


@pytest.mark.parametrize("setting", [setting for setting in SETTINGS if setting.flags], ids=lambda setting: setting.key)
def test_flag_beats_variable_beats_file_beats_default(setting: Setting, tmp_path: Path) -> None:
    """For every setting, with the real flags, variables and file keys."""
    flag, variable, file = EXAMPLES[setting.key]
    places: dict[str, Any] = {"home": Home(tmp_path / "home"), "etc": tmp_path}
    default = None if setting.default is None else value(setting, setting.default)

    assert found(setting, **places) == (default, DEFAULT)

    if setting.key not in ("orchestrator", "portal"):  # of the commands alone: no YAML has them
        environ = {"AGENT_CONFIG": str(in_yaml(tmp_path, setting, file))}
        assert found(setting, environ=environ, **places)[0] == value(setting, file)
        assert "agent.yaml, line" in found(setting, environ=environ, **places)[1]
    else:
        environ = {}

    assert setting.variable
    environ[setting.variable] = variable
    assert found(setting, environ=environ, **places) == (value(setting, variable), f"variable {setting.variable}")

    name = setting.flags[0].split("/")[0]
    assert found(setting, flags=flags_of(setting, flag), environ=environ, **places) == (value(setting, flag), name)


@pytest.mark.parametrize(
    "setting",
    [setting for setting in SETTINGS if setting.variable and {"worker", "command"} & set(setting.read_by)],
    ids=lambda setting: setting.key,
)
def test_config_json_takes_every_variable(setting: Setting, tmp_path: Path) -> None:
    """The keys of one's own config.json are the variables' names, and variables beat it."""
    home = Home(tmp_path)
    _, variable, file = EXAMPLES[setting.key]
    if setting.key == "mode":
        file = "byom"  # a fleet's worker does not look here any further
    home.prefer(str(setting.variable), file)

    got, source = found(setting, home=home, etc=tmp_path)
    assert got == value(setting, file)
    assert source == f"{home.config_file}, line 2, {setting.variable}"
    if setting.key != "mode":
        assert found(setting, environ={str(setting.variable): variable}, home=home, etc=tmp_path)[0] == value(
            setting, variable
        )


@pytest.mark.parametrize("in_file", ["open", "standard", "strict", "offline"])
@pytest.mark.parametrize("in_variable", ["open", "standard", "strict", "offline"])
def test_of_variable_and_file_the_stricter_floor_counts(in_file: str, in_variable: str, tmp_path: Path) -> None:
    """Whoever can set an environment cannot lower what the owner wrote down; a flag of the owner's can."""
    home = Home(tmp_path)
    home.prefer("SECURITY_FLOOR", in_file)
    environ = {"SECURITY_FLOOR": in_variable}
    order = ["open", "standard", "strict", "offline"]

    got = for_worker({}, environ, home, etc=tmp_path).get("security.floor")
    assert got == max(in_file, in_variable, key=order.index)
    assert for_worker({"floor": "open"}, environ, home, etc=tmp_path).get("security.floor") == "open"


def test_login_and_registration_are_read_and_preferences_are_stronger(tmp_path: Path) -> None:
    """Where each value of the drop-in's files ends up."""
    home = Home(tmp_path)
    home.credentials_file.write_text('{"apiKey": "k", "email": "e@example.com", "createdAt": "2026-01-01T00:00:00Z"}')
    home.worker_file.write_text(
        '{"workerId": "w", "tenantId": "t", "tenantName": "T", "orchestratorUrl": "wss://o.example/ws/worker"}'
    )

    configuration = for_worker({}, {}, home, etc=tmp_path)
    assert [configuration.get(key) for key in ("token", "workerId", "tenant", "url")] == [
        "k", "w", "t", "wss://o.example/ws/worker",
    ]  # fmt: skip
    assert configuration.source("url") == str(home.worker_file)

    home.prefer("ORCHESTRATOR_WS_URL", "wss://mine.example/ws/worker")
    assert for_worker({}, {}, home, etc=tmp_path).get("url") == "wss://mine.example/ws/worker"


def test_what_editors_and_other_programs_leave_is_no_error(tmp_path: Path) -> None:
    """A byte order mark, an empty file, a value that was cleared."""
    home = Home(tmp_path)
    home.worker_file.write_text("")
    home.config_file.write_bytes(b'\xef\xbb\xbf{"WORKER_NAME": "", "LOG_LEVEL": "warn"}')

    configuration = for_worker({}, {}, home, etc=tmp_path)
    assert configuration.is_default("name")
    assert configuration.get("logLevel") == "WARNING"


def test_a_section_in_config_json_reads_as_in_yaml(tmp_path: Path) -> None:
    """The floor and a tenant's policy may stand there too; saying one thing twice is refused."""
    home = Home(tmp_path)
    policy = {"t": {"allowedDomains": ["example.com"]}}
    home.config_file.write_text(json.dumps({"security": {"floor": "strict", "tenants": policy}}))

    configuration = for_worker({}, {}, home, etc=tmp_path)
    assert configuration.get("security.floor") == "strict"
    assert configuration.get("security.tenants") == policy

    home.prefer("SECURITY_FLOOR", "open")
    with pytest.raises(ConfigurationError, match="said twice"):
        for_worker({}, {}, home, etc=tmp_path)


def test_a_fleets_file_is_read_alone(tmp_path: Path) -> None:
    """Where the machine has an agent.yaml, what a user is logged in as does not count, unless mode byom is said."""
    home = Home(tmp_path / "home")
    home.prefer("WORKER_NAME", "mine")
    (tmp_path / "agent.yaml").write_text("mode: fleet\nname: theirs\ntoken: secret\n")

    assert for_worker({}, {}, home, etc=tmp_path).get("name") == "theirs"
    assert for_worker({}, {}, home, etc=tmp_path).get("token") == "secret"
    assert for_worker({"mode": "byom"}, {}, home, etc=tmp_path).get("name") == "mine"
    assert for_worker({}, {"AGENT_MODE": "byom"}, home, etc=tmp_path).get("name") == "mine"
    with pytest.raises(ConfigurationError, match="There is no file"):
        for_worker({"mode": "fleet"}, {}, home, etc=tmp_path / "empty")


def test_each_process_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Run apart; a token in a file that both could read is refused with what to do instead."""
    (tmp_path / "gateway.yaml").write_text("url: wss://o.example/ws/worker\ntokenFile: /run/token\n")
    (tmp_path / "executor.yaml").write_text("security:\n  tenants:\n    t1:\n    t2: {allowedDomains: [a.example]}\n")
    agent = tmp_path / "agent.yaml"
    agent.write_text("url: wss://o.example/ws/worker\n\ntoken: secret\n")

    assert for_process("gateway", {}, {}, etc=tmp_path).get("tokenFile") == Path("/run/token")
    assert list(for_process("executor", {}, {}, etc=tmp_path).get("security.tenants")) == ["t1", "t2"]
    with pytest.raises(ConfigurationError, match=r"agent.yaml, line 3, token: .*tokenFile") as refused:
        for_process("gateway", {"config": agent}, {}, etc=tmp_path)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("flor: strict\n", r"line 1, flor: there is no setting of this name"),
        ("security:\n  flor: strict\n", r"line 2, security.flor: .* did you mean security.floor\?"),
        ("security:\n  floor: hard\n", r"line 2, security.floor: 'hard' is not one of 'open', 'standard', 'strict'"),
        ("security:\n  floor: [strict]\n", r"line 2, security.floor: one of 'open', .* is wanted here"),
        ("security: strict\n", r"line 1: the section security takes names with values"),
        ("mode: fleet\nmode: byom\n", r"line 2, mode: it stands in line 1 already"),
        ("name: [a, b]\n", r"line 1, name: one line of text is wanted here"),
        ("name: yes\n", r"line 1, name: neither yes nor no is an answer here"),
        ("url: https://o.example\n", r"line 1, url: an address like wss://host/ws/worker is wanted here"),
        ("url: wss://[o\n", r"line 1, url: an address like wss://host/ws/worker is wanted here"),
        ("url: wss://o.example:99999/ws\n", r"line 1, url: an address like wss://host/ws/worker is wanted here"),
        ("orchestrator: o.example\n", r"line 1, orchestrator: an address like https://orchestrator.example is wanted"),
        ("tenant: a b\n", r"line 1, tenant: 'a b' is no id: letters, digits"),
        ("security:\n  tenants: {a b: }\n", r"line 2, security.tenants: 'a b' is no id"),
        ("security:\n  tenants: {1: }\n", None),
        ("security:\n  tenants: [a, '']\n", r"line 2, security.tenants: a name is missing in 'a,'"),
        ("dataDir: 5\n", r"line 1, dataDir: a path is wanted here"),
        ("reconcileSeconds: 0\n", r"line 1, reconcileSeconds: a number of seconds above 0 is wanted here, .* not 0"),
        ("reconcileSeconds: abc\n", r"line 1, reconcileSeconds: a number of seconds above 0 is wanted .* not 'abc'"),
        ("buildMinFreeBytes: 2G\n", r"line 1, buildMinFreeBytes: a whole number of bytes, at least 0, .* not '2G'"),
        ("buildMinFreeBytes: 0.5\n", r"line 1, buildMinFreeBytes: a whole number of bytes, at least 0, .* not 0\.5"),
        ("buildMinFreeBytes: -1\n", r"line 1, buildMinFreeBytes: a whole number of bytes, at least 0, .* not -1"),
        ("security:\n  acceptMissingLimits: [disk]\n", r"line 2, .*: 'disk' is not one of 'memory', 'cpus', 'pids'"),
        ("security:\n  allowPrivileged: perhaps\n", r"line 2, .*: 'perhaps' is not a valid boolean"),
        ("executorUid: 5\n", None),
        ("portal: https://p.example\n", r"line 1, portal: this belongs in"),
        ("- a\n", r"line 1: it takes names with values"),
        ("a: b: c\n", r"line 1: this is no YAML"),
        ("a:\n\tb: c\n", r"line 2: this is no YAML"),
        ("name: 'open\n", r"this is no YAML"),
        ("name: &all [x]\ntenant: *all\n", r"line 2: write out what \*all stands for"),
        ("name: 2001-99-99\n", r"agent.yaml: month must be .* quotes"),
        (f"name: {'1' * 5000}\n", r"agent.yaml: .*digits.* quotes"),
        ("dataDir: ~nobody-of-this-name/x\n", r"line 1, dataDir: there is no home directory"),
        ('dataDir: "/a\\0b"\n', r"line 1, dataDir: a path is wanted here"),
        ("reconcileSeconds: .nan\n", r"line 1, reconcileSeconds: a number of seconds"),
        ("reconcileSeconds: .inf\n", r"line 1, reconcileSeconds: a number of seconds"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(text: str, sentence: str | None, tmp_path: Path) -> None:
    """And with what is allowed."""
    (tmp_path / "agent.yaml").write_text(text)

    if sentence is None:
        for_worker({}, {}, Home(tmp_path), etc=tmp_path)
        return
    with pytest.raises(ConfigurationError, match=sentence):
        for_worker({}, {}, Home(tmp_path), etc=tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", r"config.json, line 1: Expecting"),
        ("[]", r"config.json does not hold a JSON object"),
        ('{"WORKER_NAME": "a",\n "SECURITY_FLOR": "strict"}', r"line 2, SECURITY_FLOR: .* did you mean SECURITY_FLOOR"),
        ('{"SECURITY_FLOOR": "hard"}', r"config.json, line 1, SECURITY_FLOOR: 'hard' is not one of"),
        ('{"security": {"flor": 1}}', r"did you mean security.floor"),
        ('{"security": []}', r"this section is an object"),
    ],
)
def test_what_is_wrong_in_config_json_is_said_with_its_line(text: str, sentence: str, tmp_path: Path) -> None:
    """A slip of the pen in a name of ours is no foreign key."""
    home = Home(tmp_path)
    home.config_file.write_text(text)

    with pytest.raises(ConfigurationError, match=sentence):
        for_worker({}, {}, home, etc=tmp_path)


@pytest.mark.parametrize("token", ["x" * 70_000, "two words", "naïve"])
def test_what_is_no_token_is_refused_before_anything_starts(token: str, tmp_path: Path) -> None:
    """More than a pipe takes would hold the supervisor for good; the sentence does not repeat it."""
    agent = tmp_path / "agent.yaml"
    agent.write_text(f"url: wss://o.example/ws/worker\ntoken: {token}\n")

    with pytest.raises(Unusable, match=r"agent.yaml, line 2, token: this is no token") as refused:
        registration.token(for_worker({}, {}, Home(tmp_path), etc=tmp_path))
    assert token not in refused.value.message


def test_an_empty_worker_id_is_made_anew(tmp_path: Path) -> None:
    """A full disk may leave one."""
    (tmp_path / "worker-id").touch()
    flags = {"mode": "fleet", "url": "wss://o.example/ws/worker", "tenants": {"t": None}, "dataDir": tmp_path}
    agent = tmp_path / "agent.yaml"
    agent.touch()

    made = [registration.complete(for_worker(flags, {}, Home(tmp_path), etc=tmp_path), Home(tmp_path)) for _ in "ab"]

    assert made[0].get("workerId")
    assert made[0].get("workerId") == made[1].get("workerId")


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    """With what is allowed; an empty one says nothing."""
    with pytest.raises(ConfigurationError, match=r"^SECURITY_FLOOR: 'hard' is not one of 'open', 'standard'"):
        for_worker({}, {"SECURITY_FLOOR": "hard"}, Home(tmp_path), etc=tmp_path)

    with pytest.raises(ConfigurationError, match=r"^TENANTS: a name is missing in 'a,,b'"):
        for_worker({}, {"TENANTS": "a,,b"}, Home(tmp_path), etc=tmp_path)

    assert for_worker({}, {"SECURITY_FLOOR": ""}, Home(tmp_path), etc=tmp_path).is_default("security.floor")
    assert for_worker({}, {"LOG_LEVEL": "warn"}, Home(tmp_path), etc=tmp_path).get("logLevel") == "WARNING"


def test_what_is_handed_over_arrives_and_nothing_else(tmp_path: Path) -> None:
    """Each process gets what it reads, with where it came from; the token goes another way."""
    (tmp_path / "agent.yaml").write_text(
        "token: secret\nname: n\ndataDir: /d\n"
        "security: {acceptMissingLimits: [cpus], tenants: {t: {writablePaths: [/x]}}}\n"
    )
    sent = for_worker({}, {"LOG_LEVEL": "debug"}, Home(tmp_path), etc=tmp_path)
    gateway, executor = handed_over(sent.to_json("gateway")), handed_over(sent.to_json("executor"))

    assert "secret" not in sent.to_json("gateway") + sent.to_json("executor")
    assert (gateway.get("name"), gateway.get("logLevel"), gateway.get("security.tenants")) == ("n", "DEBUG", None)
    assert executor.get("dataDir") == Path("/d")
    assert executor.get("security.acceptMissingLimits") == ("cpus",)
    assert executor.get("security.tenants") == {"t": {"writablePaths": ["/x"]}}
    assert executor.get("name") is None
    assert executor.source("dataDir").endswith("agent.yaml, line 3, dataDir")


def test_a_process_that_is_handed_its_settings_finds_none_in_its_environment() -> None:
    """Or a variable would count once more, after flags were weighed against it."""
    left = without_ours({"SECURITY_FLOOR": "open", "AGENT_CONFIG": "x", "PATH": "/bin", "HTTPS_PROXY": "p"})

    assert left == {"PATH": "/bin", "HTTPS_PROXY": "p"}


def test_files_are_private_whole_and_keep_what_is_not_ours(tmp_path: Path) -> None:
    """0700 and 0600, and foreign keys stay."""
    home = Home(tmp_path / "new")
    home.prefer("WORKER_NAME", "a")
    home.config_file.write_text('{"RUNTIME_MEMORY_MB": "8192", "WORKER_NAME": "a"}')
    home.prefer("WORKER_NAME", "b")

    assert json.loads(home.config_file.read_text()) == {"RUNTIME_MEMORY_MB": "8192", "WORKER_NAME": "b"}
    assert home.directory.stat().st_mode & 0o777 == 0o700
    assert home.config_file.stat().st_mode & 0o777 == 0o600
    assert list(home.directory.iterdir()) == [home.config_file]

    home.prefer("WORKER_NAME", None)
    assert json.loads(home.config_file.read_text()) == {"RUNTIME_MEMORY_MB": "8192"}


def test_every_setting_has_an_example_here() -> None:
    """Or the tests above would pass a new one by."""
    assert {setting.key for setting in SETTINGS if setting.flags} == EXAMPLES.keys()
    assert BY_KEY["token"].flags == ()
    assert isinstance(for_process("gateway", {}, {}, etc=Path("/nonexistent")), Configuration)


@pytest.mark.parametrize("variable", ["ORCHESTRATOR_WS_URL", "ORCHESTRATOR_URL", "PORTAL_URL"])
def test_a_password_in_an_address_is_refused_and_not_repeated(variable: str, tmp_path: Path) -> None:
    """It would end in logs and in the list of settings."""
    scheme = "wss" if variable == "ORCHESTRATOR_WS_URL" else "https"
    for address in (
        f"{scheme}://me:hunter22@o.example/ws",
        f"{scheme}://hunter22@o.example",
        f"{scheme}://:hunter22@/",
    ):
        with pytest.raises(ConfigurationError, match=variable) as refused:
            for_worker({}, {variable: address}, Home(tmp_path), etc=tmp_path)
        assert "hunter22" not in str(refused.value)
