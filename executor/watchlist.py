"""What was last seen of each DevBox, and so what happened to it by itself. Pure: no I/O, no clock.

Two look and report here, the engine's events and the reconcile; both compare with the same memory, so what one has
told the other does not tell again. What the worker does itself is noted before and after, so that it is no event.
"""

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from protos.errors import Refusal

Kind = Literal["died", "oom", "removed", "over-quota", "egress-denied"]

_REMEMBERED = 10_000


@dataclass(frozen=True)
class Sighting:
    """A DevBox as it was found. ``oom_kills`` counts kills for want of memory since its start; None: not known."""

    devbox_id: str
    tenant: str
    running: bool
    started_at: str
    exit_code: int | None = None
    oom_killed: bool = False
    oom_kills: int | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened to a DevBox by itself, or was refused to it."""

    devbox_id: str
    tenant: str
    kind: Kind
    detail: str
    host: str = ""
    """Of "egress-denied": what it wanted to reach."""
    event_id: str = field(default_factory=lambda: secrets.token_hex(8), compare=False)
    """Its own, however often it is told."""


class Watchlist:
    """The memory. ``turn`` counts what is noted: whoever looks takes it before, and hands it in with the finding.

    What was found before the worker did something to that DevBox says nothing about what is there after it. Nor does
    a finding count beside which another came in meanwhile: nobody knows which of the two looks was the later one.
    """

    def __init__(self) -> None:
        self.turn = 0
        self._seen: dict[str, Sighting] = {}
        # Bounded: the oldest go first. A DevBox that is touched now is looked at within seconds.
        self._touched: OrderedDict[str, int] = OrderedDict()
        self._stopping: OrderedDict[str, None] = OrderedDict()
        self._removing: OrderedDict[str, None] = OrderedDict()
        self._by_owner: OrderedDict[str, None] = OrderedDict()

    # --- across restarts --------------------------------------------------------------------------------------

    def sightings(self) -> list[Sighting]:
        """Return what to remember for the next executor: not what the worker is ending itself just now."""
        return [
            sighting
            for key, sighting in self._seen.items()
            if key not in self._removing and not (sighting.running and key in self._stopping)
        ]

    def restore(self, sightings: Iterable[Sighting]) -> None:
        """Begin with what an earlier executor saw last, so that what happened since is found; call before all else."""
        self._seen = {sighting.devbox_id: sighting for sighting in sightings}

    # --- what the worker does itself --------------------------------------------------------------------------

    def starting(self, devbox_id: str) -> None:
        """Note that the worker is about to start it: what is found from now on may be either."""
        self._touch(devbox_id)

    def started(self, sighting: Sighting) -> None:
        """Note how it is after the worker created or started it: from now on its end is news."""
        self._seen[sighting.devbox_id] = sighting
        self._stopping.pop(sighting.devbox_id, None)
        self._by_owner.pop(sighting.devbox_id, None)
        self._touch(sighting.devbox_id)

    def stopping(self, devbox_id: str) -> None:
        """Note that the worker is about to stop it."""
        _note(self._stopping, devbox_id)
        self._touch(devbox_id)

    def removing(self, devbox_id: str) -> None:
        """Note that the worker is about to remove it. Never taken back: ids are not used again."""
        _note(self._removing, devbox_id)
        self._touch(devbox_id)

    @contextmanager
    def for_owner(self, devbox_id: str) -> Iterator[None]:
        """Have the body stop or remove it for the machine's owner: that is an event, and says whose doing it is."""
        _note(self._by_owner, devbox_id)
        try:
            yield
        except Refusal:
            self._by_owner.pop(devbox_id, None)
            raise

    def not_done(self, devbox_id: str) -> None:
        """Note that the worker could not stop or remove it after all."""
        self._stopping.pop(devbox_id, None)
        self._removing.pop(devbox_id, None)
        self._touch(devbox_id)

    def stopped(self, devbox_id: str) -> None:
        """Note that the worker has stopped or removed it."""
        if devbox_id in self._seen:
            self._seen[devbox_id] = replace(self._seen[devbox_id], running=False)
        self._touch(devbox_id)

    # --- what is found ----------------------------------------------------------------------------------------

    def found_all(self, sightings: Iterable[Sighting], turn: int) -> list[Event]:
        """Compare with all DevBoxes there are."""
        found = {sighting.devbox_id: sighting for sighting in sightings}
        events: list[Event] = []
        for devbox_id in [*self._seen.keys() - found.keys(), *found]:
            events += self.found(devbox_id, found.get(devbox_id), turn)
        return events

    def is_stale(self, devbox_id: str, turn: int) -> bool:
        """Tell whether a finding would count no more: who wants to know it looks again."""
        return self._touched.get(devbox_id, 0) > turn

    def found(self, devbox_id: str, now: Sighting | None, turn: int) -> list[Event]:
        """Compare with what one DevBox is now; None: it is gone."""
        if self.is_stale(devbox_id, turn):
            return []
        self._touch(devbox_id)
        before = self._seen.get(devbox_id)
        if now is None:
            self._seen.pop(devbox_id, None)
            if before is None or devbox_id in self._removing:
                return []
            who = "by the machine's owner" if devbox_id in self._by_owner else "outside of this worker"
            return [Event(devbox_id, before.tenant, "removed", f"It was removed {who}.")]
        self._seen[devbox_id] = now
        if now.running and before is not None and now.started_at != before.started_at:
            self._by_owner.pop(devbox_id, None)  # whatever they did, it was started again since
        if before is None or devbox_id in self._removing:
            return []
        return [*_out_of_memory(before, now), *self._died(before, now)]

    def _died(self, before: Sighting, now: Sighting) -> list[Event]:
        if not before.running or (now.running and now.started_at == before.started_at):
            return []
        if before.devbox_id in self._stopping:
            return []
        if now.running:
            detail = "It was restarted outside of this worker."
        elif now.devbox_id in self._by_owner:
            detail = "It was stopped by the machine's owner."
        else:
            detail = f"Its main process ended with exit code {now.exit_code}."
        return [Event(now.devbox_id, now.tenant, "died", detail)]

    def out_of_memory(self, devbox_id: str) -> list[Event]:
        """Believe the engine that something was killed for want of memory, where the kills cannot be counted."""
        seen = self._seen.get(devbox_id)
        if seen is None or seen.oom_killed or seen.oom_kills is not None:
            return []
        self._seen[devbox_id] = replace(seen, oom_killed=True)
        return [_oom(seen)]

    def _touch(self, devbox_id: str) -> None:
        self.turn += 1
        self._touched.pop(devbox_id, None)
        self._touched[devbox_id] = self.turn
        while len(self._touched) > _REMEMBERED:
            self._touched.popitem(last=False)


def _out_of_memory(before: Sighting, now: Sighting) -> list[Event]:
    if now.started_at != before.started_at:
        before = replace(before, oom_killed=False, oom_kills=0 if before.oom_kills is not None else None)
    if now.oom_kills is not None and before.oom_kills is not None:
        return [_oom(now)] if now.oom_kills > before.oom_kills else []
    # It has ended, and with it what counted: the engine's word is left, unless its kill was told while it ran.
    return [_oom(now)] if now.oom_killed and not before.oom_killed and not before.oom_kills else []


def _oom(sighting: Sighting) -> Event:
    detail = "The kernel killed something in it for want of memory: give it more, or run less at a time."
    return Event(sighting.devbox_id, sighting.tenant, "oom", detail)


def _note(notes: OrderedDict[str, None], devbox_id: str) -> None:
    notes.pop(devbox_id, None)
    notes[devbox_id] = None
    while len(notes) > _REMEMBERED:
        notes.popitem(last=False)
