"""All workers that connected since the console started, bounded, and whoever watches them."""

import asyncio
from typing import Protocol

from console.config import ConsoleConfig
from console.workers import WorkerLink
from protos.errors import ResourceExhausted
from protos.wire import DevBoxEvent

MAX_WORKERS = 200


class Watcher(Protocol):
    """Whoever wants to know of changes; its methods never wait and never raise."""

    def worker_changed(self, link: WorkerLink) -> None:
        """Learn that a worker connected, went, or says something new of itself or its sessions."""

    def devbox_event(self, link: WorkerLink, event: DevBoxEvent) -> None:
        """Learn that a DevBox changed by itself."""


class Workers:
    """Every worker that connected since the console started, bounded, and whoever watches them."""

    def __init__(self, config: ConsoleConfig) -> None:
        self._config = config
        self._links: dict[str, WorkerLink] = {}
        self._watchers: list[Watcher] = []
        self._arrived = asyncio.Event()

    def all(self) -> list[WorkerLink]:
        """Return the workers, oldest first."""
        return list(self._links.values())

    def find(self, worker_id: str) -> WorkerLink | None:
        """Return a worker by its id."""
        return self._links.get(worker_id)

    def admit(self, worker_id: str) -> WorkerLink:
        """Return the link of a worker that connects; raises `ResourceExhausted` when there are too many."""
        link = self._links.get(worker_id)
        if link is not None:
            return link
        if len(self._links) >= MAX_WORKERS:
            gone = min((link for link in self.all() if not link.connected), key=lambda link: link.since, default=None)
            if gone is None:
                raise ResourceExhausted(f"This console serves at most {MAX_WORKERS} workers.")
            gone.give_up()
            del self._links[gone.id]
        link = self._links[worker_id] = WorkerLink(worker_id, self._config, self._changed)
        link.on_event = self._event
        return link

    async def wait(self, worker_id: str | None = None, timeout_s: float = 10) -> WorkerLink:
        """Return a connected worker, the first or the one of this id, once there is one; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while True:
                for link in self.all():
                    if link.connected and worker_id in (None, link.id):
                        return link
                self._arrived.clear()
                await self._arrived.wait()

    def watch(self, watcher: Watcher) -> None:
        """Tell a watcher of changes from now on."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Tell a watcher no more."""
        self._watchers.remove(watcher)

    def _changed(self, link: WorkerLink) -> None:
        if link.connected:
            self._arrived.set()
        for watcher in list(self._watchers):
            watcher.worker_changed(link)

    def _event(self, link: WorkerLink, event: DevBoxEvent) -> None:
        for watcher in list(self._watchers):
            watcher.devbox_event(link, event)
