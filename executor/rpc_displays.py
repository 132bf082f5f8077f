"""RPCs of displays: unpack, call, pack."""

from executor.rpc import Rpcs


class DisplayRpcs(Rpcs):
    """RPCs of displays."""
