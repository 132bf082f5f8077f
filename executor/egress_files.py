"""What executor and egress process share on disk, all below ``DATA_DIR/egress``. The files are the lists.

::

    egress/             0711, the egress process's working directory: it sees nothing else of DATA_DIR
      policy/ADDRESS    names that the DevBox of this loopback address may reach, one a line; the executor's
      boxes/ADDRESS/    proxy.sock, the bridge of that DevBox; the directory is the executor's and goes to the sidecar
      own/ID            names that DevBox was given itself, besides its profile's and tenant's; the executor alone
      hosts/ID          its /etc/hosts, without the machine's; the executor alone
      resolv.conf       its /etc/resolv.conf: empty, so that look-ups fail at once
      run/              the egress process's own: control.sock, acl.sock, squid.conf, squid.name
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from protos.errors import FailedPrecondition

SOCKET = "proxy.sock"


def is_address(text: str) -> bool:
    """Whether this is a loopback address as DevBoxes have, which is also the name of a file here."""
    return re.fullmatch(r"127\.77\.[0-9]{1,3}\.[0-9]{1,3}", text) is not None


class EgressFiles:
    """The executor's side of these files. Each write is atomic, each removal safe to repeat."""

    def __init__(self, data_dir: Path) -> None:
        self._since = time.time()
        self.root = data_dir / "egress"
        self._policy = self.root / "policy"
        self._boxes = self.root / "boxes"
        self._own = self.root / "own"
        self._hosts = self.root / "hosts"
        self.control = self.root / "run" / "control.sock"
        self.resolv_conf = self.root / "resolv.conf"

    def make(self) -> None:
        """Make the directories; the egress process may have been first, and sets the groups (`share`).

        Raises `FailedPrecondition` with a sentence where that cannot be.
        """
        try:
            self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
            for directory in (self._policy, self._boxes):
                directory.mkdir(mode=0o750, exist_ok=True)
            for directory in (self._own, self._hosts, self.control.parent):
                directory.mkdir(mode=0o700, exist_ok=True)
            if not self.resolv_conf.exists():
                _write(self.resolv_conf, "", 0o644)
        except OSError as error:
            raise FailedPrecondition(
                f"{self.root} cannot be used: {error.strerror}. It must belong to the executor's user."
            ) from None

    def owner(self) -> int | None:
        """Return whose the directory is; None while there is none."""
        with suppress(OSError):
            return self.root.stat().st_uid
        return None

    def check_shared(self) -> None:
        """Raise `FailedPrecondition` unless an egress process that is neither root nor the executor's user may work."""
        for directory, wanted in ((self._policy, os.R_OK), (self._boxes, os.R_OK), (self.control.parent, os.W_OK)):
            if not os.access(directory, wanted | os.X_OK):
                raise FailedPrecondition(
                    f"{directory} is not prepared for user {os.geteuid()}: it must be there, run/ belong to that user, "
                    "policy/ and boxes/ to its group (docs/containers.md has the commands)."
                )

    def share(self, uid: int, gid: int, executor_gid: int) -> None:
        """As root, give another user what the egress process needs, and go there: to read policy, to open bridges.

        All of it is the executor's, whom root must not follow: a link in place of a directory is an error.
        """
        with _opened(self.root) as root:
            os.fchmod(root, 0o711)
            for name in (self._policy.name, self._boxes.name):
                with _opened(name, root) as directory:
                    for entry in os.listdir(directory):  # noqa: PTH208 - of a descriptor
                        with suppress(FileNotFoundError):  # the executor may run already
                            os.chown(entry, -1, gid, dir_fd=directory, follow_symlinks=False)
                    os.fchown(directory, -1, gid)
                    os.fchmod(directory, 0o2750)
            with _opened(self.control.parent.name, root) as run:
                for entry in os.listdir(run):  # noqa: PTH208 - of a descriptor
                    if os.stat(entry, dir_fd=run, follow_symlinks=False).st_uid != uid:
                        os.unlink(entry, dir_fd=run)
                os.fchown(run, uid, executor_gid)
                os.fchmod(run, 0o2710)
            os.fchdir(root)

    def new_address(self) -> str:
        """Take a loopback address that no DevBox of this worker has."""
        while True:
            address = f"127.77.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
            with suppress(FileExistsError):
                (self._boxes / address).mkdir()
                # Who may reach it at all, the directories above decide; in the sidecar it is another user.
                (self._boxes / address).chmod(0o771)
                return address

    def bridge(self, address: str) -> Path:
        """Return the directory of a DevBox's bridge."""
        return self._boxes / address

    def write_policy(self, address: str, names: Iterable[str]) -> None:
        """Say what an address may reach."""
        _write(self._policy / address, "".join(f"{name}\n" for name in names), 0o640)

    def read_policy(self, address: str) -> tuple[str, ...]:
        """Return what an address may reach; nothing where there is no such file."""
        return _lines(self._policy / address)

    def write_own(self, devbox_id: str, names: Iterable[str]) -> None:
        """Keep what a DevBox was given itself."""
        _write(self._own / devbox_id, "".join(f"{name}\n" for name in names), 0o600)

    def read_own(self, devbox_id: str) -> tuple[str, ...]:
        """Return what a DevBox was given itself; nothing where that is lost."""
        return _lines(self._own / devbox_id)

    def of_box(self, devbox_id: str, hostname: str) -> dict[str, Path]:
        """Return which files of ours a DevBox sees as which of its own."""
        hosts = self._hosts / devbox_id
        _write(hosts, f"127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost {hostname}\n", 0o644)
        return {"/etc/hosts": hosts, "/etc/resolv.conf": self.resolv_conf}

    def forget(self, devbox_id: str, address: str) -> None:
        """Remove all of a DevBox; ``address`` is empty for one that has none."""
        (self._own / devbox_id).unlink(missing_ok=True)
        (self._hosts / devbox_id).unlink(missing_ok=True)
        if address:
            (self._policy / address).unlink(missing_ok=True)
            shutil.rmtree(self._boxes / address, ignore_errors=True)

    def keep_only(self, devbox_ids: set[str], addresses: set[str]) -> set[str]:
        """Remove what an earlier executor left of DevBoxes that are gone; returns their addresses."""
        for directory in (self._own, self._hosts):
            for path in directory.iterdir():
                with suppress(FileNotFoundError):
                    if path.name not in devbox_ids and path.stat().st_mtime < self._since:
                        path.unlink()
        gone = {path.name for directory in (self._policy, self._boxes) for path in directory.iterdir()} - addresses
        for address in gone:
            (self._policy / address).unlink(missing_ok=True)
            shutil.rmtree(self._boxes / address, ignore_errors=True)
        return gone


@contextmanager
def _opened(path: Path | str, within: int | None = None) -> Iterator[int]:
    """Open a directory, and no link to one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text().split())
    except OSError:
        return ()


def _write(path: Path, text: str, mode: int) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
