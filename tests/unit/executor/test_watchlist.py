"""The watchlist tells what happened by itself, once, and nothing of what the worker did."""

from contextlib import suppress
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from executor.watchlist import Event, Sighting, Watchlist
from protos.errors import Unavailable

BOX = Sighting(devbox_id="one", tenant="local", running=True, started_at="1", oom_kills=0)
DEAD = replace(BOX, running=False, exit_code=137, oom_kills=None)


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def watching() -> Watchlist:
    watchlist = Watchlist()
    assert watchlist.found_all([BOX], watchlist.turn) == []
    return watchlist


def test_a_death_is_told_once() -> None:
    """Stream and reconcile compare with the same memory."""
    watchlist = watching()
    assert kinds(watchlist.found("one", DEAD, watchlist.turn)) == ["died"]
    assert watchlist.found_all([DEAD], watchlist.turn) == []


def test_a_removal_is_told_once() -> None:
    """Of a running one it is no death besides."""
    watchlist = watching()
    assert kinds(watchlist.found_all([], watchlist.turn)) == ["removed"]
    assert watchlist.found("one", None, watchlist.turn) == []


def test_a_look_that_is_overtaken_counts_no_more() -> None:
    """Of two looks at once the first that is told counts: the other may be older, and would tell a death twice."""
    watchlist = watching()
    turn = watchlist.turn  # the reconcile begins, and sees all as it was
    assert kinds(watchlist.found("one", DEAD, watchlist.turn)) == ["died"]
    assert watchlist.is_stale("one", turn)
    assert watchlist.found_all([BOX], turn) == []
    assert watchlist.found_all([DEAD], watchlist.turn) == []
    turn = watchlist.turn  # before there is another one
    new = replace(BOX, devbox_id="new")
    assert watchlist.found("new", new, watchlist.turn) == []
    assert watchlist.found_all([DEAD], turn) == []
    created = replace(new, devbox_id="newer", running=False, started_at="")
    turn = watchlist.turn
    assert watchlist.found("newer", replace(created, running=True, started_at="1"), watchlist.turn) == []
    assert watchlist.found_all([DEAD, new, created], turn) == []


def test_a_restart_outside_is_a_death() -> None:
    """It runs, but not as it was."""
    watchlist = watching()
    (event,) = watchlist.found("one", replace(BOX, started_at="2"), watchlist.turn)
    assert event.kind == "died"
    assert "restarted" in event.detail


def test_what_the_worker_does_is_no_event() -> None:
    """Stop, start and remove, with looks in between and looks that began before."""
    watchlist = watching()
    before = watchlist.turn
    watchlist.stopping("one")
    assert watchlist.found("one", DEAD, watchlist.turn) == []
    watchlist.stopped("one")
    watchlist.starting("one")
    assert watchlist.found("one", DEAD, watchlist.turn) == []
    again = replace(BOX, started_at="2")
    watchlist.started(again)
    assert watchlist.found("one", DEAD, before) == []
    assert watchlist.found("one", again, watchlist.turn) == []
    assert kinds(watchlist.found("one", replace(DEAD, started_at="2"), watchlist.turn)) == ["died"]
    watchlist.removing("one")
    assert watchlist.found("one", None, watchlist.turn) == []
    watchlist.stopped("one")
    assert watchlist.found_all([DEAD], watchlist.turn) == []  # a finding from before the removal
    assert watchlist.found_all([], watchlist.turn) == []


def test_a_stop_that_failed_makes_its_end_news_again() -> None:
    """The engine refused; then the box died."""
    watchlist = watching()
    watchlist.stopping("one")
    watchlist.not_done("one")
    assert kinds(watchlist.found("one", DEAD, watchlist.turn)) == ["died"]


def test_whose_doing_an_end_is_is_said() -> None:
    """The machine's owner stops it, its tenant starts it again, it dies by itself; the owner removes it."""
    watchlist = watching()
    with watchlist.for_owner("one"):
        (event,) = watchlist.found("one", DEAD, watchlist.turn)
    assert (event.kind, event.detail) == ("died", "It was stopped by the machine's owner.")
    watchlist.started(BOX)
    (event,) = watchlist.found("one", DEAD, watchlist.turn)
    assert "owner" not in event.detail
    watchlist.started(BOX)
    with suppress(Unavailable), watchlist.for_owner("one"):
        raise Unavailable("The engine is away.")
    (event,) = watchlist.found("one", None, watchlist.turn)
    assert event.detail == "It was removed outside of this worker."
    watchlist.started(BOX)
    with watchlist.for_owner("one"):
        pass
    (event,) = watchlist.found("one", None, watchlist.turn)
    assert (event.kind, event.detail) == ("removed", "It was removed by the machine's owner.")


def test_what_died_after_the_owner_s_stop_was_not_stopped_by_them() -> None:
    """It was started again past the worker meanwhile."""
    watchlist = watching()
    with watchlist.for_owner("one"):
        watchlist.found("one", DEAD, watchlist.turn)
    watchlist.found("one", replace(BOX, started_at="later"), watchlist.turn)
    (event,) = watchlist.found("one", replace(DEAD, started_at="later"), watchlist.turn)
    assert event.detail == f"Its main process ended with exit code {DEAD.exit_code}."


def test_kills_for_want_of_memory_are_told_each() -> None:
    """By the kernel's count where there is one; at the end by the engine's word, unless it was told."""
    watchlist = watching()
    once = replace(BOX, oom_kills=1)
    assert kinds(watchlist.found("one", once, watchlist.turn)) == ["oom"]
    assert watchlist.found("one", once, watchlist.turn) == []
    assert watchlist.out_of_memory("one") == []
    assert kinds(watchlist.found("one", replace(BOX, oom_kills=3), watchlist.turn)) == ["oom"]
    assert kinds(watchlist.found("one", replace(DEAD, oom_killed=True), watchlist.turn)) == ["died"]
    watchlist = watching()
    assert kinds(watchlist.found("one", replace(DEAD, oom_killed=True), watchlist.turn)) == ["oom", "died"]
    watchlist = Watchlist()
    watchlist.found("one", replace(BOX, oom_kills=None), watchlist.turn)
    assert kinds(watchlist.out_of_memory("one")) == ["oom"]
    assert watchlist.out_of_memory("one") == []


@given(st.lists(st.sampled_from(["stop", "start", "remove", "look", "stale"]), max_size=30))
def test_a_worker_alone_never_makes_events(steps: list[str]) -> None:
    """Whatever it does in whatever order, and whenever is looked, also with findings that are old."""
    watchlist, now, starts = Watchlist(), BOX, 1
    watchlist.started(BOX)
    there: Sighting | None = now
    old = (there, watchlist.turn)
    for step in steps:
        if step == "look":
            old = (there, watchlist.turn)
            assert watchlist.found("one", there, watchlist.turn) == []
        elif step == "stale":
            assert watchlist.found("one", *old) == []
        elif there is None:
            continue
        elif step == "stop" and there.running:
            watchlist.stopping("one")
            there = DEAD
            watchlist.stopped("one")
        elif step == "start" and not there.running:
            watchlist.starting("one")
            starts += 1
            there = replace(BOX, started_at=str(starts))
            watchlist.started(there)
        elif step == "remove":
            watchlist.removing("one")
            there = None
            watchlist.stopped("one")


def test_what_happened_while_nobody_looked_is_told_by_the_next() -> None:
    """A watchlist that begins with what an earlier one saw: a death and a removal since then are news, once."""
    before = Watchlist()
    other, ending = replace(BOX, devbox_id="two"), replace(BOX, devbox_id="three")
    before.found_all([BOX, other, ending], before.turn)
    before.stopping("three")

    after = Watchlist()
    after.restore(before.sightings())

    now = [DEAD, replace(ending, running=False)]
    assert {(event.devbox_id, event.kind) for event in after.found_all(now, after.turn)} == {
        ("one", "died"),
        ("two", "removed"),
    }
    assert after.found_all(now, after.turn) == []
