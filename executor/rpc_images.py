"""RPCs of images and their builds: unpack, call, pack."""

from executor.rpc import Rpcs


class ImageRpcs(Rpcs):
    """RPCs of images and their builds."""
