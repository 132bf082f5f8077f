"""Session memory: continue where the socket was left, never make a session anew."""

from gateway.session import UNKNOWN_SIZE, KnownSession, SessionMemory
from protos import executor_pb2 as pb

NONE_OPEN: frozenset[str] = frozenset()


def known(session_id: str, sent: int) -> KnownSession:
    """Return a remembered session."""
    return KnownSession(session_id, "t1", "b1", cols=80, rows=24, sent=sent)


def listed(session_id: str, *, acked: int = 0, attached: bool = False) -> pb.Session:
    """Return a session as the executor lists it."""
    return pb.Session(session_id=session_id, tenant_id="t2", devbox_id="b2", acked=acked, attached=attached)


def test_a_remembered_session_continues_at_what_the_socket_took() -> None:
    """What was handed to the socket counts, not what was acknowledged; and it may still seem attached."""
    memory = SessionMemory()
    memory.remember(known("s", 500))

    plan = memory.plan([listed("s", acked=100, attached=True)], open_now=NONE_OPEN)

    assert plan.attach == (known("s", 500),)
    assert plan.ended == ()


def test_an_unknown_session_continues_at_what_was_acknowledged() -> None:
    """After a restart nothing is remembered: the executor's word counts, for its tenant and box."""
    plan = SessionMemory().plan([listed("s", acked=100)], open_now=NONE_OPEN)

    assert plan.attach == (KnownSession("s", "t2", "b2", *UNKNOWN_SIZE, sent=100),)


def test_an_unknown_session_with_a_viewer_is_left_alone() -> None:
    """Someone else looks at it."""
    assert SessionMemory().plan([listed("s", attached=True)], open_now=NONE_OPEN).attach == ()


def test_a_remembered_session_that_is_gone_has_ended_and_is_forgotten() -> None:
    """To attach to it would make a new shell under its id."""
    memory = SessionMemory()
    memory.remember(known("s", 500))

    assert memory.plan([], open_now=NONE_OPEN).ended == (known("s", 500),)
    assert memory.plan([], open_now=NONE_OPEN).ended == ()


def test_what_is_open_on_the_new_connection_is_left_alone() -> None:
    """The orchestrator may be quicker in opening its sessions again."""
    memory = SessionMemory()
    memory.remember(known("s", 500))
    plan = memory.plan([listed("s")], open_now=frozenset({"s"}))

    assert (plan.attach, plan.ended) == ((), ())


def test_forgetting_spares_a_session_that_took_over_the_id() -> None:
    """An old bridge that ends late does not erase its successor."""
    memory = SessionMemory()
    old, new = known("s", 1), known("s", 2)
    memory.remember(old)
    memory.remember(new)
    memory.forget(old)

    assert memory.plan([listed("s")], open_now=NONE_OPEN).attach == (new,)
