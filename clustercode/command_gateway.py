"""``clustercode gateway``: the gateway alone."""

import os
import sys
from typing import Any

import click

from clustercode import logs, process
from clustercode.configuration import for_process, handed_over
from clustercode.notify import ServiceManager
from clustercode.options import config_file, given, options
from clustercode.settings import of

_KEYS = [setting.key for setting in of("gateway")]


@click.command()
@config_file
@options(_KEYS)
@click.option("--handed-over", "from_supervisor", is_flag=True, hidden=True)
def gateway(from_supervisor: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Run the gateway alone: it holds the connection and the token.

    It never touches containers: it finds the executor by its socket, and accepts it only if that is closed to others.
    Run alone it reads /etc/clustercode/gateway.yaml, where there is one.
    """
    if from_supervisor:
        configuration = handed_over(sys.stdin.read())
    else:
        configuration = for_process("gateway", given(flags), os.environ)
    logs.set_up("gateway", configuration.get("logLevel"), configuration.get("logFormat"))
    process.leave_no_core_file()
    process.allow_many_descriptors()
    process.quicken_grpc()
    from clustercode.models import gateway_config  # noqa: PLC0415 - after the line above
    from gateway.app import run  # noqa: PLC0415 - a process loads its own part only

    manager = ServiceManager()
    process.run(run(gateway_config(configuration, os.environ), ready=manager.ready), manager)
