"""Events of DevBoxes on their way up.

The executor keeps each until it is acknowledged, and that is done once the orchestrator has read it. So nothing is kept
here: what a connection, or this process, took with it comes again on the next. One that had arrived all the same comes
twice then, under the same ``eventId``.
"""

import asyncio
import contextlib
import logging

from gateway.connection import Connection
from gateway.executor_client import ExecutorClient
from protos import executor_pb2 as pb
from protos import messages, wire
from protos.errors import Refusal

log = logging.getLogger(__name__)

RETRY_S = 1.0

_NAMES: dict[pb.DevBoxEventKind, str] = {
    pb.DEV_BOX_EVENT_KIND_DIED: "died",
    pb.DEV_BOX_EVENT_KIND_OOM: "oom",
    pb.DEV_BOX_EVENT_KIND_REMOVED: "removed",
    pb.DEV_BOX_EVENT_KIND_OVER_QUOTA: "over-quota",
    pb.DEV_BOX_EVENT_KIND_EGRESS_DENIED: "egress-denied",
}


class Events:
    """The events of one connection. Both tasks end with it, by `ConnectionClosed` or by cancellation."""

    def __init__(self, executor: ExecutorClient, connection: Connection) -> None:
        self._executor = executor
        self._connection = connection
        self._sent = asyncio.Event()
        self._sent_id = ""

    async def forward(self) -> None:
        """Send events as they come."""
        while True:
            try:
                async with contextlib.aclosing(self._executor.events()) as events:
                    async for event in events:
                        await self._send(event)
            except Refusal as refusal:
                log.debug("No events now: %s", refusal.message)
            await asyncio.sleep(RETRY_S)

    async def acknowledge(self) -> None:
        """Acknowledge what the orchestrator has read, as many at once as there are."""
        while True:
            await self._sent.wait()
            self._sent.clear()
            event_id = self._sent_id
            await self._connection.round_trip()
            try:
                await self._executor.acknowledge_events(event_id)
            except Refusal as refusal:  # it is away, or older than acknowledgements
                log.debug("Events not acknowledged: %s", refusal.message)

    async def _send(self, event: pb.WatchEventsResponse) -> None:
        name = _NAMES.get(event.kind)
        if name is None:
            log.warning("An event of a kind this version does not know: %d", event.kind)
        else:
            payload = wire.DevBoxEvent.model_validate(
                {
                    "tenant_id": event.tenant_id,
                    "devbox_id": event.devbox_id,
                    "event": name,
                    "detail": event.detail or None,
                    "host": event.host or None,
                    "event_id": event.event_id or None,
                }
            )
            await self._connection.send(messages.to_json("DevBox.event", payload))
        if event.event_id:
            self._sent_id = event.event_id
            self._sent.set()
