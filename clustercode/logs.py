"""How this program logs on standard error: lines for people on a terminal, else one JSON object a line."""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from protos.request_id import REQUEST_ID

Form = Literal["auto", "text", "json"]

_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}
"""The names that log readers of this product know (Go's slog), where Python has others."""
_COLOURS = {"WARN": "\x1b[33m", "ERROR": "\x1b[31m"}
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""What every record has; all else are fields of its own, given as ``extra``."""
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


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
        handler.setFormatter(ForPeople(process, colours=sys.stderr.isatty() and not os.environ.get("NO_COLOR")))
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_crash
    # A line per frame would bury ours, and may hold what was typed.
    for library in ("websockets", "asyncio", "grpc"):
        logging.getLogger(library).setLevel(logging.WARNING)


class ForPeople(logging.Formatter):
    """``time process level message``, and the id of the command where the line belongs to one."""

    def __init__(self, process: str, *, colours: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._process = process
        self._colours = colours

    def usesTime(self) -> bool:  # noqa: N802 - logging's
        """Have the time made."""
        return True

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's
        """Return the line; what a peer has put into it cannot steer the terminal."""
        level = _level(record)
        shown = f"{level:<5}"
        if self._colours and level in _COLOURS:
            shown = f"{_COLOURS[level]}{shown}\x1b[0m"
        line = f"{record.asctime} {self._process:<8} {shown} {record.message.translate(_UNPRINTABLE)}"
        request = REQUEST_ID.get()
        return f"{line} [{request}]" if request else line

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - logging's
        """Return a traceback, of which the same holds."""
        return "\n".join(line.translate(_UNPRINTABLE) for line in super().formatException(ei).split("\n"))


class JsonLines(logging.Formatter):
    """``time`` (RFC 3339), ``level``, ``msg``, ``process``, ``request`` where there is one, and fields of the line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": _level(record),
            "msg": record.getMessage(),
            "process": self._process,
        }
        if request := REQUEST_ID.get():
            line["request"] = request
        line |= {key: value for key, value in record.__dict__.items() if key not in _PLAIN and key not in line}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _level(record: logging.LogRecord) -> str:
    return _LEVELS.get(record.levelname, record.levelname)


def _log_crash(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        logging.getLogger(__name__).critical("This is a defect", exc_info=(kind, error, traceback))
