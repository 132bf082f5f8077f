"""Backoff: fixed steps, jitter that only shortens, reset only by a healthy connection."""

import pytest

from gateway.backoff import CLOSE_TOO_BIG, CLOSE_TRY_LATER, DELAYS_S, HEALTHY_AFTER_S, JITTER, Backoff, Ending

FAILED = Ending()


def test_steps_are_those_of_the_protocol_and_stay_at_the_last() -> None:
    """Without jitter the waits are 1, 2, 4, 8, 16, 30, 30 seconds."""
    backoff = Backoff()

    assert [backoff.delay_s(FAILED, random=0.0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_jitter_only_shortens_and_keeps_the_order() -> None:
    """The longest jitter takes a quarter off, so each step is still longer than the one before."""
    longest, shortest = Backoff(), Backoff()
    full = [longest.delay_s(FAILED, random=0.0) for _ in DELAYS_S]
    short = [shortest.delay_s(FAILED, random=0.999) for _ in DELAYS_S]

    assert all(low <= high and low >= high * (1 - JITTER) for low, high in zip(short, full, strict=True))
    assert all(low > before for low, before in zip(short[1:], full, strict=False))


def test_a_connection_that_was_registered_too_short_does_not_reset() -> None:
    """An orchestrator that accepts and closes at once is not hammered."""
    backoff = Backoff()
    flapping = Ending(registered_s=HEALTHY_AFTER_S - 0.1, close_codes=frozenset({1006}))

    assert [backoff.delay_s(flapping, random=0.0) for _ in range(3)] == [1, 2, 4]


def test_a_healthy_connection_resets() -> None:
    """After a healthy connection the first step comes again, a clean close included."""
    backoff = Backoff()
    for _ in range(4):
        backoff.delay_s(FAILED, random=0.0)

    assert backoff.delay_s(Ending(registered_s=HEALTHY_AFTER_S, close_codes=frozenset({1000})), random=0.0) == 1


@pytest.mark.parametrize(("asked", "waited"), [(0.5, 1.0), (7.0, 7.0), (1e9, 3600.0)])
def test_retry_after_is_a_lower_bound_with_a_cap(asked: float, waited: float) -> None:
    """Retry-After lengthens a wait up to an hour, never shortens it."""
    assert Backoff().delay_s(Ending(retry_after_s=asked), random=0.0) == waited


def test_retry_after_is_not_shortened_by_jitter() -> None:
    """Whoever asks for 7 seconds gets at least 7."""
    assert Backoff().delay_s(Ending(retry_after_s=7.0), random=0.999) == 7.0


def test_try_again_later_waits_the_longest_step() -> None:
    """Close code 1013 is obeyed whatever the step, without jitter."""
    assert Backoff().delay_s(Ending(60.0, frozenset({CLOSE_TRY_LATER})), random=0.999) == DELAYS_S[-1]


def test_messages_too_big_step_up_even_after_healthy_connections() -> None:
    """The same too big message again and again makes no loop of quick reconnects."""
    backoff = Backoff()
    too_big = Ending(registered_s=HEALTHY_AFTER_S, close_codes=frozenset({CLOSE_TOO_BIG}))

    assert [backoff.delay_s(too_big, random=0.0) for _ in range(6)] == [2, 4, 8, 16, 30, 30]


def test_a_long_connection_forgets_messages_too_big() -> None:
    """Ten minutes without such a close clear the memory of earlier ones."""
    backoff = Backoff()
    for _ in range(3):
        backoff.delay_s(Ending(HEALTHY_AFTER_S, frozenset({CLOSE_TOO_BIG})), random=0.0)

    assert backoff.delay_s(Ending(registered_s=600.0), random=0.0) == 1
