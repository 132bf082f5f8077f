"""RPCs of setting a DevBox up: unpack, call, pack."""

from executor.rpc import Rpcs


class SetupRpcs(Rpcs):
    """RPCs of setting a DevBox up."""
