"""Finds the value of each setting and where it comes from: flag, else environment, else file, else default.

One exception: of variable and file, the stricter floor counts. Reads files and nothing else; the environment is an
argument.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import click

from clustercode import settings
from clustercode.config_file import Entry, json_line, nearest, read_yaml
from clustercode.errors import ConfigurationError
from clustercode.home import Home
from clustercode.settings import BY_KEY, BY_VARIABLE, CONFIG_VARIABLE, SETTINGS, Process, Setting

DEFAULT = "default"
AGENT_FILE = "agent.yaml"

_SECTIONS = (settings.SECURITY.removesuffix("."),)
_FLOOR = BY_KEY["security.floor"]


@dataclass(frozen=True)
class Value:
    """A setting's value and where it comes from: a flag, a variable, a place in a file, or ``default``."""

    value: Any
    source: str


@dataclass(frozen=True)
class Configuration:
    """All values that one process works with."""

    values: Mapping[str, Value]
    files: Sequence[Path] = ()
    """What was read, or would be if it were there; the strongest first."""

    def get(self, key: str) -> Any:  # noqa: ANN401 - a setting's
        """Return a setting's value; None where it has none."""
        return self.values[key].value

    def source(self, key: str) -> str:
        """Return where a setting's value comes from."""
        return self.values[key].source

    def is_default(self, key: str) -> bool:
        """Tell whether nobody set it."""
        return self.values[key].source == DEFAULT

    def with_values(self, values: Mapping[str, Any], source: str) -> "Configuration":
        """Return a copy in which these have other values."""
        return Configuration(
            {**self.values, **{key: Value(value, source) for key, value in values.items()}}, self.files
        )

    def to_json(self, process: Process) -> str:
        """Return what one process is handed over; `handed_over` reads it. Nothing secret is in it."""
        mine = {setting.key: self.values[setting.key] for setting in settings.of(process) if not setting.secret}
        return json.dumps({key: (value.value, value.source) for key, value in mine.items()}, default=str)


def etc_directory(platform: str, environ: Mapping[str, str]) -> PurePath:
    """Return where a machine's own files of configuration are. Pure; ``platform`` is ``sys.platform``."""
    if platform == "win32":
        return PureWindowsPath(environ.get("PROGRAMDATA") or r"C:\ProgramData") / "clustercode"
    return PurePosixPath("/etc/clustercode")


ETC = Path(etc_directory(sys.platform, os.environ))


def for_worker(flags: Mapping[str, Any], environ: Mapping[str, str], home: Home, etc: Path = ETC) -> Configuration:
    """Return what ``clustercode worker`` and the commands beside it work with.

    A fleet's worker reads ``agent.yaml`` alone: the one that ``--config`` or ``AGENT_CONFIG`` names, or that of
    ``/etc/clustercode`` unless mode byom is said. One's own machine has the files of ``~/.clustercode``.
    """
    path = _named_file(flags, environ)
    if path is None:
        config = _config_json(home)
        mode = _resolved(BY_KEY["mode"], flags, environ, config)
        standard = etc / AGENT_FILE
        if mode.value == "fleet" or (mode.source == DEFAULT and _exists(standard)):
            path = standard
        else:
            files = (home.config_file, home.worker_file, home.credentials_file)
            return _configuration(flags, environ, {**_registered(home), **config}, files)
    return _configuration(flags, environ, _yaml(path, ("gateway", "executor", "worker")), (path,))


def for_process(
    process: Process, flags: Mapping[str, Any], environ: Mapping[str, str], etc: Path = ETC
) -> Configuration:
    """Return what the gateway or the executor, run alone, works with: its own file is ``gateway.yaml`` and so on."""
    path = _named_file(flags, environ)
    if path is None:
        path = etc / f"{process}.yaml"
        if not _exists(path):
            return _configuration(flags, environ, {}, (path,))
    return _configuration(flags, environ, _yaml(path, (process,)), (path,))


def handed_over(text: str) -> Configuration:
    """Return the configuration that the supervisor made with `Configuration.to_json`."""
    values = {setting.key: Value(None, DEFAULT) for setting in SETTINGS}
    for key, (value, source) in json.loads(text).items():
        converted = None if value is None else BY_KEY[key].kind.convert(value, None, None)
        values[key] = Value(converted, source)
    return Configuration(values)


def _named_file(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Path | None:
    path = flags.get("config") or environ.get(CONFIG_VARIABLE)
    try:
        return Path(path).expanduser().absolute() if path else None
    except RuntimeError:
        raise ConfigurationError(f"{path}: there is no such home directory; give a path that begins with /.") from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # the directory is not for us: whatever is said in there must not go unheard
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None


def _configuration(
    flags: Mapping[str, Any], environ: Mapping[str, str], found: Mapping[str, Entry], files: Sequence[Path]
) -> Configuration:
    return Configuration({setting.key: _resolved(setting, flags, environ, found) for setting in SETTINGS}, files)


def _resolved(
    setting: Setting, flags: Mapping[str, Any], environ: Mapping[str, str], found: Mapping[str, Entry]
) -> Value:
    """Return one setting's value from the strongest place that says something."""
    flag = flags.get(setting.field)
    if flag is not None:  # Click has converted it, and said what is wrong with it.
        return Value(flag, setting.flags[0].split("/")[0])
    from_variable = from_file = None
    if setting.variable and (text := environ.get(setting.variable)):
        from_variable = Value(_converted(setting, text, setting.variable), f"variable {setting.variable}")
    entry = found.get(setting.key)
    if entry is not None and entry.value not in (None, ""):
        from_file = Value(_converted(setting, entry.value, entry.where), entry.where)
    if setting is _FLOOR and from_variable and from_file:
        strict = settings.stricter(from_variable.value, from_file.value)
        return from_variable if from_variable.value == strict else from_file
    default = None if setting.default is None else setting.kind.convert(setting.default, None, None)
    return from_variable or from_file or Value(default, DEFAULT)


def _converted(setting: Setting, value: object, where: str) -> Any:  # noqa: ANN401 - a setting's
    """Return a value as its kind; raises `ConfigurationError` that says where, and what is allowed."""
    try:
        if isinstance(value, bool) and setting.kind is not click.BOOL:
            setting.kind.fail("neither yes nor no is an answer here; put text in quotes.")
        if isinstance(value, list | dict) and isinstance(setting.kind, click.Choice):
            setting.kind.fail(f"one of {', '.join(map(repr, setting.kind.choices))} is wanted here.")
        return setting.kind.convert(value, None, None)
    except (click.BadParameter, TypeError, ValueError) as error:
        reason = error.message if isinstance(error, click.BadParameter) else "this is no such value."
        raise ConfigurationError(f"{where}: {reason}") from None


def _registered(home: Home) -> dict[str, Entry]:
    """Return what login and registration left in ``~/.clustercode``."""
    entries: dict[str, Entry] = {}
    if credentials := home.credentials():
        entries["token"] = Entry(credentials.api_key, str(home.credentials_file))
    if registration := home.registration():
        of_worker = {"url": registration.url, "tenant": registration.tenant_id, "workerId": registration.worker_id}
        entries |= {key: Entry(value, str(home.worker_file)) for key, value in of_worker.items()}
    return entries


def _config_json(home: Home) -> dict[str, Entry]:
    """Return the preferences: names of variables, and a section ``security`` as in the YAML files.

    The public CLI keeps its own there too, so unknown names stay unless they look like a slip of the pen.
    """
    said: list[tuple[str, Entry]] = []
    for name, value in home.config().items():
        where = json_line(home.config_file, name)
        if name in _SECTIONS:
            if not isinstance(value, dict):
                raise ConfigurationError(f"{where}: this section is an object of names and values.")
            for key, content in value.items():
                full = f"{name}.{key}"
                if full not in BY_KEY:
                    raise _unknown(f"{json_line(home.config_file, key)}", full, tuple(BY_KEY))
                said.append((full, Entry(content, f"{home.config_file}, {full}")))
        elif name in BY_VARIABLE:
            said.append((BY_VARIABLE[name].key, Entry(value, where)))
        elif nearest(name, tuple(BY_VARIABLE)):
            raise _unknown(where, name, tuple(BY_VARIABLE))
    entries: dict[str, Entry] = {}
    for key, entry in said:
        if key in entries:
            raise ConfigurationError(f"{entry.where}: this is said twice, also at {entries[key].where}.")
        entries[key] = entry
    return entries


def _yaml(path: Path, readers: tuple[Process, ...]) -> dict[str, Entry]:
    """Return what a YAML file says, after refusing what does not belong there."""
    entries = read_yaml(path, _SECTIONS)
    known = tuple(setting.key for setting in SETTINGS if set(readers) & set(setting.read_by))
    for key, entry in entries.items():
        if key in known:
            continue
        if key == "token" and len(readers) == 1:
            raise ConfigurationError(
                f"{entry.where}: a token inside a file that both processes could read is refused here. Run alone, the "
                f"{readers[0]} has a file of its own ({readers[0]}.yaml); the gateway's names the token's file with "
                "tokenFile, or takes systemd's credential 'token'."
            )
        if key in BY_KEY:
            others = [reader for reader in BY_KEY[key].read_by if reader in ("gateway", "executor")]
            raise ConfigurationError(f"{entry.where}: this belongs in {' and '.join(others) or 'agent'}.yaml.")
        raise _unknown(entry.where, key, known)
    return entries


def _unknown(where: str, name: str, known: tuple[str, ...]) -> ConfigurationError:
    meant = nearest(name, known)
    hint = f"did you mean {meant}?" if meant else f"known are {', '.join(known)}."
    return ConfigurationError(f"{where}: there is no setting of this name; {hint}")


def without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without any setting of ours, for a process that is handed them another way."""
    return {name: value for name, value in environ.items() if name not in BY_VARIABLE and name != CONFIG_VARIABLE}


def systemd_credential(environ: Mapping[str, str]) -> Path | None:
    """Return systemd's credential ``token`` (LoadCredential=), where the service was given one."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / "token" if directory else None
    return path if path is not None and os.access(path, os.R_OK) else None
