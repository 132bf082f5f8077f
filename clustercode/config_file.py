"""Reads one file of configuration: YAML as operators write it, JSON as in ``~/.clustercode``. Errors say where."""

import difflib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clustercode.errors import ConfigurationError

if TYPE_CHECKING:
    import yaml

_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """What a file says of one setting, and where."""

    value: Any
    where: str


def read_text(path: Path) -> str | None:
    """Return a file's text; None where there is no such file. Raises `ConfigurationError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > _MAX_BYTES:
        raise ConfigurationError(f"{path} is larger than {_MAX_BYTES} bytes: it cannot be a file of configuration.")
    try:
        return data.decode("utf-8-sig")  # some editors begin with a mark
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text, from byte {error.start} on.") from None


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None where there is no such file, or an empty one."""
    text = read_text(path)
    if text is None or not text.strip():
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        line = f", line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else f": {error}"
        raise ConfigurationError(f"{path}{line}. Correct it, or remove it to begin anew.") from None
    except RecursionError:
        raise ConfigurationError(f"{path} is nested too deeply.") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} does not hold a JSON object: it begins with {{ and ends with }}.")
    return found


def json_line(path: Path, key: str) -> str:
    """Return where a key is in a JSON file, as well as can be told afterwards."""
    text = read_text(path) or ""
    before, found, _ = text.partition(json.dumps(key))
    return f"{path}, line {before.count(chr(10)) + 1}, {key}" if found else f"{path}, {key}"


def read_yaml(path: Path, sections: Collection[str]) -> dict[str, Entry]:
    """Return what a YAML file says, keys of its ``sections`` with a dot (``security.floor``).

    Raises `ConfigurationError` with the line of what is no YAML, of a key that stands there twice, and of an alias.
    """
    import yaml  # noqa: PLC0415 - only where there is such a file: it takes a while to load

    text = read_text(path)
    if text is None:
        raise ConfigurationError(f"There is no file {path}: write it, or name another with --config.")
    try:
        _refuse_aliases(path, text)
        return dict(_entries(path, sections, yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{path}{line}: this is no YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{path}: this is no YAML: {str(error).splitlines()[0]}.") from None
    except ValueError as error:  # a date that there is not, a number of thousands of digits
        raise ConfigurationError(f"{path}: {error}. Put text in quotes.") from None


def _refuse_aliases(path: Path, text: str) -> None:
    """Refuse what a few lines of stand for more than memory holds, each an alias of the one before many times."""
    import yaml  # noqa: PLC0415 - loaded by now

    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.AliasToken):
            line = token.start_mark.line + 1
            raise ConfigurationError(
                f"{path}, line {line}: write out what *{token.value} stands for: no aliases are taken here."
            )


def _entries(
    path: Path, sections: Collection[str], node: "yaml.Node | None", value: object, prefix: str = ""
) -> Iterator[tuple[str, Entry]]:
    """Yield the names of a mapping with what they say: ``value`` has the values, ``node`` knows the lines."""
    import yaml  # noqa: PLC0415 - loaded by now

    if node is None or value is None:
        return
    if not isinstance(node, yaml.MappingNode) or not isinstance(value, dict):
        line = node.start_mark.line + 1
        what = f"the section {prefix.removesuffix('.')} takes" if prefix else "it takes"
        raise ConfigurationError(f"{path}, line {line}: {what} names with values, 'name: value'.")
    lines: dict[str, int] = {}
    for name, content in node.value:
        key, line = str(name.value), name.start_mark.line + 1
        where = f"{path}, line {line}, {prefix}{key}"
        if key in lines:
            raise ConfigurationError(f"{where}: it stands in line {lines[key]} already.")
        lines[key] = line
        if key in sections and not prefix:
            yield from _entries(path, sections, content, value.get(key), f"{key}.")
        else:
            yield f"{prefix}{key}", Entry(value.get(key), where)


def nearest(key: str, known: Collection[str]) -> str | None:
    """Return the known key that a wrong one is likely meant to be."""
    lowered = {name.lower(): name for name in known}
    found = difflib.get_close_matches(key.lower(), lowered, n=1, cutoff=0.75)
    return lowered[found[0]] if found else None
