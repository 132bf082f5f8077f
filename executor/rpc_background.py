"""RPCs of background commands: unpack, call, pack."""

from executor.rpc import Rpcs


class BackgroundRpcs(Rpcs):
    """RPCs of background commands."""
