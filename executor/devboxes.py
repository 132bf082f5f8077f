"""DevBoxes: create, start, stop, remove, list. Labels on the engine's objects are the only database.

A DevBox is a container ``clustercode-<id>`` and a volume ``clustercode-<id>-workspace`` mounted at ``/workspace``.
Everything else about it is read from the engine at each call.
"""

import asyncio
import hashlib
import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from executor.data_dir import DataDir
from executor.engine import Engine
from executor.policy import BoxOptions, Limits, Profile, box_options, check_company, check_floor, check_tenant
from executor.requests import CreateDevBox, RemoveDevBox, StartDevBox, StopDevBox
from protos.errors import AlreadyExists, FailedPrecondition, NotFound, Refusal

log = logging.getLogger(__name__)

PREFIX = "io.clustercode."
WORKSPACE = "/workspace"
_REMEMBERED = 1000
_INSPECTS_AT_ONCE = 8
_TICK_S = 0.25

OnProgress = Callable[[str, float | None], Awaitable[None]]
"""Called with (a sentence, fraction done where known)."""


@dataclass(frozen=True)
class DevBox:
    """A DevBox as the engine has it now. ``state`` is one of created, running, paused, exited, removing, dead."""

    id: str
    name: str
    tenant: str
    image: str
    state: str
    profile: Profile
    privileged: bool
    display: bool
    created_at: str
    started_at: str
    exit_code: int | None
    labels: dict[str, str]
    spec: str

    @property
    def container(self) -> str:
        """Name of its container."""
        return container_name(self.id)


def container_name(devbox_id: str) -> str:
    """Return the name of a DevBox's container."""
    return f"clustercode-{devbox_id}"


def workspace_name(devbox_id: str) -> str:
    """Return the name of a DevBox's workspace volume."""
    return f"clustercode-{devbox_id}-workspace"


class DevBoxes:
    """All DevBoxes of this worker. Each call checks the tenant and reads the owner from the labels."""

    def __init__(self, engine: Engine, data_dir: DataDir, *, tenants: tuple[str, ...], floor: Profile) -> None:
        self._engine = engine
        self._data_dir = data_dir
        self._tenants = tenants
        self._floor = floor
        # Between looking whether a name is taken and taking it, nobody else may look.
        self._naming = asyncio.Lock()
        # A removed DevBox may be removed again: the answer is kept for the last thousand.
        self._removed: OrderedDict[tuple[str, str], DevBox] = OrderedDict()

    async def create(self, request: CreateDevBox, on_progress: OnProgress) -> DevBox:
        """Create a DevBox, or answer with the one of this name and spec. A half-failed creation leaves nothing."""
        check_tenant(request.tenant, self._tenants)
        check_floor(request.profile, self._floor)
        options = box_options(
            request.profile,
            asked=Limits(request.memory_bytes, request.cpus, request.pids),
            privileged=request.privileged,
            allowed_domains=request.allowed_domains,
            writable_paths=request.writable_paths,
            injects_environment=bool(request.env or request.secret_env),
        )
        spec = hashlib.sha256(request.spec_json().encode()).hexdigest()
        # Looked at twice: before a long pull, and again under the lock.
        await self._same_name(request, spec)
        await self._ensure_image(request.image, on_progress)
        async with self._naming:
            existing = await self._same_name(request, spec)
            if existing is None:
                await on_progress(f"Creating {request.name}", None)
                existing = await self._create(request, options, spec)
        if existing.state == "created" and not request.stopped:
            await on_progress(f"Starting {request.name}", None)
            existing = await self._first_start(existing)
        return existing

    async def start(self, request: StartDevBox) -> DevBox:
        """Start a DevBox; one that runs stays as it is."""
        box = await self.get(request.tenant, request.devbox_id)
        if box.state == "running":
            return box
        if box.state == "paused":
            raise FailedPrecondition(f"{box.name} was paused on the machine itself; its operator must unpause it.")
        check_floor(box.profile, self._floor)
        await self._engine.start(box.container)
        return await self.get(request.tenant, request.devbox_id)

    async def stop(self, request: StopDevBox) -> DevBox:
        """Stop a DevBox; one that is stopped stays as it is."""
        box = await self.get(request.tenant, request.devbox_id)
        if box.state in ("running", "paused"):
            await self._engine.stop(box.container, request.timeout_s)
        return await self.get(request.tenant, request.devbox_id)

    async def remove(self, request: RemoveDevBox) -> DevBox:
        """Remove a DevBox with its volumes; repeating it answers the same."""
        check_tenant(request.tenant, self._tenants)
        key = (request.tenant, request.devbox_id)
        try:
            box = await self.get(*key)
        except NotFound:
            if key in self._removed:
                return self._removed[key]
            raise
        if box.state in ("running", "paused") and not request.force:
            raise FailedPrecondition(f"{box.name} is {box.state}: stop it first, or remove it with force.")
        await self._engine.remove(box.container)
        if not request.keep_volumes:
            await self._engine.remove_volume(workspace_name(box.id))
        self._data_dir.forget_secrets(box.id)
        box = replace(box, state="removing")
        self._removed[key] = box
        while len(self._removed) > _REMEMBERED:
            self._removed.popitem(last=False)
        return box

    async def get(self, tenant: str, devbox_id: str) -> DevBox:
        """Return a tenant's DevBox; raises `NotFound`, the same for absent and for another's."""
        check_tenant(tenant, self._tenants)
        refusal = NotFound(f"There is no DevBox {devbox_id}; DevBox.list shows those there are.")
        try:
            box = _devbox(await self._engine.inspect(container_name(devbox_id)), self._data_dir.install)
        except NotFound:
            raise refusal from None
        if box is None or box.tenant != tenant:
            raise refusal
        return box

    async def get_running(self, tenant: str, devbox_id: str) -> DevBox:
        """Return a tenant's DevBox that runs; raises `FailedPrecondition` for one that does not."""
        box = await self.get(tenant, devbox_id)
        if box.state != "running":
            raise FailedPrecondition(f"{box.name} is {box.state}: start it first.")
        return box

    async def list_boxes(self, tenant: str = "") -> list[DevBox]:
        """Return a tenant's DevBoxes, or those of all tenants served, oldest first."""
        if tenant:
            check_tenant(tenant, self._tenants)
        boxes = await self._all(*([f"{PREFIX}tenant={tenant}"] if tenant else []))
        return [box for box in boxes if box.tenant in self._tenants]

    async def count_running(self, timeout_s: float) -> int:
        """Return how many DevBoxes of this worker run."""
        install = f"{PREFIX}install={self._data_dir.install}"
        return len(await self._engine.list_names([install], running_only=True, timeout_s=timeout_s))

    async def tidy(self) -> list[DevBox]:
        """Make ready at start: drop secrets of DevBoxes that are gone; return the DevBoxes that are there."""
        boxes = await self._all()
        self._data_dir.keep_only_secrets_of({box.id for box in boxes})
        return boxes

    async def _all(self, *labels: str) -> list[DevBox]:
        """Return the DevBoxes of this installation, whoever owns them."""
        names = await self._engine.list_names([f"{PREFIX}install={self._data_dir.install}", *labels])
        places = asyncio.Semaphore(_INSPECTS_AT_ONCE)

        async def look(name: str) -> DevBox | None:
            async with places:
                try:
                    return _devbox(await self._engine.inspect(name), self._data_dir.install)
                except NotFound:  # removed meanwhile
                    return None

        try:
            async with asyncio.TaskGroup() as group:
                looks = [group.create_task(look(name), name=f"inspect {name}") for name in names]
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        boxes = [box for task in looks if (box := task.result()) is not None]
        return sorted(boxes, key=lambda box: box.created_at)

    async def _same_name(self, request: CreateDevBox, spec: str) -> DevBox | None:
        """Return the DevBox that has the name and the spec, None if the name is free; raises if it is taken."""
        others = await self._all()
        check_company(request.profile, request.tenant, [(box.profile, box.tenant) for box in others])
        for box in others:
            if (box.tenant, box.name) == (request.tenant, request.name):
                if box.spec == spec:
                    return box
                raise AlreadyExists(
                    f"There is a DevBox {request.name} with another specification ({box.id}): "
                    "choose another name, or remove that one."
                )
        return None

    async def _ensure_image(self, image: str, on_progress: OnProgress) -> None:
        try:
            await self._engine.image_labels(image)
            return
        except NotFound:
            if image.startswith("localhost/"):  # never on a registry; Podman would try for seconds
                raise NotFound(f"The image {image} is not on this worker: build it there first.") from None
        await on_progress(f"Pulling {image}", None)
        last_tick = 0.0
        async with aclosing(self._engine.pull(image)) as steps:
            async for step in steps:
                now = asyncio.get_running_loop().time()
                if now - last_tick >= _TICK_S:
                    last_tick = now
                    await on_progress(step.message, step.fraction)

    async def _create(self, request: CreateDevBox, options: BoxOptions, spec: str) -> DevBox:
        devbox_id = secrets.token_hex(6)
        labels = {
            "managed": "true",
            "devbox": devbox_id,
            "tenant": request.tenant,
            "name": request.name,
            "profile": request.profile.label,
            "privileged": "false",
            "install": self._data_dir.install,
            "request": request.request_id,
            "spec": spec,
            "labels": json.dumps(request.labels),
        }
        labels = {PREFIX + key: value for key, value in labels.items()}
        async with self._undone_on_failure(devbox_id):
            self._data_dir.keep_secrets(devbox_id, request.secret_env)
            await self._engine.create_volume(workspace_name(devbox_id), labels)
            await self._engine.create_container(
                container_name(devbox_id),
                image=request.image,
                labels=labels,
                env=request.env,
                hostname=request.name,
                options=options,
                volumes={workspace_name(devbox_id): WORKSPACE},
            )
            return await self.get(request.tenant, devbox_id)

    async def _first_start(self, box: DevBox) -> DevBox:
        async with self._undone_on_failure(box.id):
            await self._engine.start(box.container)
            return await self.get(box.tenant, box.id)

    @asynccontextmanager
    async def _undone_on_failure(self, devbox_id: str) -> AsyncIterator[None]:
        """Remove all of a DevBox if the body fails or is cancelled; what cannot be removed is logged."""
        try:
            yield
        except BaseException:
            try:
                await self._engine.remove(container_name(devbox_id))
                await self._engine.remove_volume(workspace_name(devbox_id))
            except Refusal as refusal:
                log.error("DevBox %s is left half made: %s", devbox_id, refusal.message)  # noqa: TRY400 - no traceback wanted
            self._data_dir.forget_secrets(devbox_id)
            raise


def _devbox(container: dict[str, Any], install: str) -> DevBox | None:
    """Read a DevBox from what the engine says of its container; None if it is not one of this installation."""
    labels = container["Config"].get("Labels") or {}
    if labels.get(f"{PREFIX}managed") != "true" or labels.get(f"{PREFIX}install") != install:
        return None
    state = container["State"]
    status = state["Status"]
    started = state.get("StartedAt") or ""
    return DevBox(
        id=labels[f"{PREFIX}devbox"],
        name=labels[f"{PREFIX}name"],
        tenant=labels[f"{PREFIX}tenant"],
        image=container["Config"]["Image"],
        # Podman's names for what Docker calls created, exited and so on differ in part.
        state={
            "configured": "created",
            "initialized": "created",
            "stopped": "exited",
            "stopping": "running",
        }.get(status, status),
        profile=Profile[labels[f"{PREFIX}profile"].upper()],
        privileged=labels[f"{PREFIX}privileged"] == "true",
        display=labels.get(f"{PREFIX}display") == "true",
        created_at=container["Created"],
        started_at="" if started.startswith("0001-") else started,
        exit_code=state["ExitCode"] if status in ("exited", "stopped", "dead") else None,
        labels=json.loads(labels.get(f"{PREFIX}labels") or "{}"),
        spec=labels[f"{PREFIX}spec"],
    )
