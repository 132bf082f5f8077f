"""What the gateway remembers of terminal sessions from one connection to the next. No I/O.

Needed only for orchestrators without ``terminal.ack``, which do not open their sessions again by themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from protos import executor_pb2 as pb

UNKNOWN_SIZE = (0, 0)
"""Columns and rows for a session that a gateway before this one opened: the contract's "as it is"."""


@dataclass(slots=True)
class KnownSession:
    """A session as it was on the last connection."""

    session_id: str
    tenant_id: str
    devbox_id: str
    cols: int
    rows: int
    sent: int
    """Output below this offset was handed to the socket."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do on a new connection."""

    attach: tuple[KnownSession, ...]
    """To be attached, each at its ``sent``."""
    ended: tuple[KnownSession, ...]
    """Ended while nobody was connected."""


class SessionMemory:
    """The sessions that were opened through this gateway and have not ended, as far as it knows.

    As many as the executor allows; it forgets what the executor no longer has at each `plan`.
    """

    def __init__(self) -> None:
        self._known: dict[str, KnownSession] = {}

    def remember(self, session: KnownSession) -> None:
        """Note an open session, replacing what was known of it."""
        self._known[session.session_id] = session

    def forget(self, session: KnownSession) -> None:
        """Drop an ended session; another one that took over its id stays."""
        if self._known.get(session.session_id) is session:
            del self._known[session.session_id]

    def plan(self, listed: Iterable[pb.Session], *, open_now: frozenset[str]) -> Plan:
        """Compare with what the executor has.

        A session we remember continues where the socket was left. One we do not remember (this process is new)
        continues at what its viewer acknowledged, unless another viewer has it. What is open now is left alone.
        """
        there = {session.session_id: session for session in listed if session.session_id not in open_now}
        known = {key: session for key, session in self._known.items() if key not in open_now}
        attach = [session for key, session in known.items() if key in there]
        ended = [session for key, session in known.items() if key not in there]
        attach += (
            KnownSession(key, session.tenant_id, session.devbox_id, *UNKNOWN_SIZE, sent=session.acked)
            for key, session in there.items()
            if key not in known and not session.attached
        )
        for session in ended:
            self.forget(session)
        return Plan(tuple(attach), tuple(ended))
