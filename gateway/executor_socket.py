"""Whose sockets the executor's are. Nobody on a Unix socket says who listens, so its place must say it.

Checked before every call: whoever could put a socket there instead would get all that orchestrators send.
"""

import os
import stat
from pathlib import Path

from gateway.errors import ExecutorUntrusted


class ExecutorSocket:
    """The socket of the executor's service, or one beside it."""

    def __init__(self, path: Path, owner_uid: int | None) -> None:
        self.path = path.absolute()
        self._owner_uid = os.getuid() if owner_uid is None else owner_uid

    def beside(self, name: str) -> "ExecutorSocket":
        """Return one in the same directory."""
        return ExecutorSocket(self.path.with_name(name), self._owner_uid)

    def check(self) -> None:
        """Raise `ExecutorUntrusted` if not only the executor could listen there; absent is fine."""
        for path, expected in ((self.path.parent, stat.S_ISDIR), (self.path, stat.S_ISSOCK)):
            try:
                found = path.stat()
            except OSError:
                return  # The executor is away, or we may not look: the call then says so.
            if not expected(found.st_mode):
                raise ExecutorUntrusted(f"{path} should be a socket in a directory, both the executor's.")
            if found.st_uid != self._owner_uid:
                raise ExecutorUntrusted(
                    f"{path} belongs to uid {found.st_uid}, not to the executor (uid {self._owner_uid}). "
                    "Remove it and start the executor, or correct executor_uid."
                )
            if found.st_mode & 0o007:
                raise ExecutorUntrusted(
                    f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, which lets every user in. "
                    f"Run: chmod o-rwx {path}"
                )
