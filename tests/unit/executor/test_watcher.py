"""A watcher's events: bounded, in order, and gone only once they were handed over."""

from executor.events import Watcher
from executor.watchlist import Event


def event(box: str) -> Event:
    return Event(box, "tenant", "died", "it ended")


async def test_an_event_that_was_not_handed_over_is_the_next_again() -> None:
    """Whoever took it may have gone while it was written."""
    watcher = Watcher(10)
    for box in ("one", "two"):
        watcher.put(event(box))

    first = await watcher.next()
    assert await watcher.next() is first
    assert first is not None
    watcher.taken(first)

    second = await watcher.next()
    assert second is not None
    assert (first.devbox_id, second.devbox_id) == ("one", "two")


async def test_an_event_that_was_dropped_meanwhile_takes_no_other_with_it() -> None:
    """The oldest goes first, also while it is written."""
    watcher = Watcher(1)
    watcher.put(event("one"))
    first = await watcher.next()
    assert first is not None

    watcher.put(event("two"))
    watcher.taken(first)

    left = await watcher.next()
    assert left is not None
    assert left.devbox_id == "two"
