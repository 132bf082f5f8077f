"""``clustercode status``: what the worker that runs here says of itself."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from clustercode.configuration import for_worker
from clustercode.errors import Unusable
from clustercode.home import Home
from clustercode.layout import labelled
from clustercode.options import config_file, given, options

if TYPE_CHECKING:
    from protos.executor_pb2 import DevBox, ReportGatewayRequest, ShowWorkerResponse

_SILENT_S = 30.0
"""A gateway tells of itself every 10 seconds."""


@click.command()
@config_file
@options(["dataDir"])
def status(**flags: Any) -> None:  # noqa: ANN401 - click's
    """Show what the worker on this machine is doing.

    Exit code 0: it is connected and its engine answers. 1: it runs, but not all is well. 4: no worker runs here.
    """
    data_dir = for_worker(given(flags), os.environ, Home()).get("dataDir")
    from clustercode.operator_client import Operator  # noqa: PLC0415 - gRPC takes a while to load

    operator = Operator(data_dir)
    shown = operator.show()
    try:
        boxes = list(operator.devboxes())
    except Unusable:  # the engine is away, which the status says
        boxes = []
    for name, text in _lines(shown, boxes):
        click.echo(labelled(name, text, bold=True))
    if _problem(shown):
        raise click.exceptions.Exit(1)


def _problem(shown: "ShowWorkerResponse") -> bool:
    from protos.executor_pb2 import CONNECTION_STATE_CONNECTED  # noqa: PLC0415 - loaded by now

    connected = shown.gateway.state == CONNECTION_STATE_CONNECTED and shown.gateway_age_seconds < _SILENT_S
    return not connected or bool(shown.status.engine_error)


def _lines(shown: "ShowWorkerResponse", boxes: "list[DevBox]") -> Iterator[tuple[str, str]]:
    executor, gateway = shown.status, shown.gateway
    yield "Connection", _connection(shown)
    if gateway.orchestrator:
        yield "", f"{gateway.orchestrator}, as {gateway.worker_id}"
    if gateway.last_error:
        yield "Last error", f"{gateway.last_error} ({_ago(gateway.last_error_at)})"
    drains = "; it stops and takes nothing new" if shown.draining else ""
    yield "Executor", f"process {shown.pid}, since {_clock(shown.started_at)} ({_ago(shown.started_at)}){drains}"
    yield "Serves", f"{', '.join(shown.tenants)} (mode {shown.mode}, floor {_profile(executor.security_floor)})"
    yield "Engine", executor.engine_error or _engine(shown)
    empties = "; takes no new ones until 'clustercode worker --no-drain'" if executor.draining else ""
    yield "DevBoxes", (f"{executor.containers_running} running, {len(boxes)} in all" if boxes else "none") + empties
    sessions = shown.sessions
    attached = sum(1 for session in sessions if session.attached)
    yield "Sessions", f"{len(sessions)} terminals ({attached} looked at), {shown.displays} viewers of displays"
    yield "Buffers", _buffers(shown, gateway)


def _connection(shown: "ShowWorkerResponse") -> str:
    from protos.executor_pb2 import ConnectionState  # noqa: PLC0415 - loaded by now

    if not shown.HasField("gateway"):
        return "no gateway has told of itself: it does not run, or its log says why"
    if shown.gateway_age_seconds >= _SILENT_S:
        return f"the gateway has been silent for {shown.gateway_age_seconds:.0f} s: it does not run; see its log"
    since = f"since {_clock(shown.gateway.since)} ({_ago(shown.gateway.since)})"
    match shown.gateway.state:
        case ConnectionState.CONNECTION_STATE_CONNECTED:
            return f"connected {since}"
        case ConnectionState.CONNECTION_STATE_DIALING:
            return f"dialing {since}"
        case _:
            return f"not connected {since}; it dials again by itself"


def _engine(shown: "ShowWorkerResponse") -> str:
    executor = shown.status
    disk = ""
    if executor.HasField("disk_free"):
        disk = f", {_size(executor.disk_free)} of {_size(executor.disk_total)} free on its disk"
    return f"{executor.engine_version or 'not known yet'}{disk}"


def _buffers(shown: "ShowWorkerResponse", gateway: "ReportGatewayRequest") -> str:
    waiting = f"{gateway.answers_waiting} answers wait for a connection"
    if gateway.answers_waiting:
        waiting += f" ({_size(gateway.answers_waiting_bytes)})"
    unsent = sum(session.end - session.acked for session in shown.sessions)
    return f"{_size(shown.scrollback_bytes)} of output held, {_size(unsent)} not seen yet; {waiting}"


def _profile(value: int) -> str:
    from protos.executor_pb2 import Profile  # noqa: PLC0415 - loaded by now

    return Profile.Name(value).removeprefix("PROFILE_").lower()


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _clock(text: str) -> str:
    """Return a time of the wire as this machine's clock shows it."""
    return datetime.fromisoformat(text).astimezone().strftime("%d %b %H:%M:%S")


def _ago(text: str) -> str:
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()))
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
