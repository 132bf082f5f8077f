"""``clustercode health``: asked by an engine, inside the container of a process."""

import os
import sys
from pathlib import Path

import click

_TIMEOUT_S = 4.0
_MAIN_PROCESS = 1
"""The container's own."""


@click.command()
@click.argument("process", type=click.Choice(["gateway", "executor", "egress"]))
def health(process: str) -> None:
    """Tell by the exit code if this container is well.

    A gateway is when it is connected to its orchestrator, an executor when it serves, egress when DevBoxes have a way
    out.
    """
    if process == "gateway":
        from gateway.health import connected  # noqa: PLC0415 - a process loads its own part only

        is_well = connected(_MAIN_PROCESS)
    elif process == "executor":
        from executor.health import serves  # noqa: PLC0415 - a process loads its own part only

        is_well = serves(_data_dir() / "rpc" / "executor.sock", _TIMEOUT_S)
    else:
        from executor.egress_health import is_open  # noqa: PLC0415 - a process loads its own part only

        is_well = is_open(_data_dir() / "egress" / "run" / "control.sock", _TIMEOUT_S)
    sys.exit(0 if is_well else 1)


def _data_dir() -> Path:
    if not (data_dir := os.environ.get("DATA_DIR")):
        raise click.UsageError("The executor's data directory is what DATA_DIR names, and that is not set here.")
    return Path(data_dir)
