"""`console.sessions`: which sessions are open and who looks at each."""

from collections.abc import Callable

from console.sessions import Session, Sessions
from protos.wire import SessionState


class Looker:
    """A viewer that notes what it is told."""

    viewer_id = "looker"

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.told.append(name)


def state(session_id: str) -> SessionState:
    return SessionState(session_id=session_id, tenant_id="local", devbox_id="b", base=0, offset=0, input_offset=0)


def viewer(session: Session | None) -> object:
    assert session is not None
    return session.viewer


def test_a_session_has_one_viewer() -> None:
    """Opening for another viewer tells the first, once, and its channel carries nothing any more."""
    sessions, first, second = Sessions(), Looker(), Looker()
    sessions.attach("s", "b", 1, first)
    sessions.opening("s", second)
    sessions.attach("s", "b", 2, second)

    assert first.told == ["taken"]
    assert sessions.of_channel(1) is None
    assert viewer(sessions.of_channel(2)) is second


def test_opening_again_for_the_same_viewer_takes_nothing_from_it() -> None:
    """A viewer that comes back moves to the new channel without being told."""
    sessions, only = Sessions(), Looker()
    sessions.attach("s", "b", 1, only)
    sessions.opening("s", only)
    sessions.attach("s", "b", 2, only)

    assert only.told == []
    assert sessions.of_channel(1) is None


def test_channels_last_as_long_as_the_connection() -> None:
    """After a cut no channel of the old connection means anything, but the session is known."""
    sessions, looker = Sessions(), Looker()
    sessions.attach("s", "b", 1, looker)
    sessions.connection_lost()

    assert sessions.of_channel(1) is None
    assert viewer(sessions.find("s")) is None


def test_a_registration_replaces_the_list() -> None:
    """What a worker does not list has ended while it was away; what it lists is open."""
    sessions = Sessions()
    sessions.attach("old", "b", 1, Looker())
    sessions.registered([state("new")], complete=True)

    assert [session.session_id for session in sessions.all()] == ["new"]


def test_a_worker_without_engine_ends_nothing() -> None:
    """A list that may lack something adds, and removes nothing."""
    sessions = Sessions()
    sessions.attach("old", "b", 1, Looker())
    sessions.registered([state("new")], complete=False)

    assert {session.session_id for session in sessions.all()} == {"old", "new"}


def test_a_viewer_that_leaves_ends_nothing() -> None:
    """Its sessions stay open without a viewer; leaving twice is nothing."""
    sessions, looker = Sessions(), Looker()
    sessions.attach("s", "b", 1, looker)

    assert sessions.detach(looker)
    assert not sessions.detach(looker)
    assert sessions.find("s") is not None


def test_an_ended_session_frees_its_channel() -> None:
    """Its id and channel are forgotten; ending it twice is nothing."""
    sessions = Sessions()
    sessions.attach("s", "b", 1, Looker())

    assert sessions.end("s") is not None
    assert sessions.end("s") is None
    assert sessions.of_channel(1) is None
