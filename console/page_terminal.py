"""One session as one page sees it: gives its bytes a channel of the page's connection and passes on what happens."""

from collections.abc import Callable
from typing import Any

from console.outbox import Outbox
from console.sessions import Session
from console.workers import WorkerLink
from protos import frames
from protos.errors import FailedPrecondition
from protos.wire import Error, TerminalOpenAnswer

Push = Callable[[dict[str, Any]], None]


class PageTerminal:
    """A `Viewer` of one session for one page; lives as long as the page's connection."""

    def __init__(
        self, link: WorkerLink, session_id: str, *, page_id: str, channel: int, outbox: Outbox, push: Push
    ) -> None:
        self.channel = channel
        self._link = link
        self._session_id = session_id
        self._page_id = page_id
        self._outbox = outbox
        self._push = push
        self._session: Session | None = None
        self._request_id: str | None = None

    async def open(self, request_id: str, payload: dict[str, Any]) -> None:
        """Open or continue the session; `attached` answers, ahead of any output. Raises `Refusal`."""
        if self._request_id is not None:
            raise FailedPrecondition("This terminal is being opened already.")
        self._request_id = request_id
        try:
            await self._link.open_terminal(payload, self)
        finally:
            self._request_id = None

    def type(self, offset: int, data: bytes) -> None:
        """Pass keystrokes on, unless another viewer has the session now."""
        if self._session is not None and self._session.viewer is self:
            self._link.send_input(self._session, offset, data)

    def tell(self, kind: str, payload: dict[str, Any]) -> None:
        """Pass an acknowledgement or a size on, unless another viewer has the session now."""
        if self._session is None or self._session.viewer is not self:
            return
        if kind == "terminal.ack":
            if isinstance(offset := payload.get("offset"), int):
                self._link.send_ack(self._session, offset)
        else:
            self._link.send(kind, payload)

    def leave(self) -> None:
        """Stop looking; the session stays open."""
        self._link.leave(self)

    # --- `console.sessions.Viewer` ----------------------------------------------------------------------------------

    @property
    def viewer_id(self) -> str:
        """Name it to other viewers."""
        return self._page_id

    def attached(self, session: Session, answer: TerminalOpenAnswer) -> None:
        """Answer the page's ``terminal.open`` with the page's channel."""
        self._session = session
        payload = answer.model_dump(mode="json", by_alias=True) | {"channel": self.channel}
        self._push({"type": "response", "id": self._request_id, "ok": True, "payload": payload})

    def output(self, session: Session, offset: int, data: bytes) -> None:  # noqa: ARG002 - it has one session
        """Pass output on."""
        self._outbox.put_binary(frames.encode_header(frames.FrameKind.TERMINAL, self.channel, offset) + data)

    def input_acked(self, session: Session, offset: int) -> None:  # noqa: ARG002
        """Pass on what reached the program."""
        self._tell_page("terminal.inputAck", offset=offset)

    def refused(self, session: Session, error: Error) -> None:  # noqa: ARG002
        """Pass on what was not taken."""
        self._tell_page("terminal.error", error=error.model_dump(mode="json", by_alias=True, exclude_none=True))

    def exited(self, session: Session, exit_code: int, offset: int) -> None:  # noqa: ARG002
        """Pass on that the program ended."""
        self._tell_page("terminal.exit", exitCode=exit_code, offset=offset)

    def taken(self, session: Session) -> None:  # noqa: ARG002
        """Pass on that another viewer looks at it now."""
        self._tell_page("terminal.taken")

    def _tell_page(self, kind: str, **fields: object) -> None:
        self._push({"type": kind, "worker": self._link.id, "sessionId": self._session_id, **fields})
