"""The command line. Every option can also be given by the variable that its help names; a flag is the stronger.

Exit codes: 0 ended as asked; 1 a defect of ours; 2 the command line is wrong; 3 the orchestrator refused the token;
4 this machine is not as it must be (data directory, socket, token file); 5 stopped with work still under way.
"""

import asyncio
import errno
import os
import socket
import sys
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from pydantic import BaseModel, ValidationError

from clustercode import logs

if TYPE_CHECKING:
    from gateway.config import GatewayConfig

VERSION = version("clustercode-worker")

_F = TypeVar("_F", bound=Callable[..., Any])
_M = TypeVar("_M", bound=BaseModel)

_PORT = click.IntRange(0, 65535)
_PROFILES = ("open", "standard", "strict", "offline")


def main() -> None:
    """Run the command line."""
    cli(prog_name="clustercode")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100})
@click.version_option(VERSION)
def cli() -> None:
    """Run dev containers (DevBoxes) on this machine for a ClusterCode orchestrator.

    \b
    clustercode demo       try it: a web page, a worker and a DevBox, all on this machine
    clustercode console    a small orchestrator of your own, with a web page
    clustercode worker     connect this machine to an orchestrator
    """


def _with(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Return one decorator for several options."""

    def decorate(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_log_level = click.option(
    "--log-level", envvar="LOG_LEVEL", show_envvar=True, default="INFO",
    type=click.Choice(logs.LEVELS, case_sensitive=False), help="What to log, from all to little.",
)  # fmt: skip

_data_dir = click.option(
    "--data-dir", envvar="DATA_DIR", show_envvar=True, type=click.Path(path_type=Path, file_okay=False),
    default=Path("~/.clustercode/data"), help="The one directory this program uses.",
)  # fmt: skip

_mode = click.option(
    "--mode", envvar="AGENT_MODE", show_envvar=True, default="byom", type=click.Choice(["byom", "fleet"]),
    help="Your own machine, or one of a managed fleet.",
)  # fmt: skip

_gateway_options = _with(
    click.option("--url", envvar="ORCHESTRATOR_WS_URL", show_envvar=True, required=True,
                 help="The orchestrator's WebSocket, for example wss://example.com/ws/worker."),
    click.option("--token-file", envvar="ORCHESTRATOR_TOKEN_FILE", show_envvar=True, required=True,
                 type=click.Path(path_type=Path), help="File that holds the worker's token."),
    click.option("--tenant", envvar="TENANT_ID", show_envvar=True, default="local",
                 help="The tenant this worker is registered for."),
    click.option("--name", envvar="WORKER_NAME", show_envvar=True, help="The worker's name; else the hostname."),
    click.option("--worker-id", envvar="WORKER_ID", show_envvar=True,
                 help="The worker's id; else one that is made once and kept in the data directory."),
    _mode,
    click.option("--allow-insecure", is_flag=True, help="Send the token over ws:// to another machine. Do not."),
)  # fmt: skip

_executor_options = _with(
    click.option("--floor", envvar="SECURITY_FLOOR", show_envvar=True, default="standard",
                 type=click.Choice(_PROFILES), help="The least restrictive profile that DevBoxes may have here."),
    click.option("--runtime", envvar="CONTAINER_RUNTIME", show_envvar=True, type=click.Choice(["podman", "docker"]),
                 help="Engine to use; else Podman, or the engine that DOCKER_HOST names."),
    click.option("--podman", "runtime_flag", flag_value="podman", help="The same as --runtime podman."),
    click.option("--docker", "runtime_flag", flag_value="docker", help="The same as --runtime docker."),
    click.option("--podman-path", envvar="PODMAN_PATH", show_envvar=True, default="podman", help="Podman's program."),
    click.option("--engine-socket", envvar="ENGINE_SOCKET", show_envvar=True, type=click.Path(path_type=Path),
                 help="The engine's socket; else it is looked for, or Podman's service is started."),
)  # fmt: skip


@cli.command()
@_gateway_options
@_executor_options
@_data_dir
@_log_level
def worker(data_dir: Path, log_level: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Connect this machine to an orchestrator: runs gateway and executor, two processes.

    DevBoxes go on running when the worker stops, and are found again when it returns.
    """
    logs.set_up("worker", log_level)
    from clustercode.supervisor import WorkerPlan, supervise  # noqa: PLC0415 - only this command needs it

    data_dir = _made(data_dir.expanduser().absolute())
    options["worker_id"] = options["worker_id"] or _worker_id(data_dir)
    options["executor_socket"] = data_dir / "rpc" / "executor.sock"
    runtime = options["runtime_flag"] or options["runtime"]
    _gateway_config(executor_uid=None, **options)  # said now, once, rather than by the gateway again and again
    gateway_args = _arguments(
        ("--url", options["url"]), ("--tenant", options["tenant"]), ("--name", options["name"]),
        ("--mode", options["mode"]), ("--worker-id", options["worker_id"]),
        ("--allow-insecure", options["allow_insecure"]), ("--log-level", log_level),
        ("--executor-socket", options["executor_socket"]),
    )  # fmt: skip
    executor_args = _arguments(
        ("--tenants", options["tenant"]), ("--mode", options["mode"]), ("--floor", options["floor"]),
        ("--podman-path", options["podman_path"]), ("--runtime", runtime), ("--engine-socket", options["engine_socket"]),
        ("--data-dir", data_dir), ("--log-level", log_level),
    )  # fmt: skip
    plan = WorkerPlan(
        data_dir=data_dir,
        token_file=options["token_file"],
        gateway_args=gateway_args,
        executor_args=executor_args,
        runtime=runtime,
        podman_path=options["podman_path"],
        engine_socket=options["engine_socket"],
    )
    _run(supervise(plan))


@cli.command()
@_gateway_options
@click.option(
    "--executor-socket",
    envvar="EXECUTOR_SOCKET",
    show_envvar=True,
    required=True,
    type=click.Path(path_type=Path),
    help="The executor's socket: rpc/executor.sock in its data directory.",
)
@click.option(
    "--executor-uid",
    envvar="EXECUTOR_UID",
    show_envvar=True,
    type=int,
    help="User id of the executor, where that is another user than ours.",
)
@_log_level
def gateway(log_level: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Run the gateway alone: it holds the connection and the token, and never touches containers."""
    logs.set_up("gateway", log_level)
    _quicken_grpc()
    from gateway.app import run  # noqa: PLC0415 - a process loads its own part only

    if not options["worker_id"]:
        raise click.UsageError("Give the worker's id: --worker-id, or the variable WORKER_ID.")
    _run(run(_gateway_config(**options)))


@cli.command()
@click.option(
    "--tenants",
    envvar="TENANTS",
    show_envvar=True,
    required=True,
    help="Whom this worker serves: tenant ids, parted by commas.",
)
@_mode
@_executor_options
@click.option("--no-engine-service", is_flag=True, help="Never start Podman's service: somebody else does.")
@click.option(
    "--terminal-grace",
    envvar="TERMINAL_GRACE_SECONDS",
    show_envvar=True,
    type=float,
    default=60.0,
    help="Seconds a program waits for its lost viewer before its oldest output is dropped.",
)
@click.option(
    "--reconcile",
    type=float,
    default=30.0,
    help="Seconds between looks at all DevBoxes, for what the engine did not tell.",
)
@click.option(
    "--build-min-free",
    envvar="BUILD_MIN_FREE",
    show_envvar=True,
    type=int,
    help="Bytes on the engine's disk without which nothing is built. Unless told: 2 GiB or 5 %, whichever is less.",
)
@_data_dir
@_log_level
def executor(data_dir: Path, log_level: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Run the executor alone: it owns the container engine and decides what is allowed."""
    logs.set_up("executor", log_level)
    _quicken_grpc()
    from executor.app import run  # noqa: PLC0415 - a process loads its own part only
    from executor.config import BuildLimits, EventLimits, ExecutorConfig, TerminalLimits  # noqa: PLC0415
    from executor.policy import Profile  # noqa: PLC0415

    config = _config(
        ExecutorConfig,
        data_dir=data_dir.expanduser().absolute(),
        tenants=[tenant.strip() for tenant in options["tenants"].split(",")],
        mode=options["mode"],
        security_floor=Profile[options["floor"].upper()],
        runtime=options["runtime_flag"] or options["runtime"],
        engine_socket=options["engine_socket"],
        podman_path=options["podman_path"],
        starts_engine=not options["no_engine_service"],
        terminals=_config(TerminalLimits, grace_s=options["terminal_grace"]),
        events=_config(EventLimits, reconcile_s=options["reconcile"]),
        builds=_config(BuildLimits, min_free_bytes=options["build_min_free"]),
    )
    _run(run(config))


@cli.command()
@click.option("--port", type=_PORT, default=7070, help="Port on 127.0.0.1; 0 takes any that is free.")
@click.option(
    "--data-dir",
    envvar="CONSOLE_DATA_DIR",
    show_envvar=True,
    type=click.Path(path_type=Path),
    default=Path("~/.clustercode/console"),
    help="Where the console keeps the workers' token.",
)
@_log_level
def console(port: int, data_dir: Path, log_level: str) -> None:
    """Run a small orchestrator with a web page, for this machine only.

    It prints the page's address and the command that connects a worker.
    """
    logs.set_up("console", log_level)
    from console.app import run  # noqa: PLC0415 - a process loads its own part only
    from console.config import ConsoleConfig  # noqa: PLC0415
    from console.errors import ConsoleError  # noqa: PLC0415

    try:
        _run(run(_config(ConsoleConfig, port=port, data_dir=data_dir.expanduser().absolute())))
    except ConsoleError as error:
        _fail(str(error))


@cli.command()
@click.option("--check", is_flag=True, help="Go through it without a browser, remove everything, and end.")
@click.option("--port", type=_PORT, default=7070, help="Port of the page on 127.0.0.1; 0 takes any that is free.")
@click.option("--image", default="localhost/devbox:latest", help="Image of the first DevBox.")
def demo(check: bool, port: int, image: str) -> None:
    """Try it all on this machine: console, worker and a first DevBox. Ctrl-C removes everything."""
    logs.set_up("demo", "WARNING")
    from clustercode.demo import run  # noqa: PLC0415 - only this command needs it

    _run(run(check=check, port=0 if check else port, image=image))


def _gateway_config(**options: Any) -> "GatewayConfig":  # noqa: ANN401 - click's
    from gateway.config import GatewayConfig  # noqa: PLC0415 - a process loads its own part only

    hostname = socket.gethostname()
    return _config(
        GatewayConfig,
        orchestrator_url=options["url"],
        token_file=options["token_file"],
        worker_id=options["worker_id"],
        tenant_id=options["tenant"],
        worker_name=options["name"] or hostname,
        hostname=hostname,
        mode=options["mode"],
        agent_version=VERSION,
        executor_socket=options["executor_socket"],
        executor_uid=options["executor_uid"],
        allow_insecure=options["allow_insecure"],
    )


def _quicken_grpc() -> None:
    """Have gRPC wait for its sockets in our thread instead of handing each event through two of its own.

    Must be called before gRPC is imported. A third off the round trip between the processes and a quarter off their
    CPU time (docs/performance.md). A gRPC that no longer knows the switch says so on stderr and works as before.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")


def _run(program: Coroutine[Any, Any, object]) -> NoReturn:
    """Run a process on the fastest loop there is and end with its exit code."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    else:
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        result = runner.run(program)
    sys.exit(result if isinstance(result, int) else 0)


def _config(kind: type[_M], **fields: object) -> _M:
    """Return a validated configuration, or end with a sentence about the first thing wrong."""
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise click.UsageError(f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}") from None


def _fail(message: str) -> NoReturn:
    click.echo(f"clustercode: {message}", err=True)
    sys.exit(4)


def _arguments(*options: tuple[str, object]) -> list[str]:
    """Return command line arguments; what is not set is left out."""
    arguments: list[str] = []
    for name, value in options:
        if value is True:
            arguments.append(name)
        elif value:
            arguments += [name, str(value)]
    return arguments


def _worker_id(data_dir: Path) -> str:
    """Return this worker's id, made once and kept."""
    path = data_dir / "worker-id"
    with suppress(FileExistsError), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{uuid.uuid4()}\n")
    return path.read_text().strip()


def _made(data_dir: Path) -> Path:
    """Return the data directory after making sure that it can be used."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        _fail(f"The data directory {data_dir} cannot be used: {error.strerror}. Choose another with --data-dir.")
    return data_dir
