"""Help that fits a terminal of 80 columns, and says of each command and option what it does."""

from collections.abc import Iterator

import click
import pytest

from clustercode.cli import cli


def commands(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command there is, with the words that call it."""
    yield names, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, *names, name)


ALL = dict(commands(cli, "clustercode"))


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_help_fits_and_leaves_nothing_out(names: tuple[str, ...]) -> None:
    """No line runs over, no sentence of a list is cut off, and no option is without a word."""
    command = ALL[names]
    with click.Context(command, info_name=" ".join(names), terminal_width=80) as context:
        text = command.get_help(context)

    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "..." not in "".join(text.partition("\nCommands:")[2:])
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name


def test_names_read_as_they_are_typed() -> None:
    """The ones that the user's document and its CLI know, and ours."""
    assert {names[1] for names in ALL if len(names) == 2} >= {
        "login", "worker", "doctor", "status", "config", "logout", "console", "gateway", "executor", "devboxes",
    }  # fmt: skip
