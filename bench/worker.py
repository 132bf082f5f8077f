"""Our side: a real executor process, and one real gateway process for each way an orchestrator may speak."""

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.contender import Terminal
from bench.engine import Api, Engine, EngineFailed
from bench.orchestrator import TENANT, Link, Orchestrator, Session

IMAGE = "localhost/devbox:latest"
STOP_S = 20.0


class WorkerFailed(Exception):
    """One of the two processes did not come up."""


class Worker:
    """The processes; they and their DevBox end with the ``async with`` block."""

    def __init__(self, engine: Engine, orchestrator: Orchestrator, directory: Path) -> None:
        self._engine = engine
        self._orchestrator = orchestrator
        self._directory = directory
        self._data = directory / "data"
        self._gateways: dict[str, subprocess.Popen[bytes]] = {}

    async def __aenter__(self) -> Self:
        self._token = self._directory / "token"
        self._token.write_text("bench\n")
        self._token.chmod(0o600)
        self._executor = self._start(
            "executor", "--tenants", TENANT, "--data-dir", str(self._data), "--engine-socket", str(self._engine.socket)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in (*self._gateways.values(), self._executor):
            await asyncio.to_thread(_stop, process)
        with suppress(FileNotFoundError):
            label = f"io.clustercode.install={(self._data / 'install').read_text().strip()}"
            with Api(self._engine) as api:
                for container in api.containers(label):
                    api.call("DELETE", f"/containers/{container['Id']}?force=true&v=true")
                for volume in (api.call("GET", "/volumes") or {}).get("Volumes") or []:
                    if label.split("=")[1] == (volume.get("Labels") or {}).get("io.clustercode.install"):
                        with suppress(EngineFailed):
                            api.call("DELETE", f"/volumes/{volume['Name']}?force=true")

    @property
    def executor_pid(self) -> int:
        """The executor's process."""
        return self._executor.pid

    def gateway_pid(self, path: str) -> int:
        """The process of the gateway that dialed this path."""
        return self._gateways[path].pid

    async def connect(self, path: str, port: int | None = None) -> Link:
        """Start a gateway that dials this path of the orchestrator, perhaps through another port; return its link."""
        self._gateways[path] = self._start(
            "gateway", "--url", f"ws://127.0.0.1:{port or self._orchestrator.port}{path}", "--tenant", TENANT,
            "--token-file", str(self._token), "--worker-id", f"bench{path.replace('/', '-')}",
            "--executor-socket", str(self._data / "rpc" / "executor.sock"),
        )  # fmt: skip
        try:
            return await self._orchestrator.link(path)
        except TimeoutError:
            logs = [path.read_text(errors="replace")[-1500:] for path in sorted(self._directory.glob("*.log"))]
            raise WorkerFailed("\n".join(["the worker did not connect; its logs end with", *logs])) from None

    async def disconnect(self, path: str) -> None:
        """End a gateway."""
        await asyncio.to_thread(_stop, self._gateways.pop(path))

    async def create_box(self, link: Link) -> tuple[str, str]:
        """Create the DevBox; return its id and its container's."""
        answer: dict[str, Any] = {}
        deadline = time.monotonic() + 30
        while True:
            answer = await link.request("DevBox.create", {"tenantId": TENANT, "name": "bench", "image": IMAGE})
            if answer["devbox"]["state"] == "running" or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        box = str(answer["devbox"]["id"])
        with Api(self._engine) as api:
            (container,) = api.containers(f"io.clustercode.devbox={box}")
        return box, str(container["Id"])

    def _start(self, role: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._directory / f"{role}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "clustercode", role, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class OurPath:
    """Our whole path as a contender: orchestrator, gateway, executor, engine."""

    def __init__(self, worker: Worker, link: Link, path: str, devbox_id: str) -> None:
        self.name = f"our path, {link.dialect}"
        self._worker = worker
        self._link = link
        self._path = path
        self._devbox_id = devbox_id

    async def open(self, argv: list[str]) -> Terminal:
        """See `Contender`."""
        session: Session = await self._link.open(self._devbox_id, argv)
        await session.ready()
        return session

    def server_pids(self) -> list[int]:
        """See `Contender`."""
        return [self._worker.gateway_pid(self._path), self._worker.executor_pid]
