"""RPCs of events: unpack, call, pack."""

from collections.abc import AsyncIterator

from executor.rpc import DRAINING, Context, Rpcs, refusing
from executor.watchlist import Kind
from protos import executor_pb2 as pb

_KINDS: dict[Kind, pb.DevBoxEventKind] = {
    "died": pb.DEV_BOX_EVENT_KIND_DIED,
    "oom": pb.DEV_BOX_EVENT_KIND_OOM,
    "removed": pb.DEV_BOX_EVENT_KIND_REMOVED,
    "over-quota": pb.DEV_BOX_EVENT_KIND_OVER_QUOTA,
    "egress-denied": pb.DEV_BOX_EVENT_KIND_EGRESS_DENIED,
}


class EventRpcs(Rpcs):
    """Watch events, acknowledge them."""

    async def WatchEvents(  # noqa: N802
        self,
        request: pb.WatchEventsRequest,
        context: Context,
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Tell what happens to the DevBoxes of all tenants served."""
        async with refusing(context):
            if self.draining:
                raise DRAINING
            with self.parts.events.watching() as watcher:
                await context.send_initial_metadata(())  # from here on nothing is missed
                while (event := await watcher.next()) is not None:
                    yield pb.WatchEventsResponse(
                        devbox_id=event.devbox_id,
                        tenant_id=event.tenant,
                        kind=_KINDS[event.kind],
                        detail=event.detail,
                        host=event.host,
                        event_id=event.event_id,
                    )
                    if not request.acknowledges:
                        self.parts.events.acknowledge(event.event_id)

    async def AcknowledgeEvents(  # noqa: N802
        self, request: pb.AcknowledgeEventsRequest, context: Context
    ) -> pb.AcknowledgeEventsResponse:
        """Forget what arrived."""
        async with refusing(context):
            self.parts.events.acknowledge(request.event_id)
            return pb.AcknowledgeEventsResponse()
