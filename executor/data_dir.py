"""The one directory of the host that the executor uses: install id, lock, gRPC socket's place, secrets.

::

    DATA_DIR/           0700 (0710 where the gateway is another user, who must pass through)
      worker.lock       held while a supervisor runs, by which a second one is told
      worker-id         a UUID: which worker this is to an orchestrator
      install           a UUID: which DevBoxes on the engine are this worker's
      drain             there while the machine's owner wants no new DevBoxes
      lock              held while an executor runs; a second one says who holds it
      operator/         0700, the socket for the machine's owner
      rpc/              0750 (2750 where the gateway is another user), owner executor, group the gateway's; the sockets
      egress/           see executor.egress_files
      engine/           socket and working directory of an engine service of ours, and the seccomp profile
      audit/            0700, the audit log
      contexts/         0700, build contexts that are being sent or built from
      seen.json         0600, the DevBoxes as they were seen last: what happened while no executor ran is told by it
      untold.json       0600, events that nobody has acknowledged: the next executor tells them
      secrets/          0600 files, one a DevBox: the environment that never reaches the engine's store
"""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

from executor.owner import as_owner_of
from executor.redaction import SECRETS
from protos.errors import FailedPrecondition

LOCK_FILE = "lock"
DRAIN_FILE = "drain"
Kept = Literal["seen", "untold"]
_MAX_SOCKET_PATH_BYTES = 107
_SECCOMP = Path(__file__).with_name("seccomp.json")


class DataDir:
    """The directory, made ready. Raises `FailedPrecondition` with a sentence for one that cannot be used."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rpc = root / "rpc"
        self.operator = root / "operator"
        self.engine = root / "engine"
        self.contexts = root / "contexts"
        self.audit = root / "audit"
        self._secrets = root / "secrets"
        self._seccomp = self.engine / "seccomp.json"
        for path in (self.rpc / "terminals.sock", self.operator / "rpc.sock", self.engine / "podman.sock"):
            if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
                raise FailedPrecondition(
                    f"DATA_DIR {root} is too long: Unix sockets take paths of {_MAX_SOCKET_PATH_BYTES} bytes. "
                    "Choose a shorter one."
                )
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.rpc.mkdir(mode=0o750, exist_ok=True)
            for directory in (self.operator, self.engine, self.contexts, self.audit, self._secrets):
                directory.mkdir(mode=0o700, exist_ok=True)
            # A copy, at a path that a containerised executor and its engine share.
            _write(self._seccomp, _SECCOMP.read_text(encoding="utf-8"))
        except OSError as error:
            raise FailedPrecondition(f"DATA_DIR {root} cannot be used: {error.strerror}.") from None
        self.install = self._read_install()

    @property
    def draining(self) -> bool:
        """Whether the machine's owner wants no new DevBoxes here."""
        return (self.root / DRAIN_FILE).exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process; raises `FailedPrecondition` if another executor has it."""
        with open_lock(self.root / LOCK_FILE) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise FailedPrecondition(
                    f"Another executor (process {lock.read().strip() or 'unknown'}) uses {self.root}. "
                    "Stop it first, or give this one a DATA_DIR of its own."
                ) from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    @contextmanager
    def binding(self, name: str) -> Iterator[Path]:
        """Give the path at which a socket for the gateway is to be bound within the block, open to no others.

        Raises `FailedPrecondition` where others could connect: nobody but the kernel checks who does.
        """
        found = self.rpc.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o027:
            raise FailedPrecondition(
                f"{self.rpc} must belong to the executor's user and be closed to others (chmod 750); "
                f"it belongs to user {found.st_uid} with mode {found.st_mode & 0o777:o}."
            )
        path = self.rpc / name
        path.unlink(missing_ok=True)
        before = os.umask(0o117)  # 0660 at once, so that there is no moment at which others could enter
        try:
            yield path
        finally:
            os.umask(before)
        mode = path.stat().st_mode & 0o777
        if mode != 0o660:
            raise FailedPrecondition(
                f"The socket {path} has mode {mode:o} instead of 660; the executor does not serve on it."
            )

    def seccomp_option(self, engine: Literal["podman", "docker"]) -> str:
        """Return the seccomp profile as an engine wants it: Podman takes the path of one, Docker the profile itself."""
        return str(self._seccomp) if engine == "podman" else self._seccomp.read_text(encoding="utf-8")

    def keep_secrets(self, devbox_id: str, secrets: dict[str, str]) -> None:
        """Write a DevBox's secret environment to its one 0600 file."""
        if secrets:
            SECRETS.remember(devbox_id, secrets.values())
            _write(self._secrets / devbox_id, json.dumps(secrets))

    def secrets(self, devbox_id: str) -> dict[str, str]:
        """Return a DevBox's secret environment; empty where it has none."""
        try:
            secrets: dict[str, str] = json.loads((self._secrets / devbox_id).read_text())
        except FileNotFoundError:
            return {}
        SECRETS.remember(devbox_id, secrets.values())
        return secrets

    def forget_secrets(self, devbox_id: str) -> None:
        """Remove a DevBox's secret environment. Safe to repeat."""
        (self._secrets / devbox_id).unlink(missing_ok=True)
        SECRETS.forget(devbox_id)

    def keep_only_secrets_of(self, devbox_ids: set[str]) -> None:
        """Remove the secrets of DevBoxes that are gone."""
        for path in self._secrets.iterdir():
            if path.name not in devbox_ids:
                path.unlink(missing_ok=True)

    def keep(self, what: Kept, text: str) -> None:
        """Write what the next executor is to know, a list in JSON."""
        _write(self.root / f"{what}.json", text)

    def kept(self, what: Kept) -> str:
        """Return what `keep` wrote last; an empty list where nothing is kept."""
        try:
            return (self.root / f"{what}.json").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return "[]"

    def _read_install(self) -> str:
        path = self.root / "install"
        with suppress(FileNotFoundError, ValueError):
            return str(uuid.UUID(path.read_text().strip()))
        install = str(uuid.uuid4())
        _write(path, f"{install}\n")
        return install


def install_of(root: Path) -> str | None:
    """Return the install id of a data directory, None where there is none; also for root in another user's."""
    try:
        with as_owner_of(root):
            descriptor = os.open(root / "install", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            return str(uuid.UUID(file.read(64).strip()))
    except (OSError, ValueError):
        return None


def open_lock(path: Path) -> IO[str]:
    """Open a file that is a lock, made for its owner alone: whoever may open it may hold it. Raises `OSError`."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "a+")


def _write(path: Path, text: str) -> None:
    """Write a 0600 file atomically: a full disk or a crash leaves the old one or none."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
