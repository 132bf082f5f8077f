"""The open terminal sessions of one worker and who looks at each. No I/O, no clock."""

from dataclasses import dataclass
from typing import Protocol

from protos.wire import Error, SessionState, TerminalOpenAnswer


class Viewer(Protocol):
    """Whoever looks at terminals: a page, or `console.terminal_client`. Its methods never wait and never raise."""

    @property
    def viewer_id(self) -> str:
        """Name it to other viewers."""

    def attached(self, session: "Session", answer: TerminalOpenAnswer) -> None:
        """Take the answer to ``terminal.open``; output follows."""

    def output(self, session: "Session", offset: int, data: bytes) -> None:
        """Take output whose first byte has this offset."""

    def input_acked(self, session: "Session", offset: int) -> None:
        """Learn that input below this offset reached the program."""

    def refused(self, session: "Session", error: Error) -> None:
        """Learn that something sent to the session was not taken."""

    def exited(self, session: "Session", exit_code: int, offset: int) -> None:
        """Learn that the program ended after so many bytes of output."""

    def taken(self, session: "Session") -> None:
        """Learn that another viewer looks at the session now."""


@dataclass(eq=False)
class Session:
    """An open session. At most one viewer; a channel only while the worker's connection that gave it lasts."""

    session_id: str
    devbox_id: str
    viewer: Viewer | None = None
    channel: int | None = None


class Sessions:
    """Open sessions by id and by channel."""

    def __init__(self) -> None:
        self._by_id: dict[str, Session] = {}
        self._by_channel: dict[int, Session] = {}

    def all(self) -> list[Session]:
        """Return the open sessions, oldest first."""
        return list(self._by_id.values())

    def find(self, session_id: str) -> Session | None:
        """Return a session by its id."""
        return self._by_id.get(session_id)

    def of_channel(self, channel: int) -> Session | None:
        """Return the session whose bytes a channel carries."""
        return self._by_channel.get(channel)

    def connection_lost(self) -> None:
        """Forget what was valid for one connection only; viewers come back by opening again."""
        self._by_channel.clear()
        for session in self._by_id.values():
            session.viewer = None
            session.channel = None

    def registered(self, states: list[SessionState], *, complete: bool) -> None:
        """Take over the list a worker registered with; unless complete, it may have more than it says."""
        kept = {} if complete else self._by_id
        listed = {s.session_id: self._by_id.get(s.session_id, Session(s.session_id, s.devbox_id)) for s in states}
        self._by_id = {**kept, **listed}

    def opening(self, session_id: str, viewer: Viewer) -> None:
        """Take a session away from whoever else looks at it, before it is opened for another viewer."""
        session = self._by_id.get(session_id)
        if session is not None and session.viewer is not None and session.viewer is not viewer:
            self._drop_channel(session)
            previous, session.viewer = session.viewer, None
            previous.taken(session)

    def attach(self, session_id: str, devbox_id: str, channel: int | None, viewer: Viewer) -> Session:
        """Note that a session is open and who looks at it."""
        session = self._by_id.setdefault(session_id, Session(session_id, devbox_id))
        self.opening(session_id, viewer)
        self._drop_channel(session)
        session.viewer, session.channel = viewer, channel
        if channel is not None:
            self._by_channel[channel] = session
        return session

    def detach(self, viewer: Viewer) -> bool:
        """Note that a viewer is gone; its sessions stay open. Tell whether it had any."""
        seen = [session for session in self._by_id.values() if session.viewer is viewer]
        for session in seen:
            self._drop_channel(session)
            session.viewer = None
        return bool(seen)

    def end(self, session_id: str) -> Session | None:
        """Forget a session that ended and return it."""
        session = self._by_id.pop(session_id, None)
        if session is not None:
            self._drop_channel(session)
        return session

    def _drop_channel(self, session: Session) -> None:
        if session.channel is not None and self._by_channel.get(session.channel) is session:
            del self._by_channel[session.channel]
        session.channel = None
