"""``clustercode worker``: runs gateway, executor and egress as three processes and restarts each with backoff.

It alone reads configuration and token, and hands each process its part over inherited pipes: nothing of it is in an
argument or an environment. As root it also runs Podman's service, which later belongs to another user than the
executor.
"""

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import click

from clustercode.configuration import Configuration, without_ours
from clustercode.settings import Process
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

    @property
    def runs_engine(self) -> bool:
        """Whether the supervisor runs Podman's service: as root on Linux, unless an engine's socket is named."""
        return os.geteuid() == 0 and sys.platform == "linux" and self.configuration.get("engineSocket") is None


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
    told = {"engineService": not plan.runs_engine, "withEgress": True}
    configuration = plan.configuration.with_values(told, "the supervisor")
    gateway = _Child("gateway", configuration, keeps_out=_GATEWAY_KEEPS_OUT, read_token=plan.read_token)
    executor = _Child("executor", configuration, keeps_out=_EXECUTOR_KEEPS_OUT)
    egress = _Child("egress", configuration, keeps_out=_EGRESS_KEEPS_OUT)
    code = 0
    try:
        async with asyncio.TaskGroup() as group:
            children = (egress, executor, gateway)
            keeping = [group.create_task(child.keep_running(), name=child.name) for child in children]
            if plan.runs_engine:
                directory = configuration.get("dataDir") / "engine"
                directory.mkdir(mode=0o700, exist_ok=True)
                engine = EngineService(
                    directory=directory,
                    runtime=configuration.get("runtime"),
                    podman_path=configuration.get("podmanPath"),
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
        *,
        keeps_out: Sequence[str],
        read_token: Callable[[], str] | None = None,
    ) -> None:
        self.name = name
        self._configuration = configuration
        self._environment = {key: value for key, value in without_ours(os.environ).items() if key not in keeps_out}
        self._read_token = read_token
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
        # -P: not from the working directory, which may be a stranger's repository with a click.py of its own.
        command = [sys.executable, "-P", "-m", "clustercode", self.name, "--handed-over"]
        # Whoever kills the supervisor must not leave its children behind.
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "TERM", *command]
        configuration, token = self._configuration, None
        try:
            if self._read_token is not None:
                token = _pipe(self._token())
                configuration = configuration.with_values({"tokenFile": f"/dev/fd/{token}"}, "the supervisor")
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                env=self._environment,
                pass_fds=() if token is None else (token,),
                # A session of its own: Ctrl-C reaches the supervisor, which stops them in order.
                start_new_session=True,
            )
        finally:
            if token is not None:
                os.close(token)
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
