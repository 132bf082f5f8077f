"""The ledger: work with a request id runs at most once per tenant, whoever asks and how often.

Work runs in the executor's own task group, not in the RPC that began it: a gateway that dies merely stops listening.
A repeat joins the work in flight or gets the first answer again. In memory: across a restart of the executor a
DevBox is found again by name, spec and labels, and other work answers ``UNAVAILABLE``.
"""

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import islice
from typing import Any, Generic, TypeVar, cast

from protos.errors import Cancelled, Internal, InvalidArgument, Refusal, ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

KEEP_S = 600.0
MAX_ENTRIES = 10_000
MAX_RUNNING = 256
"""Work under way at one time: each piece may hold two outputs of a megabyte."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""Of answers that are kept for a repeat; beyond, the oldest are forgotten, but not that they were given."""
_FORGOTTEN_AT_ONCE = 4
"""Entries looked at by each call, so that no call pays for all."""

_T = TypeVar("_T")
_P = TypeVar("_P")


class Work(Generic[_T, _P]):
    """One piece of work: its progress while it runs (type P), its answer (type T) for as long as it is kept."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.weight_bytes = 0
        self.ended_at: float | None = None
        self.ended = asyncio.Event()
        self._result: _T | None = None
        self._refusal: Refusal | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancelled: Refusal | None = None
        self._listeners: list[_Listener[_P]] = []

    async def progress(self, step: _P) -> None:
        """Tell those who listen, waiting for the slowest; with nobody listening the step is gone."""
        for listener in list(self._listeners):
            if listener in self._listeners:  # it may have left while another was waited for
                await listener.put(step)

    async def steps(self) -> AsyncGenerator[_P, None]:
        """Yield progress from now on until the work ends."""
        listener = _Listener[_P]()
        self._listeners.append(listener)
        try:
            while (step := await listener.get(self.ended)) is not None:
                yield step
        finally:
            self._listeners.remove(listener)
            listener.leave()

    async def result(self) -> _T:
        """Wait for the answer; raises the `Refusal` that the work ended with. Being cancelled leaves the work alone."""
        await self.ended.wait()
        if self._refusal is not None:
            raise self._refusal
        return cast("_T", self._result)

    def forget_answer(self) -> None:
        """Let go of a heavy answer: a repeat is told that the work was done, and it is not run again."""
        self._result = None
        self._refusal = Unavailable("This was done, but its answer is no longer kept: ask anew under another id.")
        self.weight_bytes = 0

    def cancel(self, why: Refusal | None = None) -> bool:
        """Stop the work if it is under way; says whether it was. Its answer is ``why``, else that it was asked for."""
        if self.ended.is_set():
            return False
        self._cancelled = why or Cancelled("Stopped on request.")
        return self._task is None or self._task.cancel()

    async def run(self, job: Callable[["Work[_T, _P]"], Awaitable[_T]], now: Callable[[], float]) -> None:
        """Do the job and keep how it ended; never raises but for the executor's own end."""
        self._task = asyncio.current_task()
        try:
            if self._cancelled is not None:
                raise self._cancelled  # noqa: TRY301 - kept below like any other
            self._result = await job(self)
        except Refusal as refusal:
            self._refusal = refusal
        except asyncio.CancelledError:
            self._refusal = self._cancelled or Cancelled("Stopped on request.")
        except Exception:
            log.exception("work failed")
            self._refusal = Internal("The worker failed at this; its log says how.")
        finally:
            self._task = None
            self.ended_at = now()
            self.ended.set()
            for listener in self._listeners:
                listener.wake()


class _Listener(Generic[_P]):
    """One who listens to progress: holds one step; the work waits until it is taken or the listener leaves."""

    def __init__(self) -> None:
        self._step: _P | None = None
        self._changed = asyncio.Event()
        self._free = asyncio.Event()
        self._free.set()

    async def put(self, step: _P) -> None:
        """Hand over a step, waiting for the one before to be taken."""
        await self._free.wait()
        self._free.clear()
        self._step = step
        self._changed.set()

    async def get(self, ended: asyncio.Event) -> _P | None:
        """Return the next step, or None when the work has ended and all steps are taken."""
        while self._step is None and not ended.is_set():
            self._changed.clear()
            await self._changed.wait()
        step, self._step = self._step, None
        self._free.set()
        return step

    def wake(self) -> None:
        """Look again whether the work has ended."""
        self._changed.set()

    def leave(self) -> None:
        """Stop listening: a put that waits goes through, into nothing."""
        self._free.set()


class Ledger:
    """All work of the last ten minutes by (tenant, request id); bounded, the oldest ended work goes first."""

    def __init__(self, tasks: asyncio.TaskGroup, now: Callable[[], float]) -> None:
        self._tasks = tasks
        self._now = now
        self._entries: OrderedDict[tuple[str, str], Work[Any, Any]] = OrderedDict()
        self._running = 0
        self._kept_bytes = 0

    def begin(
        self, tenant: str, request_id: str, fingerprint: str, job: Callable[[Work[_T, _P]], Awaitable[_T]]
    ) -> Work[_T, _P]:
        """Begin work, or return the one that had this id before. An empty id makes no promise.

        Raises `InvalidArgument` when the id was used for something else, `ResourceExhausted` when too much runs.
        """
        self._forget()
        key = (tenant, request_id or uuid.uuid4().hex)
        if known := self._entries.get(key):
            if known.fingerprint != fingerprint:
                raise InvalidArgument("This id was used for another command: give each command an id of its own.")
            return known
        if self._running >= MAX_RUNNING:
            raise ResourceExhausted(f"{MAX_RUNNING} commands are under way on this worker; send it again later.")
        work: Work[_T, _P] = Work(fingerprint)
        self._entries[key] = work
        self._running += 1
        self._tasks.create_task(self._run(work, job), name=f"work {key[1]}")
        return work

    def cancel(self, tenant: str, request_id: str) -> bool:
        """Stop work in flight; says whether there was any."""
        work = self._entries.get((tenant, request_id))
        return work is not None and work.cancel()

    @property
    def running(self) -> int:
        """How much work is under way."""
        return self._running

    async def drain(self, deadline_s: float) -> bool:
        """Wait for work in flight, then cancel what is left; the task group waits for its clean-up.

        Returns whether nothing had to be cancelled.
        """
        try:
            async with asyncio.timeout(deadline_s):
                for work in list(self._entries.values()):
                    await work.ended.wait()
        except TimeoutError:
            log.warning("work still under way after %.0f s is cancelled", deadline_s)
            for work in self._entries.values():
                work.cancel(Unavailable("The executor had to stop before this was done: send it again."))
            return False
        return True

    async def _run(self, work: Work[_T, _P], job: Callable[[Work[_T, _P]], Awaitable[_T]]) -> None:
        try:
            await work.run(job, self._now)
        finally:
            self._running -= 1
            self._kept_bytes += work.weight_bytes
            self._shed()

    def _shed(self) -> None:
        """Let go of the oldest heavy answers while too many bytes are kept."""
        for work in self._entries.values():
            if self._kept_bytes <= MAX_KEPT_BYTES:
                return
            if work.ended.is_set() and work.weight_bytes:
                self._kept_bytes -= work.weight_bytes
                work.forget_answer()

    def _forget(self) -> None:
        """Drop ended work that is too old, and the oldest ended work where there is no room for more."""
        horizon = self._now() - KEEP_S
        for key, work in list(islice(self._entries.items(), _FORGOTTEN_AT_ONCE)):
            if work.ended_at is not None and work.ended_at < horizon:
                self._drop(key)
        if len(self._entries) >= MAX_ENTRIES:
            # There is one: fewer run than are kept.
            self._drop(next(key for key, work in self._entries.items() if work.ended.is_set()))

    def _drop(self, key: tuple[str, str]) -> None:
        self._kept_bytes -= self._entries.pop(key).weight_bytes
