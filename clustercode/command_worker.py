"""``clustercode worker``: connects this machine, with all that is configured."""

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from clustercode import logs, process
from clustercode.configuration import for_process, for_worker
from clustercode.errors import Unusable
from clustercode.home import Home
from clustercode.notify import ServiceManager
from clustercode.options import config_file, given, options
from clustercode.settings import of
from clustercode.users import chosen

_KEYS = [setting.key for setting in of("worker")]


@click.command()
@config_file
@options(_KEYS)
@click.option(
    "--drain/--no-drain",
    default=None,
    help="Have the worker that runs here take no new DevBoxes, and wait until it has none; or end that.",
)
@click.option(
    "--install", "service", flag_value="install", help="Make it a service of this machine, after showing how."
)
@click.option("--uninstall", "service", flag_value="uninstall", help="Undo that; asks whether DevBoxes go too.")
@click.option("-v", "--verbose", is_flag=True, help="The same as --log-level DEBUG.")
def worker(drain: bool | None, service: str | None, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Connect this machine to its orchestrator.

    Log in first ('clustercode login'): the first run then asks for whom this machine should work, and remembers it.
    It runs gateway, executor and egress, three processes. DevBoxes go on when the worker stops, and it finds them
    again.

    \b
    clustercode worker                 your own machine, as logged in
    clustercode worker --mode fleet    by /etc/clustercode/agent.yaml

    Started as root it gives gateway and executor the users that --gateway-user and --executor-user name.
    """
    flags = given(flags)
    if drain is None and service is None:
        start(flags, os.environ)
    if drain is not None and service is not None:
        raise click.UsageError("Drain first, then install or uninstall: one at a time.")
    from clustercode import drain as draining  # noqa: PLC0415 - gRPC takes a while to load
    from clustercode import install as installing  # noqa: PLC0415 - the same

    if service is not None and flags.get("mode") == "fleet" and "config" not in flags:
        # Its units read files of their own, which it brings; agent.yaml need not be there.
        configuration = for_process("executor", flags, os.environ)
    else:
        configuration = for_worker(flags, os.environ, Home())
    if service is None:
        (draining.drain if drain else draining.end_drain)(configuration.get("dataDir"))
    elif flags.keys() - {"mode", "config"}:
        raise click.UsageError(
            "A service takes no flags: keep settings with 'clustercode config set', then install it."
        )
    else:
        act = installing.install if service == "install" else installing.uninstall
        act(configuration, root=hasattr(os, "geteuid") and os.geteuid() == 0)


def start(flags: Mapping[str, Any], environ: Mapping[str, str]) -> NoReturn:
    """Run a worker until it is stopped, and end with its exit code."""
    if sys.platform == "win32":
        raise Unusable("The worker's processes need Unix sockets: on Windows run it inside WSL.")
    home = Home()
    configuration = for_worker(flags, environ, home)
    logs.set_up("worker", configuration.get("logLevel"), configuration.get("logFormat"))
    from clustercode import registration  # noqa: PLC0415 - only what runs a worker needs it
    from clustercode.supervisor import WorkerPlan, supervise  # noqa: PLC0415 - the same
    from clustercode.user_access import prepare, refuse_foreign  # noqa: PLC0415 - the same
    from clustercode.worker_lock import held  # noqa: PLC0415 - the same

    users = chosen(configuration)
    if users is not None:
        prepare(configuration, users)
    else:
        refuse_foreign(configuration.get("dataDir"))
    complete = registration.complete(configuration, home)
    registration.token(complete)  # said now, once, rather than after everything else has started
    manager = ServiceManager()
    plan = WorkerPlan(complete, lambda: registration.token(for_worker(flags, environ, home)), users)
    with held(complete.get("dataDir")):
        process.run(supervise(plan, manager.ready), manager)
