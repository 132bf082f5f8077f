"""The command line: one file for each command, ``command_<name>.py``, loaded when it is asked for.

Exit codes: 0 ended as asked; 1 a defect of ours, or a check that did not pass; 2 the command line or a configuration
is wrong; 3 the orchestrator refused the token; 4 this machine is not as it must be (data directory, socket, token,
login); 5 stopped with work still under way; 6 another instance of this worker has taken its place.
"""

import os
from importlib import import_module

import click

COMMANDS = (
    "login", "worker", "status", "doctor", "devboxes", "config", "logout",
    "console", "demo", "conformance", "gateway", "executor", "egress", "health",
)  # fmt: skip
"""In the order in which people meet them."""


class _Commands(click.Group):
    """Loads a command's file only when it is needed: what is not loaded costs no time at the start."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"clustercode.command_{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="clustercode-worker")
@click.pass_context
def cli(context: click.Context, /) -> None:
    """Run dev containers (DevBoxes) on this machine for a ClusterCode orchestrator.

    \b
    clustercode login      says who you are
    clustercode worker     connects this machine; the first run asks for whom
    clustercode status     shows what the worker that runs here is doing
    clustercode doctor     finds what this machine lacks, and how to mend it

    To try it without an account: clustercode demo
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org; that output goes to no terminal, Click sees by itself
        context.color = False


def main() -> None:
    """Run the command line."""
    cli(prog_name="clustercode")
