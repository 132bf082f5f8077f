"""Events: what happens to DevBoxes by itself, told to whoever watches.

The engine's event stream is a hint, looking is the truth: an event makes us look at that DevBox at once, and every
`EventLimits.reconcile_s` we look at all, for engines drop events and restart. `executor.watchlist` compares.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager

from pydantic import TypeAdapter, ValidationError

from executor.config import EventLimits
from executor.data_dir import DataDir
from executor.devbox import devbox_id_of, sighting
from executor.devboxes import DevBoxes
from executor.engine import Engine
from executor.watchlist import Event, Sighting
from protos.errors import NotFound, Refusal

log = logging.getLogger(__name__)

_STREAM_AGAIN_S = 1.0
_MAX_STREAM_AGAIN_S = 30.0
_REMEMBER_S = 1.0
_LOOKS = 3
"""At a DevBox for one event of the engine, where more is noted of it each time; then it is the reconcile's to find."""
_SIGHTINGS = TypeAdapter(list[Sighting])
_EVENTS = TypeAdapter(list[Event])


class Untold:
    """Events that nobody has acknowledged, in order and bounded: the oldest goes first. No I/O."""

    def __init__(self, most: int) -> None:
        self._events: deque[Event] = deque()
        self._most = most

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def put(self, event: Event) -> None:
        """Keep an event until it is acknowledged."""
        self._events.append(event)
        if len(self._events) > self._most:
            dropped = self._events.popleft()
            log.warning("nobody took the event %s of DevBox %s: dropped", dropped.kind, dropped.devbox_id)

    def acknowledge(self, event_id: str) -> None:
        """Forget the event of this id and all before it; if it is not here, it was dropped or forgotten: nothing."""
        if any(event.event_id == event_id for event in self._events):
            while self._events.popleft().event_id != event_id:
                pass


class Watcher:
    """One who watches. Holds what it was not handed yet; begins with what nobody has acknowledged."""

    def __init__(self, untold: Iterable[Event], most: int) -> None:
        self._events = deque(untold, maxlen=most)
        self._changed = asyncio.Event()
        self.closed = False

    def put(self, event: Event) -> None:
        """Tell of an event; never waits."""
        self._events.append(event)
        self._changed.set()

    async def next(self) -> Event | None:
        """Return the oldest event, None at the executor's end."""
        while not self._events:
            if self.closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()

    def close(self) -> None:
        """Tell of no more."""
        self.closed = True
        self._changed.set()


class Events:
    """Finds what happens by itself, and tells all watchers. The next one gets what nobody has acknowledged."""

    def __init__(self, engine: Engine, devboxes: DevBoxes, data_dir: DataDir, limits: EventLimits) -> None:
        self._engine = engine
        self._data_dir = data_dir
        self._devboxes = devboxes
        self._watchlist = devboxes.watchlist
        self._limits = limits
        self._watchers: list[Watcher] = []
        self._untold = Untold(limits.kept)
        self._closed = False
        self._keeping = threading.Lock()
        devboxes.egress.tell = lambda event: self._tell([event])

    async def run(self) -> None:
        """Look until cancelled; begins with what the last executor did not get told, and what happened since."""
        try:
            for event in _EVENTS.validate_json(self._data_dir.kept("untold")):
                self._pass_on(event)
        except ValidationError:
            log.warning("what events were not told yet cannot be read: they are lost")
        try:
            self._watchlist.restore(_SIGHTINGS.validate_json(self._data_dir.kept("seen")))
        except ValidationError:
            log.warning("what DevBoxes were seen last cannot be read: what happened to them meanwhile is not told")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="engine-events")
            group.create_task(self._reconcile(), name="reconcile")
            group.create_task(self._remember(), name="remember")

    @contextmanager
    def watching(self) -> Iterator[Watcher]:
        """Watch while the block runs; begins with what nobody has acknowledged."""
        watcher = Watcher(self._untold, self._limits.kept)
        if self._closed:
            watcher.close()
        self._watchers.append(watcher)
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)

    def acknowledge(self, event_id: str) -> None:
        """Take note that an event and all before it arrived: nobody is told of them again."""
        self._untold.acknowledge(event_id)

    def close(self) -> None:
        """Let the watchers go: the executor stops."""
        self._closed = True
        for watcher in self._watchers:
            watcher.close()

    async def _follow(self) -> None:
        """Follow the engine's events; look at everything each time the stream was away."""
        delay_s = _STREAM_AGAIN_S
        while True:
            try:
                async with aclosing(self._engine.events(self._devboxes.label)) as hints:
                    async for hint in hints:
                        delay_s = _STREAM_AGAIN_S
                        if hint.action.startswith("die"):  # Podman's and Docker's words differ
                            self._devboxes.egress.died(hint.container)
                        await self._look_at(hint.container, out_of_memory=hint.action == "oom")
            except Refusal as refusal:
                log.debug("the engine's events: %s", refusal.message)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_STREAM_AGAIN_S)

    async def _look_at(self, container: str, *, out_of_memory: bool) -> None:
        devbox_id = devbox_id_of(container)
        if devbox_id is None:
            return
        for _ in range(_LOOKS):
            turn = self._watchlist.turn
            try:
                box = await self._devboxes.find(devbox_id)
            except NotFound:
                box = None
            except Refusal as refusal:
                log.debug("an event's DevBox: %s", refusal.message)
                return
            if not self._watchlist.is_stale(devbox_id, turn):
                break
        self._tell(self._watchlist.found(devbox_id, sighting(box) if box else None, turn))
        if out_of_memory:
            self._tell(self._watchlist.out_of_memory(devbox_id))

    async def _reconcile(self) -> None:
        while True:
            turn, pause_s = self._watchlist.turn, self._limits.reconcile_s
            try:
                boxes = await self._devboxes.inspect_boxes()
            except Refusal as refusal:
                log.debug("reconcile: %s", refusal.message)
                pause_s = min(_STREAM_AGAIN_S, self._limits.reconcile_s)  # soon: the engine is just away
            else:
                self._tell(self._watchlist.found_all(map(sighting, boxes), turn))
            await asyncio.sleep(pause_s)

    async def _remember(self) -> None:
        """Keep what is seen and untold for the next executor. A hint like the rest: what it lost is merely not told."""
        kept: tuple[list[Sighting], list[str]] = ([], [])
        try:
            while True:
                seen, untold = self._watchlist.sightings(), list(self._untold)
                if (now := (seen, [event.event_id for event in untold])) != kept:
                    await asyncio.to_thread(self._keep, seen, untold)
                    kept = now
                await asyncio.sleep(_REMEMBER_S)
        finally:  # or what the worker did itself in the last second would be an event for the next executor
            self._keep(self._watchlist.sightings(), list(self._untold))

    def _keep(self, seen: list[Sighting], untold: list[Event]) -> None:
        with self._keeping:  # one that was given up goes on in its thread; the last word is the newest
            try:
                self._data_dir.keep("untold", _EVENTS.dump_json(untold).decode())
                self._data_dir.keep("seen", _SIGHTINGS.dump_json(seen).decode())
            except OSError as error:
                log.warning("what DevBoxes are there cannot be kept: %s", error.strerror)

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self.tell(event)

    def tell(self, event: Event) -> None:
        """Tell those who watch of something that others found."""
        log.info("DevBox %s: %s: %s", event.devbox_id, event.kind, event.detail)
        self._pass_on(event)

    def _pass_on(self, event: Event) -> None:
        self._untold.put(event)
        for watcher in self._watchers:
            watcher.put(event)
