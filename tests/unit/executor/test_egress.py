"""Lists, Squid's rules, repairs and what is told: as values."""

import re

import pytest

from executor.egress_containers import Part, repair
from executor.egress_denials import HOST_AGAIN_S, PER_DEVBOX, Denials
from executor.egress_rules import BUILT_IN, checked_names, names_in_force, reaches, read_names
from executor.egress_squid import PRIVATE, squid_conf
from executor.policy import Profile
from protos.errors import InvalidArgument

UP = Part(running=True, started_at=10.0)
DOWN = Part(running=False, started_at=10.0)


@pytest.mark.parametrize(
    ("host", "is_reached"),
    [
        ("exact.test", True), ("sub.exact.test", False), ("all.test", True), ("a.b.all.test", True),
        ("xall.test", False), ("exact.test.evil.test", False), ("", False), ("test", False), (".all.test", False),
        ("all.test.", False),
        ("10.0.0.1", False), ("%5B::1%5D", False), ("a_b.all.test", False), ("Exact.test", False),
    ],
)  # fmt: skip
def test_a_list_reaches_what_it_names(host: str, is_reached: bool) -> None:
    """A name alone, or with all below it; what is no name of a host is never reached."""
    assert reaches({"exact.test", ".all.test"}, host) is is_reached


def test_the_built_in_names_are_for_standard_alone() -> None:
    """Strict has what it is given, open and offline have no list."""
    assert len(BUILT_IN) > 50
    assert "pypi.org" in names_in_force(Profile.STANDARD, ["tenant.test"], ["own.test"])
    assert names_in_force(Profile.STRICT, ["tenant.test"], ["own.test", "tenant.test"]) == ("tenant.test", "own.test")
    assert names_in_force(Profile.OPEN, ["tenant.test"], ["own.test"]) == ()
    assert names_in_force(Profile.OFFLINE, ["tenant.test"], ["own.test"]) == ()


def test_names_are_checked_before_they_are_kept() -> None:
    """In a caller's list and in a file."""
    assert checked_names(["*.A.test", ".a.test", "b.test"]) == (".a.test", "b.test")
    with pytest.raises(InvalidArgument, match=r"allowedDomains: '1\.2\.3\.4'"):
        checked_names(["a.test", "1.2.3.4"])
    assert read_names("# why\n\nA.test # so\n") == ("a.test",)
    with pytest.raises(ValueError, match="no name of a host"):
        read_names("com\n")


def test_squid_asks_for_the_name_before_it_looks_it_up() -> None:
    """Port, then name, then where the name leads; and only loopback can ask."""
    conf = squid_conf(
        port=3128, socat="/usr/bin/socat", own_addresses=["11.22.33.44", "10.0.0.5", "fe80::1", "2600::1"]
    )

    order = re.findall(r"^http_access (.*)$", conf, re.MULTILINE)
    assert order == ["deny !okports", "deny CONNECT !tunnels", "deny !box_may", "deny bad_dst", "allow all"]
    assert "http_port 127.0.0.1:3128\n" in conf
    # Squid ignores what another entry covers, with a warning only.
    assert f"acl bad_dst dst {' '.join(PRIVATE)} 11.22.33.44 2600::1\n" in conf


@pytest.mark.parametrize(
    ("box", "holder", "sidecar", "wanted"),
    [
        (UP, UP, UP, "nothing"),
        (UP, UP, None, "rejoin"),
        (UP, UP, DOWN, "start"),
        (UP, DOWN, UP, "nothing"),  # the DevBox and the sidecar keep the namespace alive
        (UP, DOWN, DOWN, "rejoin"),
        (UP, Part(True, 20.0), UP, "rejoin"),  # a new namespace, without the DevBox
        (UP, Part(True, 20.0), DOWN, "rejoin"),
        (UP, None, UP, "rejoin"),
        (UP, DOWN, Part(True, 20.0, "clustercode-1"), "nothing"),
        (Part(True, 30.0), DOWN, Part(True, 20.0, "clustercode-1"), "rejoin"),
        (UP, UP, Part(False, 20.0, "clustercode-1"), "rejoin"),
    ],
)
def test_what_mends_a_way_out(box: Part, holder: Part | None, sidecar: Part | None, wanted: str) -> None:
    """Never a sidecar in a namespace in which the DevBox is not."""
    assert repair(box, holder, sidecar) == wanted


def test_a_refusal_is_told_once_a_minute_and_not_for_every_host() -> None:
    """However many hosts a DevBox tries; another DevBox is told of its own."""
    denials = Denials()

    assert denials.is_news("a", "evil.test", 0.0)
    assert not denials.is_news("a", "evil.test", HOST_AGAIN_S - 1)
    assert denials.is_news("a", "evil.test", HOST_AGAIN_S)
    assert sum(denials.is_news("a", f"{n}.test", HOST_AGAIN_S) for n in range(1000)) == PER_DEVBOX - 1
    assert denials.is_news("b", "evil.test", HOST_AGAIN_S)
