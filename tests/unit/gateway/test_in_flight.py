"""In flight: a cancel finds the tenants of an id, as long as it is under way."""

from gateway.in_flight import InFlight


def test_an_id_is_known_while_it_is_under_way() -> None:
    """Afterwards it is not."""
    requests = InFlight()
    with requests.track("r", "t"):
        assert requests.tenants("r") == {"t"}

    assert requests.tenants("r") == frozenset()


def test_a_repeat_keeps_the_id_known_until_the_last_one_ends() -> None:
    """The same id twice, and once for another tenant."""
    requests = InFlight()
    with requests.track("r", "t1"):
        with requests.track("r", "t1"), requests.track("r", "t2"):
            assert requests.tenants("r") == {"t1", "t2"}
        assert requests.tenants("r") == {"t1"}


def test_what_has_no_id_or_tenant_cannot_be_cancelled() -> None:
    """It is tracked all the same, without being found."""
    requests = InFlight()
    with requests.track(None, "t"), requests.track("r", None):
        assert requests.tenants("r") == frozenset()
