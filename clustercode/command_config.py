"""``clustercode config``: what is set, where it comes from, and changes to ``~/.clustercode/config.json``."""

import os
from typing import Any

import click

from clustercode.config_file import nearest
from clustercode.configuration import DEFAULT, Configuration, for_worker
from clustercode.errors import ConfigurationError
from clustercode.home import Home
from clustercode.options import config_file, given
from clustercode.settings import BY_KEY, BY_VARIABLE, SETTINGS, Setting

_MASK = "********"


@click.group()
def config() -> None:
    """Show and change what the worker is told.

    A flag is stronger than a variable, a variable than a file, a file than a default. Of variable and file, the
    stricter security floor counts. docs/configuration.md explains each setting.
    """


@config.command("list")
@config_file
def list_(**flags: Any) -> None:  # noqa: ANN401 - click's
    """Show each setting, its value, and where that comes from."""
    configuration = for_worker(given(flags), os.environ, Home())
    rows = [(_name(setting), _shown(setting, configuration), configuration.source(setting.key)) for setting in SETTINGS]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        line = f"{name:<{widths[0]}}  {value:<{min(widths[1], 30)}}  "
        click.echo(line + (click.style(source, dim=True) if source == DEFAULT else source))


@config.command()
@config_file
@click.argument("name")
def get(name: str, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Print the value of one setting.

    Where it has none it prints nothing and ends with exit code 1. NAME is that of its variable or its key in a file:
    WORKER_NAME or name.
    """
    setting = _setting(name)
    configuration = for_worker(given(flags), os.environ, Home())
    if configuration.get(setting.key) in (None, ()):
        raise click.exceptions.Exit(1)
    click.echo(_shown(setting, configuration))


@config.command("set")
@click.argument("name")
@click.argument("value", required=False)
@click.option("--unset", is_flag=True, help="Remove it, so that the default counts again.")
def set_(name: str, value: str | None, unset: bool) -> None:
    """Keep a preference in ~/.clustercode/config.json.

    A variable of the same name in the environment is stronger. A worker that runs takes it at its next start.
    """
    setting = _setting(name)
    if setting.variable is None:
        raise ConfigurationError(f"{setting.key} is not kept in config.json: log in with 'clustercode login'.")
    if (value is None) != unset:
        raise click.UsageError("Give a value, or --unset.")
    if value is not None:
        try:
            setting.kind.convert(value, None, None)
        except click.BadParameter as error:
            raise ConfigurationError(f"{setting.variable}: {error.message}") from None
    home = Home()
    home.prefer(setting.variable, value)
    if os.environ.get(setting.variable) not in (None, "", value):
        click.echo(f"The variable {setting.variable} is set in this shell, and is stronger.", err=True)


@config.command()
@config_file
def path(**flags: Any) -> None:  # noqa: ANN401 - click's
    """Print the files that are read, the strongest first."""
    for file in for_worker(given(flags), os.environ, Home()).files:
        click.echo(f"{file}{'' if file.exists() else '  (not there)'}")


def _setting(name: str) -> Setting:
    setting = BY_VARIABLE.get(name.upper()) or BY_KEY.get(name)
    if setting is None:
        meant = nearest(name, [*BY_VARIABLE, *BY_KEY])
        hint = f"did you mean {meant}?" if meant else "'clustercode config list' shows all."
        raise ConfigurationError(f"There is no setting {name}; {hint}")
    return setting


def _name(setting: Setting) -> str:
    return setting.variable or setting.key


def _shown(setting: Setting, configuration: Configuration) -> str:
    value = configuration.get(setting.key)
    if value is None or value == ():
        return "-"
    if setting.secret:
        return _MASK
    if setting.key == "url":
        value = str(value).partition("?")[0]  # a query may hold a secret
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(value) if isinstance(value, tuple | dict) else str(value)
