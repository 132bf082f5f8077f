"""What a check of ``clustercode doctor`` found, and the judgements it makes of bare figures. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Status = Literal["pass", "warn", "fail"]

MIN_FREE_BYTES = 2 * 1024**3
MIN_FREE_PART = 20
"""Less than 2 GiB, or a twentieth of the disk where that is less: below it the worker builds no images either."""

MIN_MEMORY_BYTES = 512 * 1024**2
CLOCK_WARN_S = 30.0
CLOCK_FAIL_S = 300.0
"""A token or a certificate that is new may not be valid yet for so wrong a clock."""


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, how it is, in a sentence, and what mends it.

    Lines of ``fix`` after the first are commands, shown as they are.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


def healthy(checks: Sequence[Check]) -> bool:
    """Tell whether a worker can do its work here: nothing failed. What is merely warned of counts as well."""
    return all(check.status != "fail" for check in checks)


def disk(place: str, total: int, free: int, fix: str) -> Check:
    """Judge a disk's room, in bytes."""
    detail = f"{gib(free)} of {gib(total)} free on the disk of {place}"
    if free < min(MIN_FREE_BYTES, total // MIN_FREE_PART):
        return Check("disk", "fail", f"only {detail}", fix)
    return Check("disk", "pass", detail)


def inodes(place: str, total: int, free: int) -> Check:
    """Judge how many files a disk still takes; file systems that make inodes as they go have a total of 0."""
    if total == 0:
        return Check("inodes", "pass", f"the disk of {place} makes them as it needs them")
    detail = f"{free} of {total} free on the disk of {place}"
    if free < total // MIN_FREE_PART:
        return Check("inodes", "fail", f"only {detail}: no more files fit", "Remove directories with many small files.")
    return Check("inodes", "pass", detail)


def memory(total: int, available: int) -> Check:
    """Judge the machine's memory, in bytes."""
    detail = f"{gib(available)} of {gib(total)} available"
    if available < MIN_MEMORY_BYTES:
        fix = "End other programs, or stop DevBoxes: a standard one may take 4 GiB."
        return Check("memory", "warn", f"only {detail}", fix)
    return Check("memory", "pass", detail)


def clock(ours: datetime, theirs: datetime | None) -> Check:
    """Judge this machine's clock by the orchestrator's, as its answer is dated."""
    if theirs is None:
        return Check("clock", "pass", "the orchestrator does not tell the time")
    ahead_s = (ours - theirs).total_seconds()
    detail = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the orchestrator's"
    fix = "Set it: timedatectl set-ntp true"
    if abs(ahead_s) > CLOCK_FAIL_S:
        return Check("clock", "fail", detail, fix)
    if abs(ahead_s) > CLOCK_WARN_S:
        return Check("clock", "warn", detail, fix)
    return Check("clock", "pass", "the same as the orchestrator's")


def has_sub_ids(text: str, user: str, uid: int) -> bool:
    """Tell whether a table like ``/etc/subuid`` (subuid(5)) gives a user any ids beyond their own."""
    rows = [line.strip().split(":") for line in text.splitlines() if not line.lstrip().startswith("#")]
    return any(len(row) == 3 and row[0] in (user, str(uid)) and row[2].isdigit() and int(row[2]) >= 1 for row in rows)


def gib(count: float) -> str:
    """Return bytes as people say them."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
