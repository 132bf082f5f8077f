"""Build contexts that callers send in pieces: files below ``DATA_DIR/contexts``, one a tenant and upload.

A file's length is how far the upload is, its ending whether it is complete, so an upload goes on after a restart of
the executor. Names of files are digests: nothing that a caller chose is part of a path. An upload that nobody touched
for an hour is removed.
"""

import asyncio
import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from executor.config import BuildLimits
from executor.requests import UploadContext
from protos.errors import FailedPrecondition, NotFound, ResourceExhausted

log = logging.getLogger(__name__)

EXPIRES_S = 3600.0
_MAX_UPLOADS = 16
"""Of one tenant at one time."""


class BuildContexts:
    """All uploads of this worker."""

    def __init__(self, root: Path, limits: BuildLimits, now: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._limits = limits
        self._now = now
        self._lock = asyncio.Lock()
        # When each was touched last, by a clock that does not jump; what a restart finds is as new as the restart.
        self._touched: dict[Path, float] = {}
        self.scratch = root / "building"
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(mode=0o700, parents=True)

    async def take(self, request: UploadContext) -> int:
        """Take a piece; returns how many bytes are there now. A piece that was taken before changes nothing."""
        async with self._lock:
            self._expire()
            path, done = self._paths(request.tenant, request.upload_id)
            have = _size(done if done.exists() else path)
            new = request.data[max(have - request.offset, 0) :]
            if request.offset > have:
                raise FailedPrecondition(f"This upload has {have} bytes so far: go on from there.")
            if done.exists():
                if new:
                    raise FailedPrecondition("This upload is complete: use another uploadId for another context.")
                return have
            self._check_room(path.parent, have, len(new))
            path.parent.mkdir(mode=0o700, exist_ok=True)
            await asyncio.to_thread(_append, path, new)
            if request.last:
                path.rename(done)
                path = done
            self._touched[path] = self._now()
            return have + len(new)

    def find(self, tenant: str, upload_id: str) -> Path:
        """Return a complete upload's file, which then lives an hour more; raises `NotFound`, `FailedPrecondition`."""
        self._expire()
        path, done = self._paths(tenant, upload_id)
        if not done.exists():
            if path.exists():
                raise FailedPrecondition(f"The upload {upload_id} is not complete: its last piece has last set.")
            raise NotFound(f"There is no upload {upload_id}: send it with image.context first.")
        self._touched[done] = self._now()
        return done

    def forget(self, tenant: str, upload_id: str) -> None:
        """Remove an upload. Safe to repeat."""
        for path in self._paths(tenant, upload_id):
            self._remove(path)

    def expire(self) -> None:
        """Remove what nobody touched for an hour."""
        self._expire()

    def _check_room(self, folder: Path, have: int, more: int) -> None:
        theirs = [_size(path) for path in folder.glob("*")]
        everyone = sum(_size(path) for path in self._root.glob("*/*"))
        if have + more > self._limits.context_bytes or sum(theirs) + more > self._limits.context_bytes:
            raise ResourceExhausted(
                f"Build contexts of one tenant have at most {self._limits.context_bytes // 1024**2} MiB together; "
                "leave out of this one what the build does not need (.git, node_modules, .venv)."
            )
        if everyone + more > self._limits.contexts_bytes:
            raise ResourceExhausted("This worker holds as many build contexts as it may; send it again later.")
        if not have and len(theirs) >= _MAX_UPLOADS:
            raise ResourceExhausted(f"There are {_MAX_UPLOADS} uploads already; build from them, or wait an hour.")
        if shutil.disk_usage(self._root).free - more < self._limits.floor(shutil.disk_usage(self._root).total):
            raise ResourceExhausted("The disk of this worker is nearly full: free some of it first.")

    def _expire(self) -> None:
        now = self._now()
        found = set(self._root.glob("*/*.part")) | set(self._root.glob("*/*.tar"))
        self._touched = {path: self._touched.get(path, now) for path in found if path.parent != self.scratch}
        for path, touched in list(self._touched.items()):
            if now - touched > EXPIRES_S:
                log.info("a build context that nobody used is removed")
                self._remove(path)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._touched.pop(path, None)

    def _paths(self, tenant: str, upload_id: str) -> tuple[Path, Path]:
        """Return where an upload grows, and where it is once complete."""
        folder = self._root / hashlib.sha256(tenant.encode()).hexdigest()[:32]
        name = hashlib.sha256(upload_id.encode()).hexdigest()[:32]
        return folder / f"{name}.part", folder / f"{name}.tar"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _append(path: Path, data: bytes) -> None:
    """Append to a file; a disk that fills in the middle leaves it as it was."""
    before = _size(path)
    path.touch(mode=0o600)
    with path.open("r+b") as file:
        try:
            file.seek(before)
            file.write(data)
            file.flush()
        except OSError:
            file.truncate(before)
            raise ResourceExhausted("The disk of this worker is full: free some of it first.") from None
