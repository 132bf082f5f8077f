"""The audit log: who asked what, for which tenant, of which DevBox, and what came of it. Never contents.

JSON lines in ``DATA_DIR/audit``, a directory that only the executor's user can enter, so the gateway cannot change what
was written of it. Append-only; the file is rotated by size, and the oldest goes when there are too many.
"""

import json
import logging
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

log = logging.getLogger(__name__)

MAX_BYTES = 16 * 1024 * 1024
MAX_FILES = 8

Who = Literal["gateway", "owner", "executor"]
"""By whose socket an RPC came; the executor for what it does unasked."""

_PLAIN = re.compile(r"[\x21-\x7e]{1,128}")
NOT_PLAIN = "(not an id)"
"""Stands for whatever was sent as an id and is none: it could be anything."""


class Audit:
    """The log, open for appending while the executor runs."""

    def __init__(self, directory: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
        self._path = directory / "audit.jsonl"
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._lost = 0
        self._file = self._open()
        self._bytes = os.fstat(self._file).st_size

    def note(self, *, who: Who, tenant: str, rpc: str, subject: str, verdict: str, session: str = "") -> None:
        """Write a line; ``session`` is the terminal or display that it is about, and in no other line.

        A full disk loses it, which is logged: nobody must be kept from stopping a DevBox by that.
        """
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "who": who,
            "tenant": _plain(tenant),
            "rpc": rpc,
            "id": _plain(subject),
            "verdict": verdict,
        }
        if session:
            line["session"] = _plain(session)
        if self._lost:
            line["lostBefore"] = str(self._lost)
        data = (json.dumps(line) + "\n").encode()
        try:
            if self._bytes + len(data) > self._max_bytes:
                self._rotate()
            written = os.write(self._file, data)
            self._bytes += written
            if written < len(data):  # a disk that filled up within the line: what follows begins a new one
                os.write(self._file, b"\n")
        except OSError as error:
            self._lost += 1
            if self._lost == 1:
                log.error("the audit log cannot be written: %s", error.strerror)  # noqa: TRY400 - a sentence
            return
        self._lost = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _rotate(self) -> None:
        for number in range(self._max_files - 1, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            with suppress(FileNotFoundError):
                older.rename(self._numbered(number))
        fresh = self._open()
        os.close(self._file)
        self._file, self._bytes = fresh, 0

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _plain(text: str) -> str:
    return text if not text or _PLAIN.fullmatch(text) else NOT_PLAIN
