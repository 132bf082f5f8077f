"""Events of DevBoxes on their way up: one stream of the executor, held open while the executor is there."""

import asyncio
import contextlib
import logging

from gateway.executor_client import ExecutorClient
from gateway.uplink import Uplink
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


async def forward(executor: ExecutorClient, uplink: Uplink) -> None:
    """Send events as they come; without a connection they wait, bounded, with the answers. Never returns."""
    while True:
        try:
            async with contextlib.aclosing(executor.events()) as events:
                async for event in events:
                    await _send(uplink, event)
        except Refusal as refusal:
            log.debug("No events now: %s", refusal.message)
        await asyncio.sleep(RETRY_S)


async def _send(uplink: Uplink, event: pb.WatchEventsResponse) -> None:
    name = _NAMES.get(event.kind)
    if name is None:
        log.warning("An event of a kind this version does not know: %d", event.kind)
        return
    payload = wire.DevBoxEvent.model_validate(
        {
            "tenant_id": event.tenant_id,
            "devbox_id": event.devbox_id,
            "event": name,
            "detail": event.detail or None,
            "host": event.host or None,
        }
    )
    await uplink.deliver(f"event {name} of DevBox {event.devbox_id}", messages.to_json("DevBox.event", payload))
