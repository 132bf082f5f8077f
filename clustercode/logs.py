"""How this program logs on standard error: lines for people on a terminal, else one JSON object a line."""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Literal

Form = Literal["auto", "text", "json"]

_LEVEL_NAMES = {"WARNING": "WARN", "CRITICAL": "ERROR"}
"""As the collectors and viewers of the Go agent's logs know them."""


class JsonLines(logging.Formatter):
    """One object a line: ``time`` (RFC 3339), ``level``, ``msg``, ``process``, and ``error`` with a traceback."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": _LEVEL_NAMES.get(record.levelname, record.levelname),
            "msg": record.getMessage(),
            "process": self._process,
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def set_up(process: str, level: str, form: Form = "auto") -> None:
    """Log to standard error; call once, before anything logs. ``auto``: JSON unless that is a terminal."""
    # gRPC's core writes lines of its own that say nothing to our users; its errors reach us as exceptions.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # We start programs with exec right after fork: gRPC's fork handlers are not needed, and they complain.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    handler = logging.StreamHandler()
    if form == "json" or (form == "auto" and not sys.stderr.isatty()):
        handler.setFormatter(JsonLines(process))
    else:
        lines = f"%(asctime)s {process:<10} %(levelname)-7s %(message)s"
        handler.setFormatter(logging.Formatter(lines, datefmt="%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
    # A line per frame would bury ours, and may hold what was typed.
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
