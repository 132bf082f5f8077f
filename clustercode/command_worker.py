"""``clustercode worker``: connects this machine, with all that is configured."""

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from clustercode import logs, process
from clustercode.configuration import for_worker
from clustercode.errors import Unusable
from clustercode.home import Home
from clustercode.options import config_file, given, options
from clustercode.settings import of

_KEYS = [setting.key for setting in of("worker")]


@click.command()
@config_file
@options(_KEYS)
@click.option(
    "--drain/--no-drain",
    default=None,
    help="Have the worker that runs here take no new DevBoxes, and wait until it has none; or end that.",
)
@click.option("-v", "--verbose", is_flag=True, help="The same as --log-level DEBUG.")
def worker(drain: bool | None, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Connect this machine to its orchestrator.

    Log in first ('clustercode login'): the first run then asks for whom this machine should work, and remembers it.
    It runs gateway and executor, two processes. DevBoxes go on when the worker stops, and it finds them again.

    \b
    clustercode worker                 your own machine, as logged in
    clustercode worker --mode fleet    by /etc/clustercode/agent.yaml
    """
    if drain is None:
        start(given(flags), os.environ)
    from clustercode import drain as draining  # noqa: PLC0415 - gRPC takes a while to load

    data_dir = for_worker(given(flags), os.environ, Home()).get("dataDir")
    (draining.drain if drain else draining.end_drain)(data_dir)


def start(flags: Mapping[str, Any], environ: Mapping[str, str]) -> NoReturn:
    """Run a worker until it is stopped, and end with its exit code."""
    if sys.platform == "win32":
        raise Unusable("The worker's two processes need Unix sockets: on Windows run it inside WSL.")
    home = Home()
    configuration = for_worker(flags, environ, home)
    logs.set_up("worker", configuration.get("logLevel"), configuration.get("logFormat"))
    from clustercode import registration  # noqa: PLC0415 - only what runs a worker needs it
    from clustercode.supervisor import WorkerPlan, supervise  # noqa: PLC0415 - the same
    from clustercode.worker_lock import held  # noqa: PLC0415 - the same

    complete = registration.complete(configuration, home)
    registration.token(complete)  # said now, once, rather than after everything else has started
    plan = WorkerPlan(complete, lambda: registration.token(for_worker(flags, environ, home)))
    with held(complete.get("dataDir")):
        process.run(supervise(plan))
