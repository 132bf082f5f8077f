"""``clustercode worker``: connects this machine, with all that is configured."""

import os
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from clustercode import logs, process
from clustercode.configuration import for_worker
from clustercode.home import Home
from clustercode.options import config_file, given, options
from clustercode.settings import of

_KEYS = [setting.key for setting in of("worker")]


@click.command()
@config_file
@options(_KEYS)
@click.option("-v", "--verbose", is_flag=True, help="The same as --log-level DEBUG.")
def worker(**flags: Any) -> None:  # noqa: ANN401 - click's
    """Connect this machine to its orchestrator.

    Log in first ('clustercode login'): the first run then asks for whom this machine should work, and remembers it.
    It runs gateway and executor, two processes. DevBoxes go on when the worker stops, and it finds them again.

    \b
    clustercode worker                    your own machine, as logged in
    clustercode worker --mode fleet       one of a fleet: /etc/clustercode/agent.yaml
    """
    start(given(flags), os.environ)


def start(flags: Mapping[str, Any], environ: Mapping[str, str]) -> NoReturn:
    """Run a worker until it is stopped, and end with its exit code."""
    home = Home()
    configuration = for_worker(flags, environ, home)
    logs.set_up("worker", configuration.get("logLevel"), configuration.get("logFormat"))
    from clustercode import registration  # noqa: PLC0415 - only what runs a worker needs it
    from clustercode.supervisor import WorkerPlan, supervise  # noqa: PLC0415 - the same

    complete = registration.complete(configuration, home)
    registration.token(complete)  # said now, once, rather than after everything else has started
    plan = WorkerPlan(complete, lambda: registration.token(for_worker(flags, environ, home)))
    process.run(supervise(plan))
