"""RPCs of events: unpack, call, pack."""

from executor.rpc import Rpcs


class EventRpcs(Rpcs):
    """RPCs of events."""
