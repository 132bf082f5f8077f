"""Users that exist for one test alone: its processes see another ``/etc``, and nothing of the machine's is changed."""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class PrivateUsers:
    """Runs commands, as root, where ``etc`` is ``/etc`` and every user can reach this program."""

    etc: Path
    _mounts: str

    def command(self, *command: str, hide: str | None = None) -> list[str]:
        """Return the command as one that sees these users; ``hide``: a program that is not there then."""
        hiding = f"mount --bind /dev/null {hide}\n" if hide else ""
        return ["unshare", "--mount", "sh", "-ec", f'{self._mounts}\n{hiding}cd /; exec "$@"', "sh", *command]

    def ids(self, name: str) -> tuple[int, int]:
        """Return a user's id and group."""
        for line in (self.etc / "passwd").read_text().splitlines():
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2]), int(fields[3])
        raise KeyError(name)

    def group(self, name: str) -> tuple[int, list[str]]:
        """Return a group's id and the members that its own line names."""
        for line in (self.etc / "group").read_text().splitlines():
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2]), [member for member in fields[3].split(",") if member]
        raise KeyError(name)


def private_users(directory: Path) -> PrivateUsers:
    """Copy ``/etc`` into a directory, and find out how other users get to this program where that is root's alone."""
    etc = directory / "etc"
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    mounts = [f"mount --bind {shlex.quote(str(etc))} /etc"]
    hidden = {place: closed for place in (ROOT, Path(sys.base_prefix).resolve()) if (closed := _closed(place))}
    holds = {place: directory / f"hold{number}" for number, place in enumerate(hidden)}
    for place, hold in holds.items():
        hold.mkdir()
        mounts.append(f"mount --bind {shlex.quote(str(place))} {hold}")
    mounts += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}" for closed in set(hidden.values())]
    for place, hold in holds.items():
        mounts.append(f"mkdir -p {shlex.quote(str(place))}; mount --bind {hold} {shlex.quote(str(place))}")
    return PrivateUsers(etc, "\n".join(mounts))


def _closed(place: Path) -> Path | None:
    """Return the topmost directory on the way to a place that is closed to others."""
    return next((path for path in reversed(place.parents) if not path.stat().st_mode & 0o001), None)
