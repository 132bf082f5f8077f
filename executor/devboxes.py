"""DevBoxes: create, start, stop, remove, list. Labels on the engine's objects are the only database."""

import asyncio
import hashlib
import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import astuple, replace
from typing import Any

from executor import readback
from executor.config import ExecutorConfig
from executor.data_dir import DataDir
from executor.devbox import (
    PREFIX,
    DevBox,
    container_name,
    devbox_of,
    image_volumes,
    sighting,
    volume_names,
)
from executor.egress import ENVIRONMENT, Egress, Wanted
from executor.egress_containers import holder_name, is_beside
from executor.engine import Engine
from executor.policy import (
    BoxOptions,
    Limits,
    Profile,
    box_options,
    check_company,
    check_floor,
    check_image_volumes,
    check_privileged,
    check_tenant,
)
from executor.quotas import check_count, check_running
from executor.requests import CreateDevBox, RemoveDevBox, SetEgress, StartDevBox, StopDevBox
from executor.watchlist import Watchlist
from protos.errors import AlreadyExists, FailedPrecondition, NotFound, Refusal, Unavailable

log = logging.getLogger(__name__)

LIMIT_NAMES = frozenset(("memory", "cpus", "pids"))
_REMEMBERED = 1000
_IN_USE = ("running", "paused")
_INSPECTS_AT_ONCE = 8
_TICK_S = 0.25

OnProgress = Callable[[str, float | None], Awaitable[None]]
"""Called with (a sentence, fraction done where known)."""


class DevBoxes:
    """All DevBoxes of this worker. Each call checks the tenant and reads the owner from the labels."""

    def __init__(self, engine: Engine, data_dir: DataDir, egress: Egress, config: ExecutorConfig) -> None:
        self._engine = engine
        self.egress = egress
        self._data_dir = data_dir
        self._config = config
        self._tenants = config.tenants
        self._floor = config.security_floor
        # Those that are being started count as running.
        self._starting: set[str] = set()
        # Between looking whether a name is taken and taking it, nobody else may look.
        self._naming = asyncio.Lock()
        # A removed DevBox may be removed again: the answer is kept for the last thousand.
        self._removed: OrderedDict[tuple[str, str], DevBox] = OrderedDict()
        self.watchlist = Watchlist()
        """Is told what is done here, so that it is no event."""

    async def create(self, request: CreateDevBox, on_progress: OnProgress) -> DevBox:
        """Create a DevBox, or answer with the one of this name and spec. A half-failed creation leaves nothing."""
        check_tenant(request.tenant, self._tenants)
        if request.privileged:
            check_privileged(
                request.profile,
                floor=self._floor,
                mode=self._config.mode,
                allowed=self._config.allow_privileged,
            )
        check_floor(request.profile, self._floor)
        options = box_options(
            request.profile,
            asked=Limits(request.memory_bytes, request.cpus, request.pids),
            privileged=request.privileged,
            allowed_domains=request.allowed_domains,
            writable_paths=(*self._tenants[request.tenant].writable_paths, *request.writable_paths),
            injects_environment=bool(request.env or request.secret_env),
        )
        names = self.egress.names(request.profile, request.tenant, request.allowed_domains)
        spec = hashlib.sha256(request.spec_json().encode()).hexdigest()
        # Looked at twice: before a long pull, and again under the lock.
        if await self._same_name(request, options, spec) is None:
            self._check_takes_new()
        await self._ensure_image(request.tenant, request.image, on_progress)
        if names:
            await self.egress.ready()
        async with self._naming:
            existing = await self._same_name(request, options, spec)
            if existing is None:
                self._check_takes_new()
                await on_progress(f"Creating {request.name}", None)
                has_egress = self.egress.is_usable(names, asked_for=bool(request.allowed_domains))
                if names and not has_egress:
                    await on_progress(f"{request.name} gets no network: {self.egress.reason}", None)
                existing = await self._create(request, options, spec, names if has_egress else ())
            will_start = existing.state == "created" and not request.stopped
            if will_start:
                self._starting.add(existing.id)
        if not will_start:
            return existing
        try:
            await on_progress(f"Starting {request.name}", None)
            return await self._first_start(existing)
        finally:
            self._starting.discard(existing.id)

    def _check_takes_new(self) -> None:
        if self._data_dir.draining:
            raise Unavailable(
                "This worker takes no new DevBoxes: its machine's owner is emptying it. Create it on another worker."
            )

    async def start(self, request: StartDevBox) -> DevBox:
        """Start a DevBox; one that runs stays as it is."""
        box = await self.get(request.tenant, request.devbox_id)
        if box.state == "running":
            return box
        if box.state == "paused":
            raise FailedPrecondition(f"{box.name} was paused on the machine itself; its operator must unpause it.")
        check_floor(box.profile, self._floor)
        async with self._naming:
            self._check_running(box.tenant, await self.all(), box.promised.limits, but=box.id)
            self._starting.add(box.id)
        try:
            if box.egress:
                await self.egress.prepare_start(self._wanted(box))
            self.watchlist.starting(box.id)
            await self._engine.start(box.container)
            return await self._proven(await self.get(request.tenant, request.devbox_id))
        finally:
            self._starting.discard(box.id)

    async def stop(self, request: StopDevBox) -> DevBox:
        """Stop a DevBox; one that is stopped stays as it is."""
        box = await self.get(request.tenant, request.devbox_id)
        if box.state in ("running", "paused"):
            with self._no_event(box.id, self.watchlist.stopping):
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
        with self._no_event(box.id, self.watchlist.removing):
            async with self.egress.leaving(box.id):
                await self._engine.remove(box.container)
        if not request.keep_volumes:
            for volume in volume_names(box.id):
                await self._engine.remove_volume(volume)
        self._data_dir.forget_secrets(box.id)
        box = replace(box, state="removing")
        self._removed[key] = box
        while len(self._removed) > _REMEMBERED:
            self._removed.popitem(last=False)
        return box

    async def set_egress(self, request: SetEgress) -> tuple[str, ...]:
        """Change what a DevBox may reach; returns all of it. Raises `FailedPrecondition` for one without a list."""
        box = await self.get(request.tenant, request.devbox_id)
        if not box.egress:
            why = {
                Profile.OPEN: "it is open and reaches everything",
                Profile.OFFLINE: "it is offline",
            }.get(box.profile, "it was made without a network; make it anew with allowedDomains")
            raise FailedPrecondition(f"{box.name} has no list of what it may reach: {why}.")
        return await self.egress.allow(self._wanted(box), box.profile, request.allowed_domains, cut=request.cut)

    async def get(self, tenant: str, devbox_id: str) -> DevBox:
        """Return a tenant's DevBox; raises `NotFound`, the same for absent and for another's."""
        check_tenant(tenant, self._tenants)
        box = await self._look(container_name(devbox_id))
        if box is None or box.tenant != tenant:
            raise NotFound(f"There is no DevBox {devbox_id}; DevBox.list shows those there are.")
        return box

    async def get_running(self, tenant: str, devbox_id: str) -> DevBox:
        """Return a tenant's DevBox that runs; raises `FailedPrecondition` for one that does not."""
        box = await self.get(tenant, devbox_id)
        if box.state != "running":
            raise FailedPrecondition(f"{box.name} is {box.state}: start it first.")
        return box

    async def list_boxes(self, tenant: str = "") -> list[DevBox]:
        """Return a tenant's DevBoxes, or those of all tenants served, oldest first, as `all` has them."""
        if tenant:
            check_tenant(tenant, self._tenants)
        boxes = await self.all(*([f"{PREFIX}tenant={tenant}"] if tenant else []))
        return [box for box in boxes if box.tenant in self._tenants]

    async def inspect_boxes(self) -> list[DevBox]:
        """Return the DevBoxes of all tenants served, oldest first, each looked at by itself."""
        boxes = await self._looked_at(dict.fromkeys(await self._engine.list_names(self._ours)))
        return [box for box in boxes if box.tenant in self._tenants]

    async def count_running(self, timeout_s: float) -> int:
        """Return how many DevBoxes of this worker run."""
        return len(await self._engine.list_names(self._ours, running_only=True, timeout_s=timeout_s))

    async def tidy(self) -> list[DevBox]:
        """Make ready at start: drop secrets of DevBoxes that are gone; return the DevBoxes that are there."""
        boxes = await self.all()
        ids = {box.id for box in boxes}
        self._data_dir.keep_only_secrets_of(ids)
        # By name too, for a DevBox has its image's labels.
        beside = [name for name in await self._engine.list_names([self.label, f"{PREFIX}beside"]) if is_beside(name)]
        await self.egress.adopt([(self._wanted(box), box.profile) for box in boxes if box.egress], ids, beside)
        return boxes

    async def find(self, devbox_id: str) -> DevBox:
        """Return a DevBox of this installation, whoever owns it; raises `NotFound`."""
        box = await self._look(container_name(devbox_id))
        if box is None or box.tenant not in self._tenants:
            raise NotFound(f"There is no DevBox {devbox_id}.")
        return box

    async def all(self, *labels: str) -> list[DevBox]:
        """Return the DevBoxes of this installation, oldest first, also those of tenants it serves no longer.

        With ``labels`` (``key=value``) those alone that carry them. One call of the engine may do for all that run:
        then nothing is said of their volumes nor of memory that ran short, and ``started_at`` is to the second.
        """
        return await self._looked_at(await self._engine.list_said([*self._ours, *labels]))

    async def _looked_at(self, containers: dict[str, dict[str, Any] | None]) -> list[DevBox]:
        """Return the DevBoxes of these containers, oldest first; looks at each of which too little is said."""
        places = asyncio.Semaphore(_INSPECTS_AT_ONCE)

        async def look(name: str, said: dict[str, Any] | None) -> DevBox | None:
            if said is not None:
                with suppress(readback.Unreadable):  # it has just ended, or its process is not visible
                    return devbox_of(said, self._data_dir.install)
            async with places:
                return await self._look(name)  # or none: it was removed meanwhile

        try:
            async with asyncio.TaskGroup() as group:
                looks = [group.create_task(look(*each), name=f"inspect {each[0]}") for each in containers.items()]
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        boxes = [box for task in looks if (box := task.result()) is not None]
        return sorted(boxes, key=lambda box: box.created_at)

    async def stop_any(self, devbox_id: str, timeout_s: int) -> DevBox:
        """Stop a DevBox that its tenant did not ask to stop: to it that is an event. One that is stopped stays so."""
        box = await self.get_any(devbox_id)
        if box.state in ("running", "paused"):
            await self._engine.stop(box.container, timeout_s)
        return await self.get_any(devbox_id)

    async def remove_any(self, devbox_id: str, *, keep_volumes: bool) -> DevBox:
        """Remove a DevBox that its tenant did not ask to remove, running or not: to it that is an event."""
        box = await self.get_any(devbox_id)
        async with self.egress.leaving(box.id):
            await self._engine.remove(box.container)
        if not keep_volumes:
            for volume in volume_names(box.id):
                await self._engine.remove_volume(volume)
        self._data_dir.forget_secrets(box.id)
        return replace(box, state="removing")

    async def get_any(self, devbox_id: str) -> DevBox:
        """Return a DevBox of this installation, also of a tenant it serves no longer; raises `NotFound`."""
        box = await self._look(container_name(devbox_id))
        if box is None:
            raise NotFound(f"There is no DevBox {devbox_id} on this worker.")
        return box

    @property
    def label(self) -> str:
        """The label (``key=value``) that all of this installation carry."""
        return f"{PREFIX}install={self._data_dir.install}"

    @property
    def _ours(self) -> list[str]:
        """The labels of this installation's DevBoxes, which what stands beside them has not all."""
        return [self.label, f"{PREFIX}managed=true"]

    def _wanted(self, box: DevBox) -> Wanted:
        return self.egress.wanted(box.id, box.tenant, box.egress, box.name, self._data_dir.install)

    @contextmanager
    def _no_event(self, devbox_id: str, note: Callable[[str], None]) -> Iterator[None]:
        """Do something to a DevBox that is no event; if it fails, what happens then is one again."""
        note(devbox_id)
        try:
            yield
        except Refusal:
            self.watchlist.not_done(devbox_id)
            raise
        self.watchlist.stopped(devbox_id)

    async def _look(self, container: str) -> DevBox | None:
        """Return a DevBox of this installation as it is now, by its container's name; None if there is none."""
        try:
            return devbox_of(await self._engine.inspect(container), self._data_dir.install)
        except NotFound:
            return None

    def _check_running(self, tenant: str, boxes: list[DevBox], new: Limits, but: str = "") -> None:
        """Raise `ResourceExhausted` where a DevBox may not run beside the others of its tenant."""
        running = [
            box.promised.limits
            for box in boxes
            if box.tenant == tenant and box.id != but and (box.state in _IN_USE or box.id in self._starting)
        ]
        check_running(self._tenants[tenant].quotas, running, new)

    async def _same_name(self, request: CreateDevBox, options: BoxOptions, spec: str) -> DevBox | None:
        """Return the DevBox that has the name and the spec, None if the name is free and there may be one more."""
        others = await self.all()
        if not self._config.open_beside_others:
            rootful = not (await self._engine.learn()).rootless
            company = [(box.profile, box.tenant) for box in others]
            check_company(request.profile, request.tenant, company, is_rootful=rootful)
        for box in others:
            if (box.tenant, box.name) == (request.tenant, request.name):
                if box.spec == spec:
                    return box
                raise AlreadyExists(
                    f"There is a DevBox {request.name} with another specification ({box.id}): "
                    "choose another name, or remove that one."
                )
        own = sum(box.tenant == request.tenant for box in others)
        check_count("DevBoxes", self._tenants[request.tenant].quotas.devboxes, own)
        if not request.stopped:
            self._check_running(request.tenant, others, options.limits)
        return None

    async def _ensure_image(self, tenant: str, image: str, on_progress: OnProgress) -> None:
        absent = NotFound(f"The image {image} is not on this worker: build it first (image.build).")
        try:
            labels = await self._engine.image_labels(image)
        except NotFound:
            if image.startswith("localhost/"):  # never on a registry; Podman would try for seconds
                raise absent from None
        else:
            if labels.get(f"{PREFIX}tenant", tenant) != tenant:
                raise absent  # another tenant built it: to this one it is not there
            return
        await on_progress(f"Pulling {image}", None)
        last_tick = 0.0
        async with aclosing(self._engine.pull(image)) as steps:
            async for step in steps:
                now = asyncio.get_running_loop().time()
                if now - last_tick >= _TICK_S:
                    last_tick = now
                    await on_progress(step.message, step.fraction)

    async def _create(self, request: CreateDevBox, options: BoxOptions, spec: str, names: tuple[str, ...]) -> DevBox:
        """Make a DevBox; ``names`` are what it may reach, none: it gets no way out."""
        devbox_id = secrets.token_hex(6)
        labels = {
            "managed": "true",
            "devbox": devbox_id,
            "tenant": request.tenant,
            "name": request.name,
            "profile": request.profile.label,
            "privileged": "true" if options.privileged else "false",
            "limits": json.dumps(astuple(options.limits)),
            "install": self._data_dir.install,
            "request": request.request_id,
            "spec": spec,
            "labels": json.dumps(request.labels),
            # Each label that is read is written, also where it says nothing: else the image's own counts.
            "egress": "",
        }
        labels = {PREFIX + key: value for key, value in labels.items()}
        async with self._undone_on_failure(devbox_id):
            self._data_dir.keep_secrets(devbox_id, request.secret_env)
            for volume in volume_names(devbox_id):
                await self._engine.create_volume(volume, labels)
            environment: Mapping[str, str] = request.env
            if names:
                way_out = await self.egress.open(
                    devbox_id, request.tenant, request.name, names, request.allowed_domains, self._data_dir.install
                )
                labels[f"{PREFIX}egress"] = way_out.address
                environment = {**ENVIRONMENT, **request.env}
            await self._engine.create_container(
                container_name(devbox_id),
                image=request.image,
                labels=labels,
                env=environment,
                hostname=request.name,
                options=options,
                volumes=volume_names(devbox_id),
                seccomp=self._data_dir.seccomp_option((await self._engine.learn()).kind),
                # What the engine would write there names the machine and its neighbours.
                files=self.egress.files.of_box(devbox_id, request.name) if options.network == "none" else {},
                beside=holder_name(devbox_id) if names else "",
            )
            created = await self._engine.inspect(container_name(devbox_id))
            check_image_volumes(image_volumes(created), options)
            self._check(readback.declared(created, options))
            return await self.get(request.tenant, devbox_id)

    async def _first_start(self, box: DevBox) -> DevBox:
        async with self._undone_on_failure(box.id):
            await self._engine.start(box.container)
            return await self._proven(await self.get(box.tenant, box.id))

    async def _proven(self, box: DevBox) -> DevBox:
        """Return a DevBox that was just started, once what its profile promises was found to hold.

        Raises `FailedPrecondition` with the promise that the engine broke; the DevBox is then stopped, without grace.
        """
        if box.state == "running":  # else it has ended already, and nothing of it runs with less
            try:
                self.check_running(box)
            except FailedPrecondition:
                with self._no_event(box.id, self.watchlist.stopping):
                    await self._engine.stop(box.container, 0)
                raise
        self.watchlist.started(sighting(box))
        return box

    def check_running(self, box: DevBox) -> None:
        """Look whether a running DevBox is held as its profile promises; raises `FailedPrecondition`."""
        try:
            self._check(readback.effective(box.pid, box.promised))
        except readback.Unreadable:
            raise FailedPrecondition(
                "What the engine gave the DevBox cannot be verified: its processes are not visible to the executor. "
                "Run the executor on the engine's machine, with the host's process ids and control groups."
            ) from None

    def _check(self, broken: list[readback.Broken]) -> None:
        """Raise `FailedPrecondition` for promises that are broken, but for limits whose lack the owner accepted."""
        accepted = self._config.accepted_missing_limits
        if not any(found.promise not in accepted for found in broken):
            return
        names = {found.promise for found in broken}
        advice = "Use another engine."
        if limits := sorted(names & LIMIT_NAMES):
            advice = f"Use another engine, or have the machine's owner set acceptMissingLimits: {json.dumps(limits)}."
        raise FailedPrecondition(
            f"The container engine does not keep what the profile promises ({', '.join(sorted(names - accepted))}): "
            f"{'; '.join(found.found for found in broken)}. So the DevBox does not run. {advice}"
        )

    @asynccontextmanager
    async def _undone_on_failure(self, devbox_id: str) -> AsyncIterator[None]:
        """Remove all of a DevBox if the body fails or is cancelled; what cannot be removed is logged."""
        try:
            yield
        except BaseException:
            self.watchlist.removing(devbox_id)
            try:
                async with self.egress.leaving(devbox_id):
                    await self._engine.remove(container_name(devbox_id))
                for volume in volume_names(devbox_id):
                    await self._engine.remove_volume(volume)
            except Refusal as refusal:
                log.error("DevBox %s is left half made: %s", devbox_id, refusal.message)  # noqa: TRY400 - no traceback wanted
            self._data_dir.forget_secrets(devbox_id)
            raise
