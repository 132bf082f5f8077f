"""What nobody has acknowledged: bounded, in order, and the first that the next watcher is told."""

from executor.events import Untold, Watcher
from executor.watchlist import Event


def events(*boxes: str) -> list[Event]:
    return [Event(box, "tenant", "died", "it ended") for box in boxes]


def kept(most: int, *some: Event) -> Untold:
    untold = Untold(most)
    for event in some:
        untold.put(event)
    return untold


async def test_what_was_handed_over_and_not_acknowledged_is_told_to_the_next() -> None:
    """Whoever took it may be gone; what was acknowledged is not told again, nor what came before it."""
    one, two, three = events("one", "two", "three")
    untold = kept(10, one, two, three)
    first = Watcher(untold, 10)
    assert [await first.next() for _ in range(3)] == [one, two, three]

    untold.acknowledge(two.event_id)

    second = Watcher(untold, 10)
    assert await second.next() is three
    second.close()
    assert await second.next() is None


def test_an_acknowledgement_of_what_is_not_there_takes_nothing_with_it() -> None:
    """It was dropped for want of room, or is another executor's."""
    one, two = events("one", "two")
    untold = kept(1, one, two)

    for event_id in (one.event_id, "another", ""):
        untold.acknowledge(event_id)

    assert list(untold) == [two]
