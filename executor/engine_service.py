"""Where the engine is: finds a live socket, or runs ``podman system service`` and keeps it running.

The service is started by whoever has the right: the executor for its own rootless engine, the supervisor as root.
"""

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from executor.engine_places import candidate_sockets, install_advice, may_start_service, start_advice
from protos.errors import Unavailable

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 20.0
_LOOK_AGAIN_S = 2.0
_PROBE_TIMEOUT_S = 1.0
_STOP_TIMEOUT_S = 5.0
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


async def detected_engines(podman_path: str, environ: Mapping[str, str], uid: int) -> list[str]:
    """Return which engines this machine has: a program that can be started, or a socket that answers."""
    engines = []
    if shutil.which(podman_path) or await first_live(candidate_sockets("podman", environ, uid, sys.platform)):
        engines.append("podman")
    if await first_live(candidate_sockets("docker", {"HOME": environ.get("HOME", "")}, uid, sys.platform)):
        engines.append("docker")
    return engines


def no_docker() -> tuple[str, str]:
    """Return what is wrong where no socket of Docker's answers, and what mends it."""
    if shutil.which("docker") is None and shutil.which("dockerd") is None:
        return "Docker is not installed", "Install Docker and start it, or use Podman (--podman)"
    return "Docker does not answer on its socket", f"{start_advice('docker', sys.platform)}; or use Podman (--podman)"


async def first_live(paths: Iterable[Path]) -> Path | None:
    """Return the first of the Unix sockets that accepts a connection."""
    for path in paths:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_unix_connection(path)
        except (OSError, TimeoutError):
            continue
        writer.close()
        return path
    return None


class EngineService:
    """Keeps an engine's socket at hand while `run` runs: an engine that is there, else Podman's service as a child.

    ``directory`` takes the service's socket and is its working directory (Podman leaves files there on OOM).
    """

    def __init__(
        self,
        *,
        directory: Path,
        runtime: Literal["podman", "docker"] | None = None,
        fixed: Path | None = None,
        podman_path: str = "podman",
        environ: Mapping[str, str] | None = None,
        starts: bool = True,
    ) -> None:
        self._directory = directory
        self._runtime = runtime
        self._fixed = fixed
        self._podman_path = podman_path
        self._environ = os.environ if environ is None else environ
        self._starts = starts
        self._own = directory / "podman.sock"
        # Our own service's socket counts too: the supervisor may run that service, or an earlier executor did.
        candidates = candidate_sockets(runtime, self._environ, os.getuid(), sys.platform)
        own = [] if runtime == "docker" else [self._own]
        self._places = [fixed] if fixed else [*candidates, *own]
        self._socket: Path | None = None
        self._reason = "The container engine is not ready yet."
        self._ready = asyncio.Event()

    def locate(self) -> Path:
        """Return the engine's socket; raises `Unavailable` with what to do."""
        if self._socket is None:
            raise Unavailable(self._reason)
        return self._socket

    async def engines(self) -> list[str]:
        """Return which engines this machine has."""
        return await detected_engines(self._podman_path, self._environ, os.getuid())

    async def ready(self, timeout_s: float | None = None) -> None:
        """Wait until there is a socket, at most ``timeout_s`` if given; what is missing then, `locate` says."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), timeout_s)

    async def run(self) -> None:
        """Find or start the engine, again and again, until cancelled; then stop what was started."""
        failures = 0
        while True:
            found = await first_live(self._places)
            if found is not None:
                self._set(found)
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            self._socket = None
            program = shutil.which(self._podman_path) if self._may_start() else None
            if program is None:
                self._reason = self._advice()
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            started = asyncio.get_running_loop().time()
            await self._run_podman(program)
            lived = asyncio.get_running_loop().time() - started
            failures = 0 if lived > _BACKOFF_S[-1] else failures + 1
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S)) - 1] if failures else 0)

    def _may_start(self) -> bool:
        return self._starts and self._fixed is None and may_start_service(self._runtime, sys.platform)

    def _advice(self) -> str:
        if self._fixed is not None and self._fixed.exists() and not os.access(self._fixed, os.W_OK):
            return (
                f"This user (id {os.getuid()}) may not use the engine's socket {self._fixed}: give the socket a group "
                "and mode 0660, and the user that group."
            )
        if self._fixed is not None:
            return f"No container engine answers on {self._fixed}: start it, or correct ENGINE_SOCKET."
        if self._runtime == "docker":
            return "{}. {}.".format(*no_docker())
        installed = shutil.which(self._podman_path) is not None
        if installed and not may_start_service(self._runtime, sys.platform):
            return f"Podman does not answer on its socket. {start_advice('podman', sys.platform)}."
        if installed and not self._starts:
            return "The container engine has not opened its socket yet; whoever starts it may still be at it."
        return (
            f"There is no container engine: {self._podman_path!r} is not installed and no engine's socket answers. "
            f"{install_advice(sys.platform)}."
        )

    def _set(self, path: Path) -> None:
        if path != self._socket:
            log.info("engine socket %s", path)
        self._socket = path
        self._ready.set()

    async def _run_podman(self, program: str) -> None:
        """Run one service until it ends."""
        self._own.unlink(missing_ok=True)
        command = [program, "system", "service", "--time=0", f"unix://{self._own}"]
        # A supervisor or executor that is killed must not leave the service behind.
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "TERM", *command]
        log.info("starting %s system service", program)
        service = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._directory,
            start_new_session=True,  # Ctrl-C is for us: we stop it in order
        )
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._announce(), name="engine-service-start")
                last_words = await _last_words(service)
                watch.cancel()
            code = await service.wait()
            self._reason = f"Podman's service ended with exit code {code}: {last_words or 'it said nothing'}"
            log.warning("%s", self._reason)
        finally:
            self._socket = None
            self._ready.clear()
            await _stop(service)

    async def _announce(self) -> None:
        """Wait for the service's socket, then give it out."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while not await first_live([self._own]):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self._reason = f"Podman's service has not opened its socket within {_START_TIMEOUT_S:.0f} s."
            return
        self._set(self._own)


async def _last_words(service: asyncio.subprocess.Process) -> str:
    """Read what the service says on standard error until it ends; keep the last line."""
    assert service.stderr is not None  # noqa: S101 - asked for above
    said = b""
    while data := await service.stderr.read(4096):
        said = (said + data)[-4096:]
    lines = said.strip().splitlines()
    return (lines[-1] if lines else b"").decode(errors="replace")[:500]


async def _stop(service: asyncio.subprocess.Process) -> None:
    if service.returncode is not None:
        return
    service.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await service.wait()
    except TimeoutError:
        service.kill()
        await service.wait()
