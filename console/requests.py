"""Commands in flight to one worker, each answered once. No I/O: the link writes the frames and feeds the answers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from protos.errors import REFUSALS, Internal, Refusal, ResourceExhausted
from protos.messages import Progress
from protos.wire import Error, Response

MAX_IN_FLIGHT = 1000

OnProgress = Callable[[dict[str, Any]], None]
OnAnswer = Callable[[dict[str, Any]], None]


@dataclass(eq=False)
class Request:
    """One command that waits for its answer."""

    answer: asyncio.Future[dict[str, Any]]

    survives: bool
    """Whether it may be sent again; a terminal's channel is valid for one connection only."""

    stops_with_caller: bool = True
    """Whether the command is cancelled when nobody waits for its answer any more."""

    on_progress: OnProgress | None = None
    on_answer: OnAnswer | None = None
    """Called while the answer is read, so that the frame after it finds everything in place."""

    frame: bytes = b""
    """What was sent, to be sent again on the worker's next connection: an id runs at most once."""


class Requests:
    """The commands in flight to one worker, by id. Ids are random: they must not repeat even after a restart."""

    def __init__(self) -> None:
        self._waiting: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @staticmethod
    def new_id() -> str:
        """Return an id that no console ever used."""
        return f"c-{uuid4().hex}"

    @staticmethod
    def new(
        *,
        survives: bool,
        stops_with_caller: bool = True,
        on_progress: OnProgress | None = None,
        on_answer: OnAnswer | None = None,
    ) -> Request:
        """Return a request that is not sent yet."""
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        return Request(answer, survives, stops_with_caller, on_progress, on_answer)

    def add(self, request_id: str, request: Request) -> None:
        """Remember a request; raises `ResourceExhausted` when too many wait."""
        if len(self._waiting) >= MAX_IN_FLIGHT:
            raise ResourceExhausted(f"{MAX_IN_FLIGHT} commands wait for this worker's answer: try again later.")
        self._waiting[request_id] = request

    def forget(self, request_id: str) -> bool:
        """Drop a request nobody waits for any more; tell whether it was still unanswered."""
        return self._waiting.pop(request_id, None) is not None

    def answered(self, response: Response) -> None:
        """Deliver an answer; one that nobody waits for is ignored."""
        request = self._waiting.pop(response.id, None)
        if request is None or request.answer.done():
            return
        if not response.ok:
            request.answer.set_exception(refusal_of(response.error))
            return
        payload = response.payload or {}
        try:
            if request.on_answer is not None:
                request.on_answer(payload)
        except Refusal as refusal:
            request.answer.set_exception(refusal)
        else:
            request.answer.set_result(payload)

    def progressed(self, progress: Progress) -> None:
        """Deliver progress of a request."""
        request = self._waiting.get(progress.id)
        if request is not None and request.on_progress is not None:
            request.on_progress(progress.payload)

    def surviving_frames(self) -> list[bytes]:
        """Return what is to be sent again on a new connection."""
        return [request.frame for request in self._waiting.values() if request.survives]

    def fail(self, refusal: Refusal, *, survivors_too: bool) -> None:
        """End requests with a refusal: those bound to a connection that is gone, or all."""
        for request_id, request in list(self._waiting.items()):
            if survivors_too or not request.survives:
                del self._waiting[request_id]
                if not request.answer.done():
                    request.answer.set_exception(refusal)


def refusal_of(error: Error | None) -> Refusal:
    """Return a worker's error as the exception that says the same."""
    if error is None:
        return Internal("The worker refused without saying why.")
    refusal = REFUSALS[error.code](error.message)
    refusal.details = dict(error.details or {})
    return refusal
