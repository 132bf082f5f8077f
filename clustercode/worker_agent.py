"""``worker-agent``: what the public ``clustercode`` CLI starts in place of the Go agent, without arguments.

It reads the files that CLI wrote, logs one JSON object a line on standard output, and ends on SIGTERM.
"""

import logging
import os
import sys

import click

from clustercode import logs
from clustercode.command_worker import start


def main() -> None:
    """Run the worker; whatever keeps it from running is one line of the log, and the exit code."""
    # Whoever collects the agent's log reads standard output; our processes and what they start share this descriptor.
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
    try:
        if len(sys.argv) > 1:
            raise click.UsageError("worker-agent takes no arguments; 'clustercode worker --help' has them.")
        start({"logFormat": "json"}, os.environ)
    except click.ClickException as error:
        logs.set_up("worker", "INFO", "json")  # Keeps what is set up already.
        logging.getLogger(__name__).error("%s", error.message)  # noqa: TRY400 - a sentence, not a traceback
        sys.exit(error.exit_code)
