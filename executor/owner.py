"""Root at work in a directory that is another user's: as that user, so that no link laid there makes root follow it."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def as_owner_of(directory: Path) -> Iterator[None]:
    """Have the owner's effective ids meanwhile, where we are root and the directory is there and not root's.

    It holds for the whole process and cannot be nested; the kernel forgets a signal wanted at the parent's death.
    """
    owner = _owner(directory) if os.geteuid() == 0 else 0
    if owner == 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(group_of(directory))
    os.seteuid(owner)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def _owner(directory: Path) -> int:
    try:
        return directory.stat().st_uid
    except OSError:  # whoever uses it then says so
        return 0


def group_of(directory: Path) -> int:
    """Return the group that a directory's owner works with; raises `OSError` where there is no such directory."""
    found = directory.stat()
    try:
        return pwd.getpwuid(found.st_uid).pw_gid
    except KeyError:  # in a container the machine's users have no names
        return found.st_gid
