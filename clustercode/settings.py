"""Every setting there is, in one table: its key in files, its variable, its flag, its default, who reads it.

`clustercode.configuration` finds the values, `clustercode.options` makes the flags, and docs/configuration.md is held
against this table by a test. Nothing here does anything.
"""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import click

from protos import limits

Process = Literal["gateway", "executor", "egress", "worker", "command"]
"""Who reads a setting: the three processes, their supervisor, or the commands that people run."""

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
PROFILES = ("open", "standard", "strict", "offline")
"""From the least to the most restrictive."""
LIMITS = ("memory", "cpus", "pids")

SECURITY = "security."
"""What the keys of the security section begin with."""


class _Text(click.ParamType[str]):
    """One line of text."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - click's
        text = str(value) if isinstance(value, str | int | float) else ""
        if not text.isprintable() or not text.strip():
            self.fail("one line of text is wanted here.", param, ctx)
        return text.strip()


class _Id(_Text):
    """An id of a tenant or a worker, as the protocol takes it."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - click's
        text = super().convert(value, param, ctx)
        if not re.fullmatch(limits.ID_PATTERN, text):
            self.fail(
                f"{text!r} is no id: letters, digits and '._:-', at most 128, the first a letter or digit.", param, ctx
            )
        return text


class _Address(_Text):
    """An address with one of these schemes. What is refused is not repeated: a password may be in it."""

    name = "url"

    def __init__(self, example: str, *schemes: str) -> None:
        self._example = example
        self._schemes = schemes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - click's
        text = super().convert(value, param, ctx)
        try:
            url = urlsplit(text)
            found = url.scheme in self._schemes and url.hostname and url.port != 0
        except ValueError:  # half a bracket, a port that there is not
            found = None
        if not found:
            self.fail(f"an address like {self._example} is wanted here.", param, ctx)
        if url.username is not None or url.password is not None:
            self.fail(f"an address without user and password is wanted here, like {self._example}.", param, ctx)
        return text


class _Level(click.Choice[str]):
    """A level of the log, in any case; ``warn`` is what other programs call ``WARNING``."""

    def __init__(self) -> None:
        super().__init__(LOG_LEVELS, case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - click's
        return super().convert("WARNING" if str(value).upper() == "WARN" else value, param, ctx)


class _Names(click.ParamType[tuple[str, ...]]):
    """Names parted by commas, or a list in a file; each one of the choices, where there are any."""

    name = "names"

    def __init__(self, *choices: str) -> None:
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ANN401 - click's
        items = (value.split(",") if value.strip() else ()) if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            self.fail("names are wanted here, parted by commas or as a list.", param, ctx)
        names = tuple(item.strip() for item in items)
        for name in names:
            if not name:  # a variable that was to fill it in was empty, as a rule
                self.fail(f"a name is missing in {','.join(items)!r}: say it, or take the comma out.", param, ctx)
            if self._choices and name not in self._choices:
                self.fail(f"{name!r} is not one of {', '.join(map(repr, self._choices))}.", param, ctx)
        return names


class _Tenants(click.ParamType[Mapping[str, Any]]):
    """Ids of tenants parted by commas; in a file also a map from each to its policy."""

    name = "tenants"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Mapping[str, Any]:  # noqa: ANN401 - click's
        if not isinstance(value, Mapping):
            value = dict.fromkeys(_Names().convert(value, param, ctx))
        return {_Id().convert(tenant, param, ctx): policy for tenant, policy in value.items()}


class Seconds(click.ParamType[float]):
    """A time above 0 that ends some day."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's
        """Return the number; else say what is wanted."""
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"a number of seconds above 0 is wanted here, for example 60, and not {value!r}.", param, ctx)
        return seconds


class Whole(click.ParamType[int]):
    """A whole number from ``least`` to ``most``, where there is a most; ``what`` says of what it is one."""

    name = "number"

    def __init__(self, what: str, least: int, most: int | None = None) -> None:
        self._what = what
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's
        """Return the number; else say what is wanted."""
        number = self._least - 1
        if not isinstance(value, float) or value.is_integer():
            with suppress(TypeError, ValueError):
                number = int(value)
        if number < self._least or (self._most is not None and number > self._most):
            bounds = f"at least {self._least}" if self._most is None else f"{self._least} to {self._most}"
            self.fail(f"{self._what}, {bounds}, is wanted here, and not {value!r}.", param, ctx)
        return number


class _User(click.ParamType[int]):
    """The id of a user of this machine; a name stands for it."""

    name = "user"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's
        text = str(value)
        if text.isdecimal():
            return int(text)
        try:
            import pwd  # noqa: PLC0415 - not on Windows

            return pwd.getpwnam(text).pw_uid
        except (ImportError, KeyError):
            self.fail(f"there is no user {text!r} on this machine.", param, ctx)


class _File(click.Path):
    """A path; ``~`` is the home directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ANN401 - click's
        if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
            self.fail("a path is wanted here.", param, ctx)
        try:
            return Path(value).expanduser().absolute()
        except RuntimeError:
            self.fail(f"there is no home directory for {value}: give a path that begins with /.", param, ctx)


_TEXT, _FILE, _SWITCH = _Text(), _File(), click.BOOL
_SOCKET = _Address("wss://host/ws/worker", "ws", "wss")
_WEB = _Address("https://orchestrator.example", "http", "https", "ws", "wss")
_PORTAL = _Address("https://portal.example", "http", "https")
_BOTH: tuple[Process, ...] = ("gateway", "executor", "worker")


PORT = Whole("a port", 0, 65535)


@dataclass(frozen=True)
class Setting:
    """One setting. The defaults are what people would write; None: there is none, or it is found as ``help`` says."""

    key: str
    """In gateway.yaml, executor.yaml and agent.yaml; a dot parts the section from the name in it."""
    variable: str | None
    """In the environment, and the key in config.json."""
    flags: tuple[str, ...]
    help: str
    read_by: tuple[Process, ...]
    kind: click.ParamType[Any] = field(default=_TEXT)
    default: Any = None
    secret: bool = False

    @property
    def field(self) -> str:
        """Its name as an argument of a command: that of its flag."""
        return self.key.removeprefix(SECURITY).replace(".", "_")


SETTINGS = (
    Setting("url", "ORCHESTRATOR_WS_URL", ("--url",),
            "The orchestrator's WebSocket, for example wss://example.com/ws/worker. Else worker.json's, or made from "
            "ORCHESTRATOR_URL.", ("gateway", "worker"), _SOCKET),
    Setting("orchestrator", "ORCHESTRATOR_URL", ("--orchestrator",),
            "The orchestrator's web address. Else that of its WebSocket.", ("worker", "command"),
            _WEB, "https://console.clustercode.io"),
    Setting("portal", "PORTAL_URL", ("--portal",), "Where 'clustercode login' sends the browser.", ("command",),
            _PORTAL, "https://clustercode.io"),
    Setting("token", None, (), "The token itself, in agent.yaml; in BYOM mode credentials.json's apiKey. No other file "
            "may hold it.", ("worker",), secret=True),
    Setting("tokenFile", "ORCHESTRATOR_TOKEN_FILE", ("--token-file",),
            "File that holds the token, and nothing else. Else systemd's credential 'token', or credentials.json.",
            ("gateway", "worker"), _FILE),
    Setting("tenant", "TENANT_ID", ("--tenant",), "The tenant this worker is registered for. Else worker.json's.",
            ("gateway", "worker"), _Id()),
    Setting("name", "WORKER_NAME", ("--name",), "The worker's name, as people see it. Else the hostname.",
            ("gateway", "worker")),
    Setting("hostname", "WORKER_HOSTNAME", ("--hostname",),
            "The machine's name, for a gateway in a container. Else what the system says.", ("gateway", "worker")),
    Setting("workerId", "WORKER_ID", ("--worker-id",),
            "The worker's id. Else worker.json's, or one that is made once and kept in the data directory.",
            ("gateway", "worker"), _Id()),
    Setting("mode", "AGENT_MODE", ("--mode",), "Your own machine (byom), or one of a managed fleet.", _BOTH,
            click.Choice(["byom", "fleet"]), "byom"),
    Setting("allowInsecure", "ALLOW_INSECURE", ("--allow-insecure/--no-allow-insecure",),
            "Send the token over ws:// to another machine. Do not.", ("gateway", "worker"), _SWITCH, False),
    Setting("executorSocket", "EXECUTOR_SOCKET", ("--executor-socket",),
            "The executor's socket: rpc/executor.sock in its data directory.", ("gateway",), _FILE),
    Setting("executorUid", "EXECUTOR_UID", ("--executor-uid",),
            "The executor's user, id or name, where that is another one than ours.", ("gateway",), _User()),
    Setting("gatewayUser", "GATEWAY_USER", ("--gateway-user",),
            "The gateway's user, where the worker is started as root; goes with executorUser.", ("worker",)),
    Setting("executorUser", "EXECUTOR_USER", ("--executor-user",),
            "The executor's user, where the worker is started as root; goes with gatewayUser.", ("worker",)),
    Setting("metrics", "METRICS_ADDRESS", ("--metrics",),
            "Loopback address that serves figures to Prometheus, for example 127.0.0.1:9464. Else none does.",
            ("gateway", "worker")),
    Setting("dataDir", "DATA_DIR", ("--data-dir",), "The one directory that the worker uses.",
            ("executor", "egress", "worker", "command"), _FILE, "~/.clustercode/data"),
    Setting("runtime", "CONTAINER_RUNTIME", ("--runtime",),
            "Engine to use. Else Podman, or the engine that DOCKER_HOST names.", ("executor", "worker", "command"),
            click.Choice(["podman", "docker"])),
    Setting("podmanPath", "PODMAN_PATH", ("--podman-path",), "Podman's program.", ("executor", "worker", "command"),
            _TEXT, "podman"),
    Setting("engineSocket", "ENGINE_SOCKET", ("--engine-socket",),
            "The engine's socket. Else it is looked for, or Podman's service is started.",
            ("executor", "worker", "command"), _FILE),
    Setting("engineService", "ENGINE_SERVICE", ("--engine-service/--no-engine-service",),
            "Start Podman's service where no engine answers.", ("executor",), _SWITCH, True),
    Setting("withEgress", "WITH_EGRESS", ("--with-egress/--no-with-egress",),
            "An egress process runs for this data directory too: wait for it rather than make DevBoxes without a "
            "network.", ("executor",), _SWITCH, False),
    Setting("terminalGraceSeconds", "TERMINAL_GRACE_SECONDS", ("--terminal-grace",),
            "Seconds a program waits for its lost viewer before its oldest output is dropped.", ("executor", "worker"),
            Seconds(), 60.0),
    Setting("reconcileSeconds", "RECONCILE_SECONDS", ("--reconcile",),
            "Seconds between looks at all DevBoxes, for what the engine did not tell.", ("executor", "worker"),
            Seconds(), 30.0),
    Setting("buildMinFreeBytes", "BUILD_MIN_FREE", ("--build-min-free",),
            "Bytes on the engine's disk without which nothing is built. Else 2 GiB or 5 %, whichever is less.",
            ("executor", "worker"), Whole("a whole number of bytes", 0)),
    Setting("logLevel", "LOG_LEVEL", ("--log-level",), "What to log, from all to little.",
            (*_BOTH, "egress"), _Level(), "INFO"),
    Setting("logFormat", "LOG_FORMAT", ("--log-format",),
            "Lines for people (text), or a JSON object a line (json); auto: text on a terminal.",
            (*_BOTH, "egress"), click.Choice(["auto", "text", "json"]), "auto"),
    Setting("security.floor", "SECURITY_FLOOR", ("--floor",),
            "The least restrictive profile that DevBoxes may have here. Of variable and file the stricter counts.",
            ("executor", "worker"), click.Choice(PROFILES), "standard"),
    Setting("security.tenants", "TENANTS", ("--tenants",),
            "Whom this worker serves: ids parted by commas; in a file each with its policy.", ("executor", "worker"),
            _Tenants()),
    Setting("security.allowPrivileged", "ALLOW_PRIVILEGED", ("--allow-privileged/--no-allow-privileged",),
            "Let open DevBoxes be privileged; needs mode byom and floor open.", ("executor", "worker"), _SWITCH, False),
    Setting("security.acceptMissingLimits", "ACCEPT_MISSING_LIMITS", ("--accept-missing-limits",),
            "Limits without which DevBoxes may run where the engine holds none: memory, cpus, pids.",
            ("executor", "worker"), _Names(*LIMITS), ()),
    Setting("security.stopBelowFloor", "STOP_BELOW_FLOOR", ("--stop-below-floor/--no-stop-below-floor",),
            "Stop DevBoxes that are below the floor when the executor starts; else it only says so.",
            ("executor", "worker"), _SWITCH, False),
    Setting("security.openBesideOthers", "OPEN_BESIDE_OTHERS", ("--open-beside-others/--no-open-beside-others",),
            "Let an open DevBox of one tenant run beside those of others.", ("executor", "worker"), _SWITCH, False),
)  # fmt: skip

BY_KEY = {setting.key: setting for setting in SETTINGS}
BY_VARIABLE = {setting.variable: setting for setting in SETTINGS if setting.variable}

CONFIG_VARIABLE = "AGENT_CONFIG"
"""Names the file to read; beside it `--config`. No setting of its own: a file cannot name itself."""


def of(process: Process) -> tuple[Setting, ...]:
    """Return the settings that a process reads."""
    return tuple(setting for setting in SETTINGS if process in setting.read_by)


def stricter(one: str, other: str) -> str:
    """Return the more restrictive of two profiles."""
    return max(one, other, key=PROFILES.index)
