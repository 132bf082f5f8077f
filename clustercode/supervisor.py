"""``clustercode worker``: runs gateway, executor and egress as three processes and restarts each with backoff.

It alone reads configuration and token, and hands each process its part over inherited pipes: nothing of it is in an
argument or an environment. As root it can give gateway and executor a user each, which they become before they are
anything of ours; where both stay root, it also runs Podman's service.
"""

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

import click

from clustercode import program
from clustercode.configuration import Configuration, without_ours
from clustercode.settings import Process
from clustercode.users import User, Users, cost, plain_environment
from executor.engine_service import EngineService
from gateway.errors import ExitCode

log = logging.getLogger(__name__)

_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_HEALTHY_S = 60.0
_USAGE = 2
_FINAL = (_USAGE, ExitCode.TOKEN_REFUSED, ExitCode.MISCONFIGURED, ExitCode.REPLACED)
"""A restart changes nothing about these: hammering an orchestrator with a refused token helps nobody."""
_STOP_TIMEOUT_S = 15.0

_GATEWAY_KEEPS_OUT = ("DOCKER_HOST", "CONTAINERS_CONF", "CONTAINER_HOST")
_EXECUTOR_KEEPS_OUT = ("HTTPS_PROXY", "https_proxy")
_EGRESS_KEEPS_OUT = (*_GATEWAY_KEEPS_OUT, *_EXECUTOR_KEEPS_OUT)


@dataclass(frozen=True)
class WorkerPlan:
    """What to run."""

    configuration: Configuration
    """Of all processes, complete."""
    read_token: Callable[[], str]
    """Called at each start of the gateway, so that a replaced token counts; raises `click.ClickException`."""
    users: Users | None = None
    """Of gateway and executor; None: whose we are."""

    @property
    def runs_engine(self) -> bool:
        """Whether the supervisor runs Podman's service: as root on Linux, unless another one is to be used."""
        is_root = os.geteuid() == 0 and sys.platform == "linux"
        return is_root and self.users is None and self.configuration.get("engineSocket") is None

    def children(self) -> "tuple[_Child, _Child, _Child]":
        """Return the processes in the order of their start, the gateway last."""
        told: dict[str, object] = {"engineService": not self.runs_engine, "withEgress": True}
        if self.users is not None:
            told["executorUid"] = self.users.executor.uid
        configuration = self.configuration.with_values(told, "the supervisor")
        if self.users is None:
            egress = _Child("egress", configuration, _without(_EGRESS_KEEPS_OUT))
            executor = _Child("executor", configuration, _without(_EXECUTOR_KEEPS_OUT))
            gateway = _Child("gateway", configuration, _without(_GATEWAY_KEEPS_OUT), read_token=self.read_token)
            return egress, executor, gateway
        egress = _Child("egress", configuration, plain_environment(os.environ))  # becomes another user by itself
        # A rootless Podman needs newuidmap, which becomes root for it: only where none is to be started, nobody may.
        own_podman = configuration.get("engineSocket") is None and configuration.get("runtime") != "docker"
        executor = _Child(
            "executor",
            configuration,
            self.users.executor_environment(os.environ),
            user=self.users.executor,
            may_gain_privileges=own_podman,
        )
        gateway = _Child(
            "gateway",
            configuration,
            self.users.gateway_environment(os.environ),
            read_token=self.read_token,
            user=self.users.gateway,
        )
        return egress, executor, gateway


class _Ended(Exception):
    """A child ended in a way that a restart does not mend."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def supervise(plan: WorkerPlan, ready: Callable[[], None]) -> int:
    """Run the worker until SIGTERM or SIGINT, or until it cannot go on; returns the exit code.

    The gateway is stopped before the executor, so that answers of work that is just ending still go out. DevBoxes have
    no way out until the worker is back. A second signal ends all at once. Where work was cut short the exit code is 5.

    ``ready`` is called when all are on their way.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    _hand_down_nothing()
    children = plan.children()
    if plan.users is not None:
        log.info("the gateway runs as user %s, the executor as %s", plan.users.gateway.name, plan.users.executor.name)
    elif os.geteuid() == 0:
        log.warning("%s; --gateway-user and --executor-user give each its own", cost(root=True))
    code = 0
    try:
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(child.keep_running(), name=child.name) for child in children]
            if plan.runs_engine:
                directory = plan.configuration.get("dataDir") / "engine"
                directory.mkdir(mode=0o700, exist_ok=True)
                engine = EngineService(
                    directory=directory,
                    runtime=plan.configuration.get("runtime"),
                    podman_path=plan.configuration.get("podmanPath"),
                )
                keeping.append(group.create_task(engine.run(), name="engine-service"))
            ready()
            await stop.wait()
            log.info("stopping; DevBoxes go on")
            stop.clear()
            hurry = group.create_task(stop.wait(), name="second signal")
            for child in reversed(children):
                if not await child.stop(hurry):
                    code = ExitCode.CUT_SHORT
            for task in (*keeping, hurry):
                task.cancel()
    except* _Ended as ended:
        first = ended.exceptions[0]
        code = first.code if isinstance(first, _Ended) else 1
    return code


class _Child:
    """One of the processes: started, restarted with backoff, stopped."""

    def __init__(
        self,
        name: Process,
        configuration: Configuration,
        environment: Mapping[str, str],
        *,
        read_token: Callable[[], str] | None = None,
        user: User | None = None,
        may_gain_privileges: bool = False,
    ) -> None:
        self.name = name
        self._configuration = configuration
        self._environment = environment
        self._read_token = read_token
        self._user = user
        self._may_gain_privileges = may_gain_privileges or user is None
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def keep_running(self) -> None:
        """Run the process again and again; raises `_Ended` when that makes no sense. Kills it when cancelled."""
        failures = 0
        loop = asyncio.get_running_loop()
        while not self._stopping:
            started = loop.time()
            code = await self._run_once()
            if self._stopping:
                return
            if code in _FINAL:
                log.error("the %s ended with exit code %d; see above for what to do", self.name, code)
                raise _Ended(code)
            failures = 1 if loop.time() - started > _HEALTHY_S else failures + 1
            delay_s = _BACKOFF_S[min(failures, len(_BACKOFF_S)) - 1]
            log.warning("the %s ended with exit code %d; starting it again in %.0f s", self.name, code, delay_s)
            await asyncio.sleep(delay_s)

    async def stop(self, hurry: asyncio.Task[bool]) -> bool:
        """Ask the process to end and wait; kill it after a deadline, or at once when hurried.

        Returns whether it ended by itself with nothing cut short.
        """
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return True
        process.terminate()
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(process.wait(), name=f"{self.name} ends")
            await asyncio.wait((ended, hurry), timeout=_STOP_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                log.warning("the %s did not stop in time and is killed", self.name)
                process.kill()
        return process.returncode == 0

    async def _run_once(self) -> int:
        command = program.command(self.name, "--handed-over")
        # Whoever kills the supervisor must not leave its children behind. And nothing of ours ever runs as root that is
        # another user's: setpriv becomes that user, for good, and then our program.
        options = ["--pdeathsig", "TERM", *(self._user.setpriv_options if self._user else ())]
        if not self._may_gain_privileges:
            options.append("--no-new-privs")
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, *options, *command]
        elif self._user is not None:
            raise _Ended(ExitCode.MISCONFIGURED)  # it was there at the start
        configuration, token = self._configuration, None
        outputs = [_terminal_to_write_on(stream) if self._user else None for stream in (sys.stdout, sys.stderr)]
        try:
            if self._read_token is not None:
                token = _pipe(self._token())
                if self._user is not None:
                    os.fchown(token, self._user.uid, self._user.gid)  # or it could not be opened by its path
                configuration = configuration.with_values({"tokenFile": f"/dev/fd/{token}"}, "the supervisor")
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=outputs[0],
                stderr=outputs[1],
                env=self._environment,
                pass_fds=() if token is None else (token,),
                # A session of its own: Ctrl-C reaches the supervisor, which stops them in order.
                start_new_session=True,
                cwd="/" if self._user else None,
            )
        finally:
            for descriptor in (token, *outputs):
                if descriptor is not None:
                    os.close(descriptor)
        try:
            await _hand_over(self._process, configuration.to_json(self.name))
            return await self._process.wait()
        finally:
            # Only when this task is cancelled: the other process cannot go on. Bounded, so it may wait.
            await _end(self._process)

    def _token(self) -> str:
        assert self._read_token is not None  # noqa: S101 - asked before
        try:
            return self._read_token()
        except click.ClickException as error:
            log.error("%s", error.message)  # noqa: TRY400 - a sentence, not a traceback
            raise _Ended(ExitCode.MISCONFIGURED) from None


def _without(names: Sequence[str]) -> dict[str, str]:
    """Return our environment without settings of ours, and without what is not for one of the processes."""
    return {key: value for key, value in without_ours(os.environ).items() if key not in names}


def _hand_down_nothing() -> None:
    """Have no child inherit what we were started with: not every event loop closes it, and a child may be no root."""
    with suppress(OSError):
        for descriptor in os.listdir("/dev/fd"):  # noqa: PTH208 - short, and before the loop has work
            if int(descriptor) > 2:
                with suppress(OSError):  # the one that listed them
                    os.set_inheritable(int(descriptor), False)


def _terminal_to_write_on(stream: TextIO) -> int | None:
    """Open the terminal that this writes to, if it is one, for writing alone: on ours, what is typed could be read."""
    try:
        return os.open(os.ttyname(stream.fileno()), os.O_WRONLY | os.O_NOCTTY)
    except OSError:
        return None


def _pipe(token: str) -> int:
    """Return the reading end of a pipe that holds a token; pipes take far more without a reader."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write(token)
    return reading


async def _hand_over(process: asyncio.subprocess.Process, configuration: str) -> None:
    """Write a process's configuration to its standard input."""
    assert process.stdin is not None  # noqa: S101 - asked for above
    with suppress(ConnectionError):  # it ended already; its exit code tells
        process.stdin.write(configuration.encode())
        await process.stdin.drain()
    process.stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process that may run: ask, wait, kill."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
