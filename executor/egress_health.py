"""Whether DevBoxes have a way out: the egress process is asked over its own socket. For containers."""

import json
import socket
from pathlib import Path

_MAX_LINE_BYTES = 4096


def is_open(control: Path, timeout_s: float) -> bool:
    """Return whether the egress process behind this socket says that Squid serves."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(timeout_s)
        try:
            asking.connect(str(control))
            with asking.makefile("rb") as told:
                return bool(json.loads(told.readline(_MAX_LINE_BYTES))["state"] == "")
        except (OSError, ValueError, KeyError, TypeError):
            return False
