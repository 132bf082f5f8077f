"""One worker for one data directory: whoever comes second is told who was first, before anything is dialled."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from clustercode.errors import Unusable
from executor.data_dir import LOCK_FILE, open_lock
from executor.owner import as_owner_of

_FILE = "worker.lock"
_EXECUTOR_WAIT_S = 15.0
"""An executor whose supervisor was killed needs so long to end."""


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Hold a data directory for this process; raises `Unusable` if another worker has it."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with as_owner_of(data_dir):
            file = open_lock(data_dir / _FILE)
    except OSError as error:
        raise Unusable(
            f"The data directory {data_dir} cannot be used: {error.strerror}. Choose another with --data-dir."
        ) from None
    with file:
        if not _locked(file):
            raise Unusable(
                f"Another worker ({_content(file)}) uses {data_dir}. Stop it first, or give this one a data directory "
                "of its own with --data-dir."
            )
        try:
            file.truncate(0)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {since}\n")
            file.flush()
        except OSError as error:
            raise Unusable(f"{data_dir / _FILE} cannot be written: {error.strerror}.") from None
        _wait_for_executor(data_dir)
        yield


def _wait_for_executor(data_dir: Path) -> None:
    """Raise `Unusable` if an executor without a supervisor runs here, and goes on running."""
    try:
        with as_owner_of(data_dir):
            file = open_lock(data_dir / LOCK_FILE)
    except OSError:
        return  # The executor will say what is wrong with it.
    with file:
        until = time.monotonic() + _EXECUTOR_WAIT_S
        while not _locked(file):
            if time.monotonic() > until:
                raise Unusable(
                    f"An executor (process {_content(file)}) uses {data_dir}. Stop it first, or give this worker a "
                    "data directory of its own with --data-dir."
                )
            time.sleep(0.1)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"
