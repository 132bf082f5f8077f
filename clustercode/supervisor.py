"""``clustercode worker``: runs gateway and executor as two processes and restarts each with backoff.

It alone reads the token's file and hands the token to the gateway over an inherited pipe: it is in no argument and no
environment. As root it also runs Podman's service, which later belongs to another user than the executor.
"""

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from executor.engine_service import EngineService
from gateway.errors import ExitCode

log = logging.getLogger(__name__)

_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_HEALTHY_S = 60.0
_USAGE = 2
_FINAL = (_USAGE, ExitCode.TOKEN_REFUSED, ExitCode.MISCONFIGURED)
"""A restart changes nothing about these: hammering an orchestrator with a refused token helps nobody."""
_STOP_TIMEOUT_S = 15.0
_ENGINE_WAIT_S = 20.0
_MAX_TOKEN_BYTES = 16 * 1024

_GATEWAY_KEEPS_OUT = ("DOCKER_HOST", "CONTAINERS_CONF", "ENGINE_SOCKET", "CONTAINER_HOST")
_EXECUTOR_KEEPS_OUT = ("ORCHESTRATOR_WS_URL", "ORCHESTRATOR_TOKEN_FILE", "HTTPS_PROXY", "https_proxy")


@dataclass(frozen=True)
class WorkerPlan:
    """What to run."""

    data_dir: Path
    token_file: Path
    gateway_args: Sequence[str]
    executor_args: Sequence[str]
    runtime: Literal["podman", "docker"] | None
    podman_path: str
    engine_socket: Path | None


class _Ended(Exception):
    """A child ended in a way that a restart does not mend."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def supervise(plan: WorkerPlan) -> int:
    """Run the worker until SIGTERM or SIGINT, or until it cannot go on; returns the exit code.

    The gateway is stopped before the executor, so that answers of work that is just ending still go out. A second
    signal ends all at once.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gateway = _Child("gateway", plan.gateway_args, keeps_out=_GATEWAY_KEEPS_OUT, token_file=plan.token_file)
    runs_engine = os.geteuid() == 0 and plan.engine_socket is None
    executor_args = [*plan.executor_args, "--no-engine-service"] if runs_engine else plan.executor_args
    executor = _Child("executor", executor_args, keeps_out=_EXECUTOR_KEEPS_OUT)
    code = 0
    try:
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(child.keep_running(), name=child.name) for child in (executor, gateway)]
            if runs_engine:
                (plan.data_dir / "engine").mkdir(mode=0o700, exist_ok=True)
                engine = EngineService(
                    directory=plan.data_dir / "engine", runtime=plan.runtime, podman_path=plan.podman_path
                )
                keeping.append(group.create_task(engine.run(), name="engine-service"))
            await stop.wait()
            log.info("stopping; DevBoxes go on")
            stop.clear()
            hurry = group.create_task(stop.wait(), name="second signal")
            for child in (gateway, executor):
                await child.stop(hurry)
            for task in (*keeping, hurry):
                task.cancel()
    except* _Ended as ended:
        first = ended.exceptions[0]
        code = first.code if isinstance(first, _Ended) else 1
    return code


class _Child:
    """One of the two processes: started, restarted with backoff, stopped."""

    def __init__(
        self, name: str, arguments: Sequence[str], *, keeps_out: Sequence[str], token_file: Path | None = None
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = {key: value for key, value in os.environ.items() if key not in keeps_out}
        self._token_file = token_file
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

    async def stop(self, hurry: asyncio.Task[bool]) -> None:
        """Ask the process to end and wait; kill it after a deadline, or at once when hurried."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(process.wait(), name=f"{self.name} ends")
            await asyncio.wait((ended, hurry), timeout=_STOP_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                log.warning("the %s did not stop in time and is killed", self.name)
                process.kill()

    async def _run_once(self) -> int:
        command = [sys.executable, "-m", "clustercode", self.name, *self._arguments]
        # Whoever kills the supervisor must not leave its children behind.
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "TERM", *command]
        pipe = self._token_pipe()
        if pipe is not None:
            command += ["--token-file", f"/dev/fd/{pipe}"]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                env=self._environment,
                pass_fds=() if pipe is None else (pipe,),
                # A session of its own: Ctrl-C reaches the supervisor, which stops them in order.
                start_new_session=True,
            )
        finally:
            if pipe is not None:
                os.close(pipe)
        try:
            return await self._process.wait()
        finally:
            # Only when this task is cancelled: the other process cannot go on. Bounded, so it may wait.
            await _end(self._process)

    def _token_pipe(self) -> int | None:
        """Return the reading end of a pipe that holds the token, read anew so that a replaced file counts."""
        if self._token_file is None:
            return None
        try:
            with self._token_file.open("rb") as file:
                token = file.read(_MAX_TOKEN_BYTES)
        except OSError as error:
            log.error("the token file %s cannot be read: %s", self._token_file, error.strerror)  # noqa: TRY400
            raise _Ended(ExitCode.MISCONFIGURED) from None
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as pipe, suppress(BrokenPipeError):
            pipe.write(token)
        return reading


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
