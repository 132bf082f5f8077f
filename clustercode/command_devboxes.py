"""``clustercode devboxes``: for the owner of the machine, with or without gateway and orchestrator."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from clustercode.configuration import for_worker
from clustercode.errors import Unusable
from clustercode.home import Home
from clustercode.options import config_file, given, options

if TYPE_CHECKING:
    from clustercode.operator_client import Operator
    from protos.executor_pb2 import DevBox

_where = options(["dataDir"])
_all = click.option("--all", "everything", is_flag=True, help="All DevBoxes of this worker.")
_yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
_boxes = click.argument("boxes", metavar="[NAME|ID]...", nargs=-1)


@click.group()
def devboxes() -> None:
    """List, stop and remove the DevBoxes of this machine.

    For the machine's owner: it asks the executor itself, so that it works while the orchestrator is away, and for
    every tenant's DevBoxes. A worker (or its executor alone) must run.
    """


@devboxes.command("list")
@config_file
@_where
def list_(**flags: Any) -> None:  # noqa: ANN401 - click's
    """List all DevBoxes of this worker, whoever owns them."""
    boxes = _operator(flags).devboxes()
    if not boxes:
        click.echo("There are no DevBoxes on this worker.", err=True)
        return
    rows = [("ID", "NAME", "TENANT", "STATE", "PROFILE", "IMAGE")]
    rows += [(box.id, box.name, box.tenant_id, _state(box), _profile(box), box.image) for box in boxes]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        click.echo("  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5])))


@devboxes.command()
@config_file
@_where
@_all
@_boxes
def stop(boxes: Sequence[str], everything: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Stop DevBoxes. Their files stay; the orchestrator may start them again."""
    operator = _operator(flags)
    for box in _chosen(operator, boxes, everything):
        operator.stop(box.id)
        click.echo(f"{box.name} ({box.id}) is stopped")


@devboxes.command()
@config_file
@_where
@_all
@_yes
@click.option("--keep-volumes", is_flag=True, help="Keep what lies in /workspace: the volumes stay on the engine.")
@_boxes
def remove(boxes: Sequence[str], everything: bool, yes: bool, keep_volumes: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Remove DevBoxes, running or not, with all that is in them. It cannot be undone."""
    operator = _operator(flags)
    chosen = _chosen(operator, boxes, everything)
    if chosen and not yes and sys.stdin.isatty():
        names = ", ".join(box.name for box in chosen)
        click.confirm(f"Remove {names}{'' if keep_volumes else ' and all files in them'}?", abort=True)
    for box in chosen:
        operator.remove(box.id, keep_volumes=keep_volumes)
        click.echo(f"{box.name} ({box.id}) is removed")


def _operator(flags: dict[str, Any]) -> "Operator":
    data_dir = for_worker(given(flags), os.environ, Home()).get("dataDir")
    from clustercode.operator_client import Operator  # noqa: PLC0415 - gRPC takes a while to load

    return Operator(data_dir)


def _chosen(operator: "Operator", wanted: Sequence[str], everything: bool) -> "list[DevBox]":
    """Return the DevBoxes that were named; raises `Unusable` before anything is done to any of them."""
    if bool(wanted) == everything:
        raise click.UsageError("Name DevBoxes by name or id, or all of them with --all.")
    found = list(operator.devboxes())
    if everything:
        return found
    chosen = []
    for word in dict.fromkeys(wanted):
        matches = [box for box in found if word in (box.id, box.name)]
        if not matches:
            raise Unusable(f"There is no DevBox {word}: 'clustercode devboxes list' shows those there are.")
        if len(matches) > 1:
            ids = ", ".join(f"{box.id} of {box.tenant_id}" for box in matches)
            raise Unusable(f"Several DevBoxes are called {word}: take the id ({ids}).")
        chosen.append(matches[0])
    return chosen


def _state(box: "DevBox") -> str:
    from protos.executor_pb2 import DevBoxState  # noqa: PLC0415 - loaded by now

    return DevBoxState.Name(box.state).removeprefix("DEV_BOX_STATE_").lower()


def _profile(box: "DevBox") -> str:
    from protos.executor_pb2 import Profile  # noqa: PLC0415 - loaded by now

    return Profile.Name(box.profile).removeprefix("PROFILE_").lower()
