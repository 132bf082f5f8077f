"""The bridges of one kind on one connection: by session, by channel, with their tasks."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Generic, NamedTuple, TypeVar

from gateway.bridge import Bridge
from gateway.connection import Connection
from gateway.in_flight import InFlight
from protos.errors import NotFound, ResourceExhausted

log = logging.getLogger(__name__)

B = TypeVar("B", bound=Bridge[Any, Any])


class Registry(Generic[B]):
    """Lives as long as its connection; the bridges' tasks belong to the connection's task group.

    A session without a bridge here is unknown here, even if the executor has it: it must be opened first.
    ``noun`` names the kind in messages; at most ``most`` are open at a time.
    """

    def __init__(
        self,
        connection: Connection,
        tasks: asyncio.TaskGroup,
        in_flight: InFlight,
        channels: Iterator[int],
        *,
        noun: str,
        most: int,
    ) -> None:
        self._connection = connection
        self._tasks = tasks
        self._in_flight = in_flight
        self._free_channels = channels
        self._noun = noun
        self._most = most
        self._bridges: dict[B, _Begun] = {}
        self._sessions: dict[str, B] = {}
        self._channels: dict[int, B] = {}

    def of_channel(self, channel: int) -> B:
        """Return the bridge whose bytes a channel carries; raises `NotFound`."""
        bridge = self._channels.get(channel)
        if bridge is None:
            raise NotFound(f"No {self._noun} has channel {channel} on this connection; open the session again.")
        return bridge

    def ended(self, bridge: B) -> None:
        """Forget a bridge and end its task; safe to call twice."""
        begun = self._bridges.pop(bridge, None)
        if begun is None:
            return
        begun.tracked.close()
        bridge.abandon()
        if begun.task is not asyncio.current_task():
            begun.task.cancel()
        if self._sessions.get(bridge.session_id) is bridge:
            del self._sessions[bridge.session_id]
            if not bridge.is_open and begun.previous in self._bridges:
                self._sessions[bridge.session_id] = begun.previous
        self._channels.pop(bridge.channel, None)
        self._connection.forget(bridge)

    def _find(self, session_id: str) -> B:
        bridge = self._sessions.get(session_id)
        if bridge is None:
            raise NotFound(
                f"No {self._noun} {session_id} is open on this connection; send {self._noun}.open with it first."
            )
        return bridge

    def _check_room(self) -> None:
        if len(self._bridges) >= self._most:
            raise ResourceExhausted(f"At most {self._most} {self._noun}s on one connection; close some first.")

    def _begin(self, bridge: B, tenant_id: str) -> None:
        """Run a bridge; until it is opened, its request counts as under way.

        From here on the session's messages are for this bridge. One that had it stays until this one is open: the
        executor may refuse, another tenant's open for example, and then it has the session still.
        """
        previous = self._sessions.get(bridge.session_id) if bridge.session_id else None
        if bridge.session_id:
            self._sessions[bridge.session_id] = bridge
        tracked = ExitStack()
        tracked.enter_context(self._in_flight.track(bridge.request_id, tenant_id))
        label = bridge.session_id or bridge.request_id or "new"
        task = self._tasks.create_task(bridge.run(), name=f"{self._noun} {label}")
        self._bridges[bridge] = _Begun(task, tracked, previous)

    def _was_opened(self, bridge: B) -> None:
        """Note that a bridge is open, under the id that it has by now, and end those that had its session."""
        self._bridges[bridge].tracked.close()
        bridge.is_open = True
        for old in [old for old in self._bridges if old.session_id == bridge.session_id and old is not bridge]:
            if old.is_open:
                log.info("Session %s: opened again on the same connection", bridge.session_id)
                self.ended(old)
        self._sessions.setdefault(bridge.session_id, bridge)

    def _give_channel(self, bridge: B) -> None:
        """Give a bridge a channel, where the connection has any."""
        if self._connection.binary:
            bridge.channel = next(self._free_channels)
            self._channels[bridge.channel] = bridge


class _Begun(NamedTuple):
    """What belongs to one bridge here."""

    task: asyncio.Task[None]
    tracked: ExitStack
    previous: Bridge[Any, Any] | None
