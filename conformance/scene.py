"""What a check works with: the worker that is connected, and DevBoxes and images that go again when the check ends."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from websockets.exceptions import ConnectionClosed

from conformance.orchestrator import Json, Orchestrator, Peer, Refused, Violation

_WITHOUT_TENANT = ("DevBox.list-all", "images.list", "image.check")
_LOOK_AGAIN_S, _ASK_S = 0.2, 10
LONG_S = 600
"""For what depends on images: creating from one, building, starting a desktop."""


@dataclass(frozen=True)
class Target:
    """What the checks may use on the worker."""

    image: str
    """Of the DevBoxes: has sh, git and the usual small programs, and no display."""
    display_image: str
    """Of the DevBox whose display is opened."""


@dataclass
class Scene:
    """One worker before the checks, across its connections. What it registered with is of the newest connection."""

    orchestrator: Orchestrator
    target: Target
    peer: Peer
    register: Json
    peers: list[Peer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What this check found that the worker says it does not hold; cleared before each."""
    _boxes: list[str] = field(default_factory=list)
    _images: list[str] = field(default_factory=list)

    @property
    def tenant(self) -> str:
        """The tenant that the worker is registered for."""
        return str(self.register.get("tenantId") or self.peer.headers.get("X-ClusterCode-Tenant-Id", ""))

    async def connected(self, timeout_s: float = 60) -> Peer:
        """Return the connection there is, waiting for the next one if the last has ended."""
        while self.peer.closed.is_set():
            self.peer, self.register = await self.orchestrator.peer(timeout_s)
            self.peers.append(self.peer)
        return self.peer

    async def cut(self) -> Peer:
        """Drop the connection without a word; returns the next one."""
        self.peer.cut()
        await self.peer.closed.wait()
        return await self.connected()

    async def answer(
        self, kind: str, payload: Json | None = None, *, timeout_s: float = 60, message_id: str = ""
    ) -> Json:
        """Send a command, with the tenant filled in, and return the whole answer."""
        tenant = {} if kind in _WITHOUT_TENANT else {"tenantId": self.tenant}
        try:
            return await self.peer.ask(kind, {**tenant, **(payload or {})}, message_id=message_id, timeout_s=timeout_s)
        except TimeoutError:
            raise Violation(f"{kind} was not answered within {timeout_s:.0f} s") from None

    async def ask(self, kind: str, payload: Json | None = None, *, timeout_s: float = 60, message_id: str = "") -> Json:
        """Send a command and return its answer's payload; raises `Refused`."""
        answer = await self.answer(kind, payload, timeout_s=timeout_s, message_id=message_id)
        if not answer["ok"]:
            raise Refused(kind, answer["error"])
        found: Json = answer["payload"]
        return found

    async def refused(self, code: str, kind: str, payload: Json | None = None) -> str:
        """Send a command that must be refused with this code; returns the sentence that says why."""
        answer = await self.answer(kind, payload)
        demand(not answer["ok"], f"{kind} with {payload} was done, where {code} was due")
        error = answer["error"]
        same(error["code"], code, f"the code that refuses {kind} with {payload} ({error['message']})")
        demand(bool(error["message"].strip()), f"{kind} was refused with {code} and no word why")
        return str(error["message"])

    async def create(self, **more: object) -> Json:
        """Create a DevBox that runs; returns what the answer says of it. It is removed after the check."""
        spec = {"name": f"check-{uuid4().hex[:12]}", "image": self.target.image, **more}
        box: Json = (await self.ask("DevBox.create", spec, timeout_s=LONG_S))["devbox"]
        self._boxes.append(box["id"])
        if more.get("start", True):
            same(box["state"], "running", "the state of a DevBox that was just created")
        return box

    async def run(self, box: str, command: str | list[str], **more: object) -> str:
        """Run a command that must end with 0; returns what it writes to stdout."""
        answer = await self.ask("DevBox.exec", {"devboxId": box, "command": command, **more})
        same(answer["exitCode"], 0, f"the exit code of {command!r} ({answer['stderr'][-300:]})")
        return str(answer["stdout"])

    def own_image(self) -> str:
        """Return a name for an image to build; it is deleted after the check."""
        name = f"localhost/check-{uuid4().hex[:12]}"
        self._images.append(name)
        return name

    def note(self, text: str) -> None:
        """Say what this worker does not hold and says so itself, as the protocol lets it."""
        self.notes.append(text)

    async def clear(self) -> None:
        """Remove what the check made. Raises `Violation` when that does not work."""
        peer = await self.connected()
        violations = [violation for peer in self.peers for violation in peer.violations]
        self.peers[:] = [peer]
        peer.violations.clear()
        # Of a check that was stopped in the middle.
        for answer in await peer.give_up("DevBox.create", "image.build", timeout_s=120):
            if answer["ok"] and "devbox" in answer["payload"]:
                self._boxes.append(answer["payload"]["devbox"]["id"])
        boxes, self._boxes = self._boxes, []
        for box in boxes:
            await self.ask("DevBox.remove", {"devboxId": box, "force": True}, timeout_s=LONG_S)
        images, self._images = self._images, []
        for image in images:
            if (await self.ask("image.check", {"image": image}))["exists"]:
                await self.ask("image.delete", {"image": image, "force": True})
        demand(not violations, "; ".join(violations[:3]))


@asynccontextmanager
async def scene(orchestrator: Orchestrator, target: Target, wait_s: float) -> AsyncIterator[Scene]:
    """Wait for a worker; raises `TimeoutError` if none registers in time."""
    peer, register = await orchestrator.peer(wait_s)
    running = Scene(orchestrator, target, peer, register, peers=[peer])
    async with asyncio.timeout(wait_s):
        # A worker may register before its engine is found, and does so again when it is.
        while not running.register.get("containerEngines"):
            await running.peer.closed.wait()
            await running.connected(wait_s)
        # And it may have found an engine that is only just starting.
        while await _engine_starts(running):
            await asyncio.sleep(_LOOK_AGAIN_S)
        running.peer.violations.clear()  # the checks ask the same, and find it again
    yield running


async def _engine_starts(scene: Scene) -> bool:
    """Tell whether the worker's engine is still on its way; what else is wrong, the checks find."""
    try:
        await scene.connected()
        answer = await scene.answer("DevBox.list", timeout_s=_ASK_S)
    except (Violation, ConnectionClosed):
        return False
    return (answer.get("error") or {}).get("code") == "UNAVAILABLE"


def demand(holds: bool, says: str) -> None:
    """Raise `Violation` with the sentence unless it holds."""
    if not holds:
        raise Violation(says)


def same(found: Any, due: Any, what: str) -> None:  # noqa: ANN401 - any values
    """Raise `Violation` unless the two are equal."""
    demand(found == due, f"{what} is {found!r} and should be {due!r}")


def b64(data: bytes | str) -> str:
    """Return bytes as JSON carries them."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()
