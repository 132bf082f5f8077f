"""What the doctor thinks of bare figures."""

from datetime import UTC, datetime, timedelta

import pytest

from clustercode import checks
from clustercode.checks import Check

GIB = 1024**3
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("total", "free", "status"),
    [
        (500 * GIB, 3 * GIB, "pass"), (500 * GIB, 2 * GIB, "pass"), (500 * GIB, 2 * GIB - 1, "fail"),
        (10 * GIB, GIB // 2, "pass"), (10 * GIB, GIB // 2 - 1, "fail"), (4096, 0, "fail"),
    ],
)  # fmt: skip
def test_a_disk_needs_2_gib_or_a_twentieth(total: int, free: int, status: str) -> None:
    """The same mark below which nothing is built."""
    check = checks.disk("/d", total, free, "mend it")

    assert check.status == status
    assert check.fix == ("mend it" if status == "fail" else "")


@pytest.mark.parametrize(("total", "free", "status"), [(0, 0, "pass"), (100, 5, "pass"), (100, 4, "fail")])
def test_a_disk_needs_room_for_files(total: int, free: int, status: str) -> None:
    """Some file systems have no fixed number of them."""
    assert checks.inodes("/d", total, free).status == status


@pytest.mark.parametrize(
    ("ahead_s", "status"), [(0, "pass"), (30, "pass"), (-31, "warn"), (300, "warn"), (301, "fail"), (-90000, "fail")]
)
def test_a_clock_may_be_a_little_off(ahead_s: int, status: str) -> None:
    """Either way; and where nobody tells the time nothing is said against it."""
    check = checks.clock(NOW + timedelta(seconds=ahead_s), NOW)

    assert check.status == status
    assert ("behind" in check.detail) == (ahead_s < -30)
    assert checks.clock(NOW, None).status == "pass"


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("", False), ("ann:100000:65536\n", True), ("1000:100000:65536", True), ("ann:100000:0", False),
        ("anna:100000:65536\n", False), ("# ann:100000:65536", False), ("ann:100000", False), ("ann:x:y\n", False),
        ("bob:100000:65536\nann:165536:65536\n", True),
    ],
)  # fmt: skip
def test_sub_ids_are_read_as_subuid_5_has_them(text: str, has: bool) -> None:
    """By name or number."""
    assert checks.has_sub_ids(text, "ann", 1000) == has


def test_what_is_warned_of_does_not_make_a_machine_unfit() -> None:
    """Only what fails does."""
    assert checks.healthy([Check("a", "pass", ""), Check("b", "warn", "")])
    assert not checks.healthy([Check("a", "pass", ""), Check("b", "fail", "")])
    assert checks.memory(GIB, 512 * 1024**2 - 1).status == "warn"
    assert checks.memory(GIB, 512 * 1024**2).status == "pass"
