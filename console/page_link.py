"""One page's connection, and the protocol it speaks, which is the console's own.

Page to console, JSON text frames:

- ``{id, worker, type, payload}``: a command of the published protocol for that worker. The console fills in the
  tenant, makes an id of its own, and answers ``{type: "response", id, ok, payload | error}``, with
  ``{type: "progress", id, payload}`` before. ``terminal.ack``, ``terminal.resize`` and ``display.ack`` take no id and
  get no answer.
- ``{type: "cancel", id}`` stops a command in flight.

Console to page, JSON text frames:

- ``{type: "hello", pageId, workerCommand, defaultImage, workers: [worker]}`` first.
- ``{type: "worker", worker}`` whenever one changed. ``worker`` has ``id``, ``connected``, ``since`` (ms since 1970),
  ``connection`` (counts its connections), ``register`` and ``heartbeat`` as it sent them, and ``sessions``:
  ``[{sessionId, devboxId, viewer}]``, ``viewer`` being a page's id, another viewer's name or null.
- ``{type: "terminal.inputAck" | "terminal.exit" | "terminal.error" | "terminal.taken", worker, sessionId, …}``.
- ``{type: "display.closed", worker, sessionId, reason}``: a viewer of a display is over; it does not survive a cut.
- ``{type: "DevBox.event", worker, payload}`` and ``{type: "error", error}`` for what has no id to answer to.

Binary frames in both directions have the layout of `protos.frames`. The console gives each session it opens for a
page a channel of this connection, in the answer to ``terminal.open`` or ``display.open``, and passes bytes on as they
are.
"""

import asyncio
import itertools
from typing import Annotated, Any
from uuid import uuid4

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json

from console.config import TENANT, ConsoleConfig
from console.outbox import Outbox
from console.page_display import PageDisplay
from console.page_terminal import PageTerminal
from console.registry import Workers
from console.requests import Requests
from console.workers import WorkerLink
from protos import frames
from protos.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Refusal,
    ResourceExhausted,
    Unimplemented,
)
from protos.wire import COMMANDS, DevBoxEvent, Error, Id, RequestId

_MAX_COMMANDS = 64
_MAX_TERMINALS = 200
_MAX_DISPLAYS = 20


class PageMessage(BaseModel):
    """One text frame of a page."""

    type: Annotated[str, Field(max_length=64)]
    id: RequestId | None = None
    worker: Id | None = None
    payload: dict[str, Any] = {}


class PageLink:
    """One page's connection: a `Watcher` of workers, with a `PageTerminal` for each session it looks at."""

    def __init__(self, page_id: str, workers: Workers, outbox: Outbox, tasks: asyncio.TaskGroup) -> None:
        self.page_id = page_id
        self._workers = workers
        self._outbox = outbox
        self._tasks = tasks
        self._running: dict[str, tuple[WorkerLink, str, asyncio.Task[None]]] = {}
        self._terminals: dict[tuple[str, str], PageTerminal] = {}
        self._displays: dict[tuple[str, str], PageDisplay] = {}
        self._by_channel: dict[int, PageTerminal | PageDisplay] = {}
        self._numbers = itertools.count(1)

    def receive(self, text: str) -> None:
        """Take one text frame; garbage is answered and ends nothing."""
        try:
            message = PageMessage.model_validate_json(text)
        except ValidationError:
            self._push(
                {
                    "type": "error",
                    "error": _error(InvalidArgument("This is no message of the page's protocol.")),
                }
            )
            return
        if message.type == "cancel":
            if message.id in self._running:
                link, request_id, _ = self._running[message.id]
                link.cancel(request_id)  # it answers, as every command does
            return
        try:
            self._command(message)
        except Refusal as refusal:
            self._refuse(message.id, refusal)

    def receive_frame(self, frame: bytes) -> None:
        """Take keystrokes, or a display's bytes."""
        try:
            _, channel, offset, data = frames.decode(frame)
            if channel not in self._by_channel:
                raise FailedPrecondition("Nothing is open on this channel.")
        except Refusal as refusal:
            self._refuse(None, refusal)
        else:
            self._by_channel[channel].type(offset, data)

    def _command(self, message: PageMessage) -> None:
        link = self._workers.find(message.worker or "")
        if link is None:
            raise NotFound("This console knows no such worker.")
        if message.type not in COMMANDS:
            raise Unimplemented(f"There is no command {message.type!r}.")
        if message.type in {"terminal.ack", "terminal.resize"}:
            terminal = self._terminals.get((link.id, str(message.payload.get("sessionId"))))
            if terminal is not None:
                terminal.tell(message.type, message.payload)
            return
        if message.type == "display.ack":
            display = self._displays.get((link.id, str(message.payload.get("sessionId"))))
            if display is not None:
                display.ack(message.payload.get("offset"))
            return
        if message.type == "display.data":
            raise InvalidArgument("A display's bytes come in binary frames.")
        if message.id is None or message.id in self._running:
            raise InvalidArgument("A command needs an id that no other in flight has.")
        if len(self._running) >= _MAX_COMMANDS:
            raise ResourceExhausted(f"At most {_MAX_COMMANDS} commands at a time.")
        request_id = Requests.new_id()
        payload = {**message.payload, "tenantId": TENANT}
        work = self._run(link, message.id, request_id, message.type, payload)
        task = self._tasks.create_task(work, name=f"{message.type} for page {self.page_id}")
        self._running[message.id] = link, request_id, task

    async def _run(
        self, link: WorkerLink, page_request_id: str, request_id: str, kind: str, payload: dict[str, Any]
    ) -> None:
        try:
            if kind == "terminal.open":
                await self._terminal(link, payload).open(page_request_id, payload)
                return
            if kind == "display.open":
                await self._open_display(link, page_request_id, payload)
                return
            if kind == "display.close":
                self._close_display(link, str(payload.get("sessionId")))
                self._push({"type": "response", "id": page_request_id, "ok": True, "payload": {}})
                return
            answer = await link.request(
                kind,
                payload,
                on_progress=lambda step: self._push({"type": "progress", "id": page_request_id, "payload": step}),
                request_id=request_id,
                stops_with_caller=False,  # a page that is reloaded stops nothing
            )
            if kind == "terminal.close":
                link.ended(str(payload.get("sessionId")))
            self._push({"type": "response", "id": page_request_id, "ok": True, "payload": answer})
        except Refusal as refusal:
            self._refuse(page_request_id, refusal)
        finally:
            self._running.pop(page_request_id, None)

    def _terminal(self, link: WorkerLink, payload: dict[str, Any]) -> PageTerminal:
        session_id = str(payload.setdefault("sessionId", f"t-{uuid4().hex}"))
        terminal = self._terminals.get((link.id, session_id))
        if terminal is None:
            if len(self._terminals) >= _MAX_TERMINALS:
                raise ResourceExhausted(f"A page opens at most {_MAX_TERMINALS} terminals: reload it.")
            channel = next(self._numbers)
            terminal = PageTerminal(
                link, session_id, page_id=self.page_id, channel=channel, outbox=self._outbox, push=self._push
            )
            self._terminals[link.id, session_id] = self._by_channel[channel] = terminal
        return terminal

    async def _open_display(self, link: WorkerLink, page_request_id: str, payload: dict[str, Any]) -> None:
        """Open a viewer under an id of ours: each is one of its own."""
        if len(self._displays) >= _MAX_DISPLAYS:
            raise ResourceExhausted(f"A page looks at {_MAX_DISPLAYS} displays at most: close some.")
        session_id = payload["sessionId"] = f"v-{uuid4().hex}"
        channel = next(self._numbers)
        display = PageDisplay(
            link,
            session_id,
            channel=channel,
            outbox=self._outbox,
            push=self._push,
            on_closed=lambda: self._close_display(link, session_id),
        )
        self._displays[link.id, session_id] = self._by_channel[channel] = display
        try:
            await display.open(page_request_id, payload)
        except BaseException:
            self._close_display(link, session_id)
            raise

    def _close_display(self, link: WorkerLink, session_id: str) -> None:
        display = self._displays.pop((link.id, session_id), None)
        if display is not None:
            self._by_channel.pop(display.channel, None)
            display.leave()

    def greet(self, config: ConsoleConfig, worker_command: str) -> None:
        """Send what a page must know first."""
        workers = [describe(link) for link in self._workers.all()]
        hello = {
            "pageId": self.page_id,
            "workerCommand": worker_command,
            "defaultImage": config.default_image,
        }
        self._push({"type": "hello", **hello, "workers": workers})

    def leave(self) -> None:
        """Leave every session and wait for no answer any more; safe to call twice."""
        for _, _, task in self._running.values():
            task.cancel()
        for terminal in self._terminals.values():
            terminal.leave()
        for display in self._displays.values():
            display.leave()
        self._terminals.clear()
        self._displays.clear()
        self._by_channel.clear()

    # --- `console.workers.Watcher` ----------------------------------------------------------------------------------

    def worker_changed(self, link: WorkerLink) -> None:
        """Push a worker's figures."""
        self._push({"type": "worker", "worker": describe(link)})

    def devbox_event(self, link: WorkerLink, event: DevBoxEvent) -> None:
        """Push that a DevBox changed by itself."""
        payload = event.model_dump(mode="json", by_alias=True, exclude_none=True)
        self._push({"type": "DevBox.event", "worker": link.id, "payload": payload})

    # --- To the page ------------------------------------------------------------------------------------------------

    def _refuse(self, request_id: str | None, refusal: Refusal) -> None:
        if request_id is None:
            self._push({"type": "error", "error": _error(refusal)})
        else:
            self._push({"type": "response", "id": request_id, "ok": False, "error": _error(refusal)})

    def _push(self, message: dict[str, Any]) -> None:
        self._outbox.put_text(to_json(message))


def describe(link: WorkerLink) -> dict[str, Any]:
    """Return a worker as pages see it."""

    def shown(model: BaseModel | None) -> dict[str, Any] | None:
        return None if model is None else model.model_dump(mode="json", by_alias=True, exclude={"sessions"})

    return {
        "id": link.id,
        "connected": link.connected,
        "since": int(link.since * 1000),
        "connection": link.connections,
        "register": shown(link.register),
        "heartbeat": shown(link.heartbeat),
        "sessions": [
            {
                "sessionId": session.session_id,
                "devboxId": session.devbox_id,
                "viewer": None if session.viewer is None else session.viewer.viewer_id,
            }
            for session in link.sessions.all()
        ],
    }


def _error(refusal: Refusal) -> dict[str, Any]:
    return Error.of(refusal).model_dump(mode="json", by_alias=True, exclude_none=True)
