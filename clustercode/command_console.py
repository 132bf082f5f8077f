"""``clustercode console``: the small orchestrator with a web page."""

from pathlib import Path

import click

from clustercode import logs, process, program
from clustercode.errors import Unusable
from clustercode.settings import LOG_LEVELS, PORT


@click.command()
@click.option(
    "--port",
    type=PORT,
    default=7070,
    help="Port on 127.0.0.1; 0 takes any that is free.  [default: 7070]",
)
@click.option(
    "--data-dir",
    envvar="CONSOLE_DATA_DIR",
    type=click.Path(path_type=Path),
    default=Path("~/.clustercode/console"),
    help="Where it keeps the workers' token.  [CONSOLE_DATA_DIR; default: ~/.clustercode/console]",
)
@click.option("--log-level", envvar="LOG_LEVEL", default="INFO", type=click.Choice(LOG_LEVELS, case_sensitive=False),
              help="What to log, from all to little.  [LOG_LEVEL; default: INFO]")  # fmt: skip
def console(port: int, data_dir: Path, log_level: str) -> None:
    """Run a small orchestrator with a web page.

    It is for this machine only and listens on 127.0.0.1. It prints the page's address and the command that connects a
    worker.
    """
    logs.set_up("console", log_level)
    from console.app import run  # noqa: PLC0415 - a process loads its own part only
    from console.config import ConsoleConfig  # noqa: PLC0415
    from console.errors import ConsoleError  # noqa: PLC0415

    try:
        config = ConsoleConfig(port=port, data_dir=data_dir.expanduser().absolute(), program=program.shown())
        process.run(run(config))
    except ConsoleError as error:
        raise Unusable(str(error)) from None
