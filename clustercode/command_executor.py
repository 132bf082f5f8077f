"""``clustercode executor``: the executor alone."""

import os
import sys
from typing import Any

import click

from clustercode import logs, process
from clustercode.configuration import for_process, handed_over
from clustercode.notify import ServiceManager
from clustercode.options import config_file, given, options
from clustercode.settings import of

_KEYS = [setting.key for setting in of("executor")]


@click.command()
@config_file
@options(_KEYS)
@click.option("--handed-over", "from_supervisor", is_flag=True, hidden=True)
def executor(from_supervisor: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Run the executor alone: it owns the container engine.

    It decides what is allowed, knows neither token nor orchestrator, and serves the gateway on a socket in its data
    directory. Run alone it reads /etc/clustercode/executor.yaml, where there is one.
    """
    if from_supervisor:
        configuration = handed_over(sys.stdin.read())
    else:
        configuration = for_process("executor", given(flags), os.environ)
    logs.set_up("executor", configuration.get("logLevel"), configuration.get("logFormat"))
    process.allow_many_descriptors()
    process.quicken_grpc()
    from clustercode.models import executor_config  # noqa: PLC0415 - after the line above
    from executor.app import run  # noqa: PLC0415 - a process loads its own part only

    manager = ServiceManager()
    process.run(run(executor_config(configuration), manager.ready), manager)
