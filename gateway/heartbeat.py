"""What the worker tells of itself: `worker.register` once per connection, `worker.heartbeat` every 10 seconds.

A change of its status is told between: an orchestrator sends nothing to where it is not taken.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from gateway import answers
from gateway.config import GatewayConfig
from gateway.errors import ExecutorUntrusted
from gateway.executor_client import ExecutorClient
from gateway.machine import Machine
from protos import executor_pb2 as pb
from protos import wire
from protos.errors import Refusal

log = logging.getLogger(__name__)

INTERVAL_S = 10.0  # fixed by the protocol
POLL_AHEAD_S = 2.0
"""The executor is asked this long before each heartbeat, so that a slow answer does not delay it."""

LOOK_S = 2.0
"""So often between two heartbeats it is looked whether the status changed."""

ENGINE_POLL_S = 0.5
"""The executor is asked so often while it has not named an engine: it starts, or its engine does."""

MAX_DEVBOXES = 1000
"""In a register: it is one message, and bounded like any other. ``DevBox.list-all`` has them all."""

CAPABILITIES = [wire.CAPABILITY_ACK]
"""What this worker can do beyond the user's protocol; binary frames are negotiated as a subprotocol."""


class Status:
    """The executor's status as last heard, and whether it answers now. Lives as long as the gateway."""

    def __init__(self, executor: ExecutorClient, config: GatewayConfig, machine: Machine) -> None:
        self._executor = executor
        self._config = config
        self._machine = machine
        self._last = pb.GetStatusResponse()
        self._away: Refusal | None = None
        self.stopping = False
        """This gateway is about to end."""

    async def refresh(self, timeout_s: float | None = None) -> None:
        """Ask the executor; with ``timeout_s``, wait so long for one that is starting. Raises `ExecutorUntrusted`."""
        try:
            if timeout_s is None:
                self._last = await self._executor.get_status()
            else:
                self._last = await self._executor.get_status(timeout_s, wait=True)
        except ExecutorUntrusted:
            raise
        except Refusal as refusal:
            self._missed(refusal)
        else:
            if self._away is not None:
                log.info("The executor answers again")
            self._away = None

    async def sessions(self) -> Sequence[pb.Session] | None:
        """Ask the executor for its sessions, None where it does not answer. Raises `ExecutorUntrusted`."""
        try:
            return await self._executor.list_sessions()
        except ExecutorUntrusted:
            raise
        except Refusal as refusal:
            self._missed(refusal)
            return None

    def _missed(self, refusal: Refusal) -> None:
        if self._away is None:
            log.warning("The executor does not answer: %s", refusal.message)
        self._away = refusal

    async def changes(self) -> bool:
        """Ask the executor briefly, and for all of it where something changed; say whether the status is another.

        Raises `ExecutorUntrusted`.
        """
        before, _ = self._condition()
        try:
            found = await self._executor.get_status(brief=True)
        except ExecutorUntrusted:
            raise
        except Refusal:
            same = self._away is not None
        else:
            heard, says = ((bool(status.engine_error), status.draining) for status in (self._last, found))
            same = self._away is None and heard == says
        if same:
            return False
        await self.refresh()
        return self._condition()[0] != before

    async def engine_found(self) -> None:
        """Ask the executor until it answers and has named an engine. Raises `ExecutorUntrusted`."""
        while not (self.executor_answers and self.engines):
            await asyncio.sleep(ENGINE_POLL_S)
            await self.refresh()

    @property
    def executor_answers(self) -> bool:
        """Whether the executor answered when it was asked last."""
        return self._away is None

    @property
    def engines(self) -> list[str]:
        """Engines found on the machine; empty until the executor answered for the first time."""
        return list(self._last.container_engines)

    def register(self, sessions: Sequence[pb.Session] | None, devboxes: Sequence[pb.DevBox]) -> wire.Register:
        """Return the first message of a connection.

        It names no engine where nobody said which sessions there are: with one it would say that there are none.
        """
        return wire.Register(
            name=self._config.worker_name,
            hostname=self._config.hostname,
            platform=self._machine.platform,
            cpu_count=self._machine.cpu_count,
            memory_total=self._machine.memory_total,
            container_engines=self.engines if sessions is not None else [],
            agent_version=self._config.agent_version,
            mode=self._config.mode,
            worker_id=self._config.worker_id,
            tenant_id=self._config.tenant_id,
            capabilities=CAPABILITIES,
            security_floor=answers.profile_name(self._last.security_floor),
            sessions=[
                wire.SessionState(
                    session_id=session.session_id,
                    tenant_id=session.tenant_id,
                    devbox_id=session.devbox_id,
                    base=session.base,
                    offset=session.end,
                    input_offset=session.input_offset,
                )
                for session in sessions or ()
            ],
            devboxes=[
                wire.RegisteredDevBox(id=box.id, tenant_id=box.tenant_id, name=box.name, state=answers.state_name(box))
                for box in devboxes[:MAX_DEVBOXES]
            ],
        )

    def heartbeat(self) -> wire.Heartbeat:
        """Return a heartbeat; while the executor is away, without its disk and with its last known count."""
        last, away = self._last, self._away is not None
        status, detail = self._condition()
        return wire.Heartbeat.model_validate(
            {
                "cpu_usage": self._machine.cpu_usage(),
                "memory_free": self._machine.memory_free(),
                "disk_total": last.disk_total if last.HasField("disk_total") and not away else None,
                "disk_free": last.disk_free if last.HasField("disk_free") and not away else None,
                "containers_running": last.containers_running,
                "gateway_status": status,
                "gateway_status_detail": detail,
            }
        )

    def _condition(self) -> tuple[str, str | None]:
        """Return the status, and where it is not "connected", a sentence."""
        if self.stopping:
            return "draining", "The worker is stopping: it takes nothing new, and finishes what it can."
        if self._away is not None:
            return "executor-unavailable", self._away.message
        if self._last.engine_error:
            return "engine-unavailable", self._last.engine_error
        if self._last.draining:
            return "draining", "Its machine's owner is emptying it: it takes no new DevBoxes."
        return "connected", None


async def beat(status: Status, send: Callable[[wire.Heartbeat], Awaitable[None]]) -> None:
    """Send a heartbeat at once, then every `INTERVAL_S` by the monotonic clock, without drift; never returns.

    One more goes out, and does not count, when the status changed meanwhile.
    """
    now = asyncio.get_running_loop().time
    due = now()
    while True:
        await send(status.heartbeat())
        due += INTERVAL_S
        while due <= now():  # The socket was stuck for longer than an interval: skip what was missed.
            due += INTERVAL_S
        while now() + LOOK_S < due - POLL_AHEAD_S:
            await asyncio.sleep(LOOK_S)
            if await status.changes():
                await send(status.heartbeat())
        await asyncio.sleep(due - POLL_AHEAD_S - now())
        await status.refresh()
        await asyncio.sleep(due - now())
