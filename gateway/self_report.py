"""How the connection is, told to the executor at every change and now and then: the machine's owner reads it there."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

from gateway.config import GatewayConfig
from gateway.executor_client import ExecutorClient
from gateway.uplink import Uplink
from protos import executor_pb2 as pb
from protos.errors import Refusal

INTERVAL_S = 10.0
RETRY_S = 2.0
"""After a report that did not arrive: an executor that comes back soon knows again."""

MAX_ERROR_CHARS = 1000


class SelfReport:
    """What this gateway says of itself. Lives as long as the gateway; nothing else depends on it."""

    def __init__(self, config: GatewayConfig, uplink: Uplink) -> None:
        self._uplink = uplink
        self._changed = asyncio.Event()
        self._report = pb.ReportGatewayRequest(orchestrator=config.orchestrator, worker_id=config.worker_id)
        self.dialing()

    def dialing(self) -> None:
        """Take note that it dials."""
        self._is(pb.CONNECTION_STATE_DIALING)

    def connected(self) -> None:
        """Take note that it is registered."""
        self._is(pb.CONNECTION_STATE_CONNECTED)

    def waiting(self) -> None:
        """Take note that it waits until it dials again."""
        self._is(pb.CONNECTION_STATE_WAITING)

    def failed(self, reason: str) -> None:
        """Take note of why a dial or a connection came to nothing."""
        shown = (char if char.isprintable() else " " for char in reason[:MAX_ERROR_CHARS])  # partly a peer's words
        self._report.last_error = "".join(shown)
        self._report.last_error_at = _now()

    async def tell(self, executor: ExecutorClient) -> None:
        """Tell the executor again and again; never returns."""
        while True:
            self._changed.clear()
            self._report.answers_waiting, self._report.answers_waiting_bytes = self._uplink.waiting
            try:
                await executor.report(self._report)
                pause_s = INTERVAL_S
            except Refusal:  # it is away
                pause_s = RETRY_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()

    def _is(self, state: pb.ConnectionState) -> None:
        connected = pb.CONNECTION_STATE_CONNECTED
        if not self._report.since or (state == connected) != (self._report.state == connected):
            self._report.since = _now()
        self._report.state = state
        self._changed.set()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
