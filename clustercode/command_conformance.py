"""``clustercode conformance``: whether a worker keeps the published protocol."""

from pathlib import Path
from typing import Any

import click

from clustercode import process
from clustercode.settings import PORT, Seconds


@click.command()
@click.option("--host", default="127.0.0.1", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=PORT,
    default=0,
    help="Port to listen on; else any that is free.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the token that the worker will show; else a new one is made.",
)
@click.option(
    "--image",
    default="localhost/devbox:latest",
    help="Image on the worker that has sh and git.  [default: localhost/devbox:latest]",
)
@click.option(
    "--display-image",
    default="localhost/devbox-display:latest",
    help="Image on the worker that has a display.  [default: localhost/devbox-display:latest]",
)
@click.option(
    "--wait",
    type=Seconds(),
    default=600.0,
    help="How long to wait for a worker.  [default: 600]",
)
@click.option("--only", multiple=True, help="Run only the checks whose name has this text. May be repeated.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="File for the results, as JSON.")
def conformance(image: str, display_image: str, wait: float, **options: Any) -> None:  # noqa: ANN401 - click's
    """Check whether a worker keeps the published protocol.

    It listens as an orchestrator until a worker connects, ours or another, drives every command, and exits with 1
    unless all checks hold.
    """
    from clustercode.conformance import Plan, run  # noqa: PLC0415 - only this command needs it
    from conformance.scene import Target  # noqa: PLC0415 - the same

    process.run(run(Plan(target=Target(image, display_image), wait_s=wait, **options)))
