"""From an archive that a caller sent to the build context that the engine gets.

The engine never sees the caller's archive: each member is read, checked and written anew. Refused are absolute names,
``..``, links that lead out, devices and pipes, and whatever makes a small archive large (sparse files, huge headers).
Runs in a thread; touches no file but the two it is given.
"""

import io
import posixpath
import tarfile
from collections.abc import Callable
from typing import BinaryIO

from protos.errors import Cancelled, InvalidArgument, ResourceExhausted

MAX_MEMBERS = 50_000
_MAX_NAME_BYTES = 4096
_MAX_HEADER_BYTES = 64 * 1024
_IGNORE_FILES = (".containerignore", ".dockerignore")
_MAX_IGNORE_BYTES = 1024 * 1024
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Member(tarfile.TarInfo):
    """A member whose headers are bounded before they are read into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _HEADERS and self.size > _MAX_HEADER_BYTES):
            raise InvalidArgument("context: a header of the archive is out of bounds.")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise InvalidArgument("context: no sparse files; pack it without --sparse.")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc] # not in the type stubs
        return member

    def _no_sparse(self, *_: object) -> None:
        raise InvalidArgument("context: no sparse files; pack it without --sparse.")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _no_sparse


def write_context(
    source: BinaryIO | None, target: BinaryIO, containerfile: str, *, max_bytes: int, stopped: Callable[[], bool]
) -> str:
    """Write the context with the Containerfile added; returns the name that has in it.

    The Containerfile is also listed in the ignore files, so that ``COPY .`` copies what the caller sent and no more.
    Raises `InvalidArgument` for what is refused, `ResourceExhausted` beyond ``max_bytes`` of content, `Cancelled` once
    ``stopped`` says so.
    """
    names: dict[str, bytes] = {}
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as written:
        ignores = _copy(source, written, names, max_bytes, stopped) if source is not None else {}
        name = ".clustercode.containerfile"
        while name in names:
            name += "-"
        _add(written, name, containerfile.encode())
        # Podman reads the first of the two that is there, Docker only the second: that one is always there then.
        hidden = [name] + ([".dockerignore"] if ".dockerignore" not in ignores else [])
        for ignore_name in _IGNORE_FILES:
            if ignore_name in ignores or ignore_name == ".dockerignore":
                _add(written, ignore_name, ignores.get(ignore_name, b"") + "\n".join(["", *hidden, ""]).encode())
    return name


def _copy(
    source: BinaryIO, written: tarfile.TarFile, names: dict[str, bytes], max_bytes: int, stopped: Callable[[], bool]
) -> dict[str, bytes]:
    """Copy every member; returns the ignore files, which are kept back."""
    ignores: dict[str, bytes] = {}
    total = count = 0
    read_to = -1
    try:
        archive = tarfile.open(fileobj=source, mode="r:", tarinfo=_Member)  # noqa: SIM115 - closed with its source
        while True:
            member = archive.next()
            archive.members = []  # type: ignore[attr-defined] # it would keep every member it read
            if member is None:
                return ignores
            if stopped():
                raise Cancelled("Stopped on request.")
            count += 1
            total += member.size if member.isreg() else 0
            if archive.offset <= read_to or member.size < 0 or count > MAX_MEMBERS:
                raise InvalidArgument(f"context: the archive is damaged, or has more than {MAX_MEMBERS} members.")
            read_to = archive.offset
            if total > max_bytes:
                raise ResourceExhausted(f"A build context holds at most {max_bytes // 1024**2} MiB.")
            name = _checked_name(member, names)
            content = archive.extractfile(member) if member.isreg() else None
            if name in _IGNORE_FILES:
                if content is None or member.size > _MAX_IGNORE_BYTES:
                    raise InvalidArgument(f"context: {name} must be a file of at most {_MAX_IGNORE_BYTES} bytes.")
                ignores[name] = content.read()
            elif name:
                written.addfile(_plain(member, name), content)
    except (tarfile.TarError, EOFError, OSError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"context: not a tar archive, uncompressed and whole ({type(error).__name__}).") from None


def _checked_name(member: tarfile.TarInfo, names: dict[str, bytes]) -> str:
    """Return a member's name, "" for the context's own folder; notes it and its folders in ``names``."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    name = "/".join(parts)
    shown = name[:200]
    if member.name.startswith("/") or ".." in parts or "\0" in name or len(_encoded(name)) > _MAX_NAME_BYTES:
        raise InvalidArgument(f"context: {shown!r} is no name of a file in the context.")
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise InvalidArgument(f"context: {shown!r} is a device or a pipe; files, folders and links only.")
    if not name:
        return name
    for depth in range(1, len(parts)):
        if names.setdefault("/".join(parts[:depth]), tarfile.DIRTYPE) != tarfile.DIRTYPE:
            raise InvalidArgument(f"context: {shown!r} lies under what is no folder.")
    kind = tarfile.REGTYPE if member.isreg() or member.islnk() else member.type
    if names.setdefault(name, kind) != kind:
        raise InvalidArgument(f"context: {shown!r} is in the archive twice, as different things.")
    if member.issym() and not _stays_inside(parts, member.linkname):
        raise InvalidArgument(f"context: the link {shown!r} leads out of the context.")
    if member.islnk():
        target = "/".join(part for part in member.linkname.split("/") if part not in ("", "."))
        if member.linkname.startswith("/") or names.get(target) != tarfile.REGTYPE or target == name:
            raise InvalidArgument(f"context: {shown!r} is a hard link to no file before it in the archive.")
        member.linkname = target
    return name


def _stays_inside(parts: list[str], target: str) -> bool:
    """Return whether a symbolic link's target is in the context, wherever other links in it lead.

    Only leading ``..`` are taken: after a folder that is itself a link they would go up from somewhere else.
    """
    if not target or target.startswith("/") or "\0" in target or len(_encoded(target)) > _MAX_NAME_BYTES:
        return False
    steps = [step for step in target.split("/") if step not in ("", ".")]
    up = 0
    while up < len(steps) and steps[up] == "..":
        up += 1
    return up < len(parts) and ".." not in steps[up:]


def _plain(member: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    """Return a member anew with what a build needs of it: name, kind, permissions, time."""
    plain = tarfile.TarInfo(posixpath.normpath(name))
    plain.type = tarfile.REGTYPE if member.isreg() else member.type
    plain.size = member.size if member.isreg() else 0
    plain.mode = member.mode & 0o777
    plain.mtime = min(max(int(member.mtime), 0), 2**33)
    plain.linkname = "" if member.isreg() or member.isdir() else member.linkname
    return plain


def _add(written: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    written.addfile(info, io.BytesIO(content))


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
