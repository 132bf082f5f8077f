"""``clustercode egress``: the egress process alone."""

import os
import sys
from typing import Any

import click

from clustercode import logs, process
from clustercode.configuration import for_process, handed_over
from clustercode.errors import Unusable
from clustercode.options import config_file, given, options
from clustercode.settings import of

_KEYS = [setting.key for setting in of("egress")]


@click.command()
@config_file
@options(_KEYS)
@click.option("--handed-over", "from_supervisor", is_flag=True, hidden=True)
def egress(from_supervisor: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Run egress alone: the DevBoxes' only way out.

    It needs Squid and socat, and the executor's data directory; the executor is started with --with-egress then.
    Started as root it works as the user proxy. Run alone it reads /etc/clustercode/egress.yaml, where there is one.
    """
    if from_supervisor:
        configuration = handed_over(sys.stdin.read())
    else:
        configuration = for_process("egress", given(flags), os.environ)
    logs.set_up("egress", configuration.get("logLevel"), configuration.get("logFormat"))
    from executor.egress_files import EgressFiles  # noqa: PLC0415 - a process loads its own part only
    from executor.egress_process import run  # noqa: PLC0415 - the same

    data_dir = configuration.get("dataDir")
    if not from_supervisor and EgressFiles(data_dir).owner() is None:
        raise Unusable(f"No executor has used {data_dir} yet: start the executor first, or correct --data-dir.")
    process.run(run(data_dir))
