"""Makes the flags of a command from the table of settings. A flag that is not given leaves the word to the others."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import click
from click.types import OptionHelpExtra

from clustercode.settings import CONFIG_VARIABLE, SETTINGS, Setting

_F = TypeVar("_F", bound=Callable[..., Any])

config_file = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File of configuration to read instead of the usual ones.  [{CONFIG_VARIABLE}]",
)


def options(keys: Collection[str]) -> Callable[[_F], _F]:
    """Return a decorator that adds the flags of these settings, in the table's order."""
    chosen = [setting for setting in SETTINGS if setting.key in keys and setting.flags]

    def decorate(command: _F) -> _F:
        for setting in reversed(chosen):
            command = _option(setting)(command)
            if setting.key == "runtime":
                for engine in ("docker", "podman"):
                    shorthand = click.option(
                        f"--{engine}", "engine", flag_value=engine, help=f"The same as --runtime {engine}."
                    )
                    command = shorthand(command)
        return command

    return decorate


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """Return what was given on the command line, shorthands resolved, as `clustercode.configuration` takes it."""
    flags = dict(flags)
    if engine := flags.pop("engine", None):
        flags["runtime"] = engine
    if flags.pop("verbose", False):
        flags["logLevel"] = "DEBUG"
    return {name: value for name, value in flags.items() if value is not None}


class _Option(click.Option):
    """An option whose help says no more than its text: that names variable and default already."""

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:  # noqa: ARG002 - click's
        return {}


def _option(setting: Setting) -> Callable[[_F], _F]:
    notes = [setting.variable] if setting.variable else []
    if setting.default not in (None, (), False, True):
        notes.append(f"default: {_plain(setting.default)}")
    return click.option(
        *setting.flags,
        setting.field,
        cls=_Option,
        type=setting.kind,
        default=None,
        show_default=False,
        help=f"{setting.help}  [{'; '.join(notes)}]",
    )


def _plain(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)
