"""The displays of DevBoxes: started when first opened, and the viewers that look at them.

A display is a VNC server in the box on a Unix socket of the box: no port, no network. It lives until the box stops,
whatever becomes of the executor, which remembers nothing of it and finds it by that socket. A viewer is a relay in
the box, an exec whose standard streams are an RFB connection, and ends with the connection that opened it.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from pathlib import Path

from executor.config import DisplayLimits
from executor.devbox import DevBox
from executor.devboxes import DevBoxes
from executor.display import DisplayViewer
from executor.engine import Engine
from executor.exec_command import run_command
from executor.exec_stream import ExecStream
from executor.processes import MARKER_VARIABLE, kill_marked, new_marker
from executor.requests import ExecDevBox, OpenDisplay
from executor.secret_env import SecretEnv
from protos.errors import DeadlineExceeded, FailedPrecondition, Refusal, ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

DISPLAY_IMAGE = "localhost/devbox-display:latest"
"""The image of ours that has a display, for those who ask for one where there is none."""

_SCRIPT = Path(__file__).with_name("display.sh").read_text(encoding="utf-8")
_LACKS_PROGRAM, _DID_NOT_START = 3, 4
_START_TIMEOUT_S = 30.0
_RELAY = ("socat", "-b65536", "-", "UNIX-CONNECT:/tmp/.clustercode-display/vnc.sock")
_HANG_UP_S = 2.0
"""How long a relay has to end by itself once its input has ended."""


class Displays:
    """The registry of viewers. Its work runs in the executor's task group, so that it outlives the connections."""

    def __init__(
        self,
        engine: Engine,
        devboxes: DevBoxes,
        secret_env: SecretEnv,
        tasks: asyncio.TaskGroup,
        *,
        limits: DisplayLimits,
        check_quota: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._devboxes = devboxes
        self._secret_env = secret_env
        self._tasks = tasks
        self._limits = limits
        self._check_quota = check_quota
        self._leaving: dict[DisplayViewer, asyncio.Event] = {}

    def __len__(self) -> int:
        return len(self._leaving)

    def count(self, tenant: str) -> int:
        """Return how many viewers a tenant has."""
        return sum(viewer.tenant == tenant for viewer in self._leaving)

    async def open(self, request: OpenDisplay) -> DisplayViewer:
        """Connect a viewer to a DevBox's display, starting the display first where it does not run.

        Raises `FailedPrecondition` for a DevBox without a display, `ResourceExhausted` for one viewer too many.
        """
        box = await self._devboxes.get_running(request.tenant, request.devbox_id)
        if not box.display:
            raise FailedPrecondition(
                f"The image of {box.name}, {box.image}, has no display: create a DevBox from {DISPLAY_IMAGE}."
            )
        if len(self._leaving) >= self._limits.max_viewers:
            raise ResourceExhausted(
                f"At most {self._limits.max_viewers} viewers look at displays of this worker: close some."
            )
        self._check_quota(request.tenant)
        viewer = DisplayViewer(
            session_id=f"d-{secrets.token_hex(8)}",
            tenant=request.tenant,
            devbox_id=box.id,
            window_bytes=request.window_bytes or self._limits.window_bytes,
        )
        # Taken before the first wait, so that the bound above holds however many open at once.
        self._leaving[viewer] = asyncio.Event()
        try:
            await self._ensure_started(box, request)
        except BaseException:
            del self._leaving[viewer]
            raise
        marker = new_marker("viewer")
        try:
            exec_id = await self._engine.create_exec(box.container, _RELAY, env={MARKER_VARIABLE: marker})
            stream = await self._engine.start_exec(exec_id, viewer, tty=False)
        except BaseException:
            # It may have started nevertheless.
            self._tasks.create_task(self._kill(viewer, box.container, marker), name="kill a display's relay")
            raise
        viewer.connect(stream)
        self._tasks.create_task(self._live(viewer, stream, box.container, marker), name=f"display {viewer.session_id}")
        log.info("display %s of DevBox %s opened", viewer.session_id, box.id)
        return viewer

    def leave(self, viewer: DisplayViewer) -> None:
        """Note that a viewer is gone: its relay ends. Safe to repeat."""
        if leaving := self._leaving.get(viewer):
            leaving.set()

    def close_all(self) -> None:
        """End all viewers; the displays go on."""
        for viewer, leaving in self._leaving.items():
            viewer.finish("The worker is shutting down.")
            leaving.set()

    async def _ensure_started(self, box: DevBox, request: OpenDisplay) -> None:
        command = ExecDevBox(
            tenant=request.tenant,
            devbox_id=box.id,
            argv=("/bin/sh", "-c", _SCRIPT, "sh", f"{request.width}x{request.height}", new_marker("display")),
            max_output_bytes=1000,
            timeout_ms=round(_START_TIMEOUT_S * 1000),
        )
        try:
            result = await run_command(
                self._engine, box.container, command, {}, None, await self._secret_env.prefix(box)
            )
        except DeadlineExceeded:
            raise Unavailable(f"The display of {box.name} did not start in time: try again.") from None
        if result.exit_code == 0:
            return
        said = _printable(result.stdout or result.stderr)
        if result.exit_code == _LACKS_PROGRAM:
            raise FailedPrecondition(f"The image of {box.name} says that it has a display, but it lacks {said}.")
        raise FailedPrecondition(f"The display of {box.name} did not start (exit code {result.exit_code}): {said}")

    async def _live(self, viewer: DisplayViewer, stream: ExecStream, container: str, marker: str) -> None:
        """See a viewer through: when it leaves, or its relay ends, nothing of it is left in the box."""
        try:
            await self._either(viewer.ended_event, self._leaving[viewer])
            if not viewer.ended_event.is_set():
                viewer.finish("The display was closed.")
                stream.write_eof()
                try:
                    async with asyncio.timeout(_HANG_UP_S):
                        await viewer.ended_event.wait()
                except TimeoutError:
                    await self._kill(viewer, container, marker)
            log.info("display %s of DevBox %s closed", viewer.session_id, viewer.devbox_id)
        finally:
            stream.close()
            self._leaving.pop(viewer, None)

    async def _either(self, *events: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(event.wait(), name="display-event") for event in events]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in waits:
                task.cancel()

    async def _kill(self, viewer: DisplayViewer, container: str, marker: str) -> None:
        """Kill a relay that does not end by itself; what cannot be killed is logged and dies with its DevBox."""
        try:
            await kill_marked(self._engine, container, marker, scope="tree")
        except Refusal as refusal:
            log.warning("display %s: %s", viewer.session_id, refusal.message)
        finally:
            self._leaving.pop(viewer, None)


def _printable(text: bytes) -> str:
    """Return what a box said, as one line without control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text.decode(errors="replace")).split())[
        :500
    ]
