"""Profiles, floor and company, as values."""

import itertools
from typing import Literal

import pytest

from executor.policy import (
    BoxOptions,
    Limits,
    Profile,
    box_options,
    check_company,
    check_floor,
    check_privileged,
    check_tenant,
)
from protos.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied

GB = 1024**3
NOTHING = Limits(None, None, None)
LIMITS = {
    Profile.OPEN: Limits(4 * GB, None, None),
    Profile.STANDARD: Limits(4 * GB, 2, 256),
    Profile.STRICT: Limits(2 * GB, 1, 128),
    Profile.OFFLINE: Limits(2 * GB, 1, 128),
}


@pytest.mark.parametrize(("profile", "floor"), list(itertools.product(Profile, Profile)))
def test_a_profile_below_the_floor_is_refused(profile: Profile, floor: Profile) -> None:
    """Exactly the less restrictive ones, with a sentence that names the floor."""
    if profile >= floor:
        check_floor(profile, floor)
    else:
        with pytest.raises(FailedPrecondition, match=f"floor of this worker is {floor.label}"):
            check_floor(profile, floor)


@pytest.mark.parametrize(
    ("profile", "network", "read_only", "all_capabilities", "limits"),
    [
        (Profile.OPEN, "host", False, True, Limits(4 * GB, None, None)),
        (Profile.STANDARD, "none", False, False, Limits(4 * GB, 2, 256)),
        (Profile.STRICT, "none", True, False, Limits(2 * GB, 1, 128)),
        (Profile.OFFLINE, "none", True, False, Limits(2 * GB, 1, 128)),
    ],
)
def test_a_profile_means_what_the_table_says(
    profile: Profile, network: str, read_only: bool, all_capabilities: bool, limits: Limits
) -> None:
    """Every cell of the README's table."""
    options = box_options(profile, asked=NOTHING)

    assert (options.network, options.read_only, options.all_capabilities) == (network, read_only, all_capabilities)
    assert options.no_new_privileges is not all_capabilities
    assert options.limits == limits
    assert bool(options.tmpfs) is read_only


def test_what_is_asked_may_lower_limits_but_not_raise_them() -> None:
    """The tighter of profile and request holds, field by field."""
    options = box_options(Profile.STRICT, asked=Limits(memory_bytes=1 * GB, cpus=64, pids=10))

    assert options.limits == Limits(memory_bytes=1 * GB, cpus=1, pids=10)


def test_an_open_devbox_may_be_limited() -> None:
    """Where the profile has no bound, the one that is asked for holds."""
    assert box_options(Profile.OPEN, asked=Limits(None, 2, 50)).limits == Limits(4 * GB, 2, 50)


@pytest.mark.parametrize(
    "path",
    ["relative", "/", "/a/../etc", "/proc/sys", "/etc", "/workspace/x", "/a:b", "/dev", "//dev/shm", "//etc", "/lib64",
     "/var/lib/clustercode/b", "/a\nb", "/" + "x" * 256, "/x" * 513],
)  # fmt: skip
def test_a_path_that_would_hide_the_system_is_not_writable(path: str) -> None:
    """Refused with the path in the sentence."""
    with pytest.raises(InvalidArgument):
        box_options(Profile.STRICT, asked=NOTHING, writable_paths=(path,))


def test_writable_paths_add_to_the_profile() -> None:
    """They are tmpfs beside the profile's own."""
    options: BoxOptions = box_options(Profile.STRICT, asked=NOTHING, writable_paths=("/opt/cache/",))

    assert "/opt/cache" in options.tmpfs
    assert "/tmp" in options.tmpfs


def test_what_this_version_cannot_promise_is_refused() -> None:
    """Domains, and secrets for an offline box: never silently ignored."""
    for profile in (Profile.OPEN, Profile.OFFLINE):
        with pytest.raises(InvalidArgument):
            box_options(profile, asked=NOTHING, allowed_domains=("example.com",))
    with pytest.raises(InvalidArgument):
        box_options(Profile.OFFLINE, asked=NOTHING, injects_environment=True)


MATRIX = list(itertools.product(Profile, Profile, (False, True), ("byom", "fleet"), (False, True)))


@pytest.mark.parametrize(("profile", "floor", "privileged", "mode", "allowed"), MATRIX)
def test_exactly_what_the_table_says_is_made(
    profile: Profile, floor: Profile, privileged: bool, mode: Literal["byom", "fleet"], allowed: bool
) -> None:
    """Profile × floor × privileged × mode × the owner's switch: what is refused, and what the rest is made with."""

    def decide() -> BoxOptions:
        if privileged:
            check_privileged(profile, floor=floor, mode=mode, allowed=allowed)
        check_floor(profile, floor)
        return box_options(profile, asked=NOTHING, privileged=privileged)

    may_be_privileged = (mode, allowed, floor, profile) == ("byom", True, Profile.OPEN, Profile.OPEN)
    if profile < floor or (privileged and not may_be_privileged):
        with pytest.raises((FailedPrecondition, InvalidArgument, PermissionDenied)):
            decide()
        return
    options = decide()
    is_open, is_tight = profile is Profile.OPEN, profile >= Profile.STRICT
    assert (options.privileged, options.all_capabilities, options.no_new_privileges, options.closes_sockets) == (
        (privileged, is_open, not is_open, not is_open)
    )
    assert (options.network == "host", options.read_only, bool(options.tmpfs)) == (is_open, is_tight, is_tight)
    assert options.limits == LIMITS[profile]


def test_an_open_devbox_shares_the_worker_with_no_other_tenant() -> None:
    """Neither comes first: open next to another's, or another's next to open."""
    check_company(Profile.OPEN, "a", [(Profile.STANDARD, "a")])
    check_company(Profile.STANDARD, "a", [(Profile.STANDARD, "b")])
    with pytest.raises(FailedPrecondition):
        check_company(Profile.OPEN, "a", [(Profile.STRICT, "b")])
    with pytest.raises(FailedPrecondition):
        check_company(Profile.STRICT, "a", [(Profile.OPEN, "b")])
    check_company(Profile.OPEN, "a", [(Profile.STRICT, "b")], is_rootful=False)


def test_a_tenant_that_is_not_served_is_not_found() -> None:
    """The same answer as for anything absent."""
    check_tenant("a", ("a", "b"))
    with pytest.raises(NotFound):
        check_tenant("c", ("a", "b"))
