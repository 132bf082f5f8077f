"""``worker-agent``: what the public ``clustercode`` CLI starts in place of the Go agent, without arguments.

It reads the files that CLI wrote, logs one JSON object a line on standard output, and ends on SIGTERM.
"""

import os
import sys

import click

from clustercode.command_worker import start


def main() -> None:
    """Run the worker; whatever ends it is one sentence and an exit code."""
    if len(sys.argv) > 1:
        click.echo("worker-agent takes no arguments; 'clustercode worker --help' has them.", err=True)
        sys.exit(2)
    try:
        start({}, os.environ)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
