"""``clustercode worker --drain``: a worker that runs takes no new DevBoxes, and says when it has none left."""

import time
from pathlib import Path

import click

from clustercode.errors import Unusable
from clustercode.operator_client import Operator
from executor.data_dir import DRAIN_FILE
from executor.owner import as_owner_of
from protos import executor_pb2 as pb

_LOOK_S = 1.0


def drain(data_dir: Path) -> None:
    """Let it take no new ones, then wait until none is left. Ctrl-C ends the waiting, not the draining."""
    operator = Operator(data_dir)
    operator.devboxes()  # says so where no worker runs
    try:
        with as_owner_of(data_dir):
            (data_dir / DRAIN_FILE).touch(mode=0o600)
    except OSError as error:
        raise Unusable(f"{data_dir / DRAIN_FILE} cannot be written: {error.strerror}.") from None
    click.echo("This worker takes no new DevBoxes, also after a restart; 'clustercode worker --no-drain' ends that.")
    said = ""
    try:
        while boxes := operator.devboxes():
            running = sum(box.state == pb.DEV_BOX_STATE_RUNNING for box in boxes)
            left = "1 DevBox is" if len(boxes) == 1 else f"{len(boxes)} DevBoxes are"
            line = f"{left} left, {running} running: {', '.join(box.name for box in boxes)}"
            if line != said:
                click.echo(line)
                said = line
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        click.echo("Not waiting any more; the worker goes on draining.")
        raise click.exceptions.Exit(130) from None
    click.echo("It is empty.")


def end_drain(data_dir: Path) -> None:
    """Let it take new ones again. Safe to repeat."""
    try:
        with as_owner_of(data_dir):
            (data_dir / DRAIN_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise Unusable(f"{data_dir / DRAIN_FILE} cannot be removed: {error.strerror}.") from None
    click.echo("This worker takes new DevBoxes.")
