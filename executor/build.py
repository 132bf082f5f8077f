"""Builds of images: one at a time, with memory, processors, room on disk and time bounded, and nothing left of a stop.

On Podman, and under a floor of ``standard``, a build reaches what a standard DevBox of its tenant does, the same way
(docs/decisions/0007-builds.md). On Docker, and where the floor is stricter, a build has no network.
Under a floor of ``open``, where any tenant may have the machine's network anyway, a build has it too.

Layers are kept as the engine's cache for a day, labelled with the tenant, whose own builds alone use them. What a
build that was stopped made is removed at once.
"""

import asyncio
import io
import logging
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from executor.build_context import BuildContexts
from executor.build_leftovers import Before, BuildLeftovers
from executor.build_log import BuildEvent, BuildLog, BuildStep
from executor.build_queue import BuildQueue
from executor.config import BuildLimits, Limit
from executor.containerfile import Containerfile, stamping
from executor.context_tar import write_context
from executor.devbox import PREFIX
from executor.egress import Egress
from executor.engine import Engine
from executor.engine_images import BuildOptions, EngineImages
from executor.image_reference import built_name
from executor.images import BUILDER_LABEL, TENANT_LABEL, Images
from executor.policy import Profile
from executor.requests import BuildImage
from protos.errors import DeadlineExceeded, FailedPrecondition, Internal, Refusal, ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

TIDY_S = 600.0
_LOOK_AT_DISK_S = 2.0
_STAMP_WITHIN_S = 60.0

_T = TypeVar("_T")

OnEvent = Callable[[BuildEvent], Awaitable[None]]


class Builds:
    """All builds of this worker. ``tasks`` outlives every build: what a build leaves is removed in there.

    ``seccomp`` is the path of the profile that closes the sockets which leave a build without a network.
    """

    def __init__(
        self,
        engine: Engine,
        images: Images,
        contexts: BuildContexts,
        tasks: asyncio.TaskGroup,
        *,
        install: str,
        limits: BuildLimits,
        floor: Profile,
        egress: Egress,
        seccomp: str,
        accepted_missing_limits: frozenset[Limit] = frozenset(),
    ) -> None:
        self._engine = engine
        self._engine_images = EngineImages(engine)
        self._images = images
        self._contexts = contexts
        self._leftovers = BuildLeftovers(engine, install)
        self._tasks = tasks
        self._install = install
        self._limits = limits
        self._has_network = floor is Profile.OPEN
        self._egress = egress if floor is Profile.STANDARD else None
        self._seccomp = seccomp
        self._accepted_missing_limits = accepted_missing_limits
        self._queue = BuildQueue(limits.max_waiting)

    async def build(self, request: BuildImage, on_event: OnEvent) -> str:
        """Build an image when it is its turn; returns its id. Safe to cancel at any moment."""
        containerfile = Containerfile(request.containerfile, request.build_args, has_network=self._has_network)
        name = built_name(request.name, request.tag)

        async def on_wait(before: int) -> None:
            await on_event(BuildStep(f"Waiting: {before} build{'s' if before > 1 else ''} before this one", None))

        try:
            async with asyncio.timeout(request.timeout_ms / 1000), self._queue.turn(on_wait):
                return await self._build(request, containerfile, name, on_event)
        except TimeoutError:
            raise DeadlineExceeded(
                f"The build did not end within {request.timeout_ms / 1000:.0f} s; it was stopped and removed."
            ) from None

    async def recover(self) -> None:
        """Stop and remove what an earlier executor was building when it died."""
        async with self._queue.turn(_in_silence):
            await self._leftovers.remove_all()

    async def tidy(self) -> None:
        """Remove uploads that nobody used and layers that are a day old; for the executor's housekeeping."""
        self._contexts.expire()
        async with self._queue.turn(_in_silence):
            await self._leftovers.prune_cache()

    async def _build(self, request: BuildImage, containerfile: Containerfile, name: str, on_event: OnEvent) -> str:
        await self._images.check_name(request.tenant, name)
        info = await self._engine.learn()
        if not info.bounds_builds and not {"memory", "cpus"} <= self._accepted_missing_limits:
            raise FailedPrecondition(
                "This worker's engine runs without root on control groups that it cannot use, so a build would have no "
                'limits. Use another engine, or have the machine\'s owner set acceptMissingLimits: ["memory", "cpus"].'
            )
        storage = Path(info.storage)
        await self._check_room(storage)

        async def on_progress(message: str, fraction: float | None) -> None:
            await on_event(BuildStep(message, fraction))

        bases = {image: await self._images.base(request.tenant, image, on_progress) for image in containerfile.images}
        ours = {TENANT_LABEL: request.tenant, BUILDER_LABEL: self._install, f"{PREFIX}managed": "true"}
        await on_event(BuildStep(f"Preparing {name}", None))
        pins: dict[str, str] = {}
        async with self._nothing_left(pins) as own_name:
            for image, base in bases.items():
                pins[image] = await self._stamped(base, ours)
            async with self._context(request, containerfile.text(pins, ours, request.labels)) as (context, its_name):
                options = replace(
                    self._options(its_name),
                    name=f"localhost/{own_name}:latest",
                    build_args=request.build_args,
                    no_cache=request.no_cache,
                )
                build_log = BuildLog({pin: image for image, pin in pins.items()})
                image_id = await self._run(own_name, request.tenant, context, options, build_log, storage, on_event)
            replaced = await self._images.check_name(request.tenant, name)
            await self._engine_images.tag(image_id, name)
        if replaced and replaced != image_id:
            await self._images.forget_replaced(replaced)
        if request.upload_id:
            self._contexts.forget(request.tenant, request.upload_id)
        log.info("image %s built as %s for tenant %s", image_id[:19], name, request.tenant)
        await on_event(BuildStep(f"Built {name}", 1.0))
        return image_id

    async def _stamped(self, base: str, stamps: Mapping[str, str]) -> str:
        """Return the id of an image that is a base with our labels, made if this is the first build on it.

        So all that Podman makes in a build, its working containers too, lies on a layer that says whose it is, and
        tenants do not share the engine's cache. This step alone is not stopped: it is short, and its own working
        container lies on nothing of ours.
        """
        return await _to_its_end(self._tasks, self._stamp(base.removeprefix("sha256:"), stamps), "stamp a base")

    async def _stamp(self, base: str, stamps: Mapping[str, str]) -> str:
        context = io.BytesIO()
        containerfile = write_context(None, context, stamping(base, stamps), max_bytes=0, stopped=lambda: False)
        context.seek(0)
        image_id = ""
        try:
            async with asyncio.timeout(_STAMP_WITHIN_S):
                async with aclosing(self._engine_images.build(context, self._options(containerfile), None)) as messages:
                    async for message in messages:
                        image_id = (message.get("aux") or {}).get("ID") or image_id
        except TimeoutError:
            raise Unavailable("The container engine did not prepare the image to build on; it may hang.") from None
        if not image_id:
            raise Internal("The container engine could not prepare the image to build on.")
        return image_id.removeprefix("sha256:")

    def _options(self, containerfile: str) -> BuildOptions:
        bounded = self._engine.known is None or self._engine.known.bounds_builds
        return BuildOptions(
            containerfile=containerfile,
            has_network=self._has_network,
            memory_bytes=self._limits.memory_bytes if bounded else None,
            cpus=self._limits.cpus if bounded else None,
            # Docker takes none for a build, and a build with the machine's network has all of that.
            seccomp="" if self._has_network or self._engine.kind == "docker" else self._seccomp,
        )

    async def _check_room(self, storage: Path) -> None:
        """Raise `ResourceExhausted` where the engine's disk is nearly full and our own cache is not what fills it."""
        if self._has_room(storage):
            return
        await self._leftovers.prune_cache(older_than_s=0.0)
        if not self._has_room(storage):
            raise _full()

    def _has_room(self, storage: Path) -> bool:
        try:
            disk = shutil.disk_usage(storage)
        except OSError as error:  # the engine's storage is not visible from here
            log.debug("disk of the engine's storage: %s", error)
            return True
        return disk.free >= self._limits.floor(disk.total)

    @asynccontextmanager
    async def _context(self, request: BuildImage, containerfile: str) -> AsyncIterator[tuple[Path, str]]:
        """Give the file that holds the checked context, and the Containerfile's name in it."""
        source = self._contexts.find(request.tenant, request.upload_id) if request.upload_id else None
        path = self._contexts.scratch / secrets.token_hex(8)
        stopped = threading.Event()

        def write() -> str:
            limit = self._limits.context_bytes
            with ExitStack() as stack:
                stack.callback(lambda: path.unlink(missing_ok=True) if stopped.is_set() else None)
                target = stack.enter_context(path.open("xb"))
                given: BinaryIO | None = io.BytesIO(request.context) if request.context else None
                if source is not None:
                    given = stack.enter_context(source.open("rb"))
                return write_context(given, target, containerfile, max_bytes=limit, stopped=stopped.is_set)

        try:
            yield path, await asyncio.to_thread(write)
        finally:
            stopped.set()
            path.unlink(missing_ok=True)

    @asynccontextmanager
    async def _nothing_left(self, pins: Mapping[str, str]) -> AsyncIterator[str]:
        """Give a build its own name; at the end remove what goes by it, and what a build that was stopped left.

        Of the images it is pinned to by then those go, too, that nothing was made on: they save the next build nothing.
        """
        name = self._leftovers.new_name()
        before = await self._leftovers.look()
        ended = False
        try:
            yield name
            ended = True
        except FailedPrecondition:  # one of its steps failed: what came before is of use to the next try
            ended = True
            raise
        finally:
            stamps = frozenset(f"sha256:{image_id}" for image_id in pins.values())
            await _to_its_end(self._tasks, self._remove(name, before, stamps, ended=ended), f"remove {name}")

    async def _remove(self, name: str, before: Before, stamps: frozenset[str], *, ended: bool) -> None:
        await self._leftovers.remove(name, before, stamps, ended=ended)
        if self._egress is not None:
            with suppress(Refusal):  # its container went with the rest, or the log says why not
                await self._egress.close_build(name)

    async def _run(
        self,
        name: str,
        tenant: str,
        context: Path,
        options: BuildOptions,
        build_log: BuildLog,
        storage: Path,
        on_event: OnEvent,
    ) -> str:
        """Have the engine build; returns the image's id. Raises `FailedPrecondition` when a step fails."""
        holder = await self._leftovers.hold(name) if self._engine.kind == "podman" else None
        if holder is not None and self._egress is not None:
            proxies = await self._egress.open_build(name, tenant, self._leftovers.holder(name), self._install)
            options = replace(options, build_args={**proxies, **options.build_args})
        failure = ""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch_room(storage), name="watch the disk")
                with context.open("rb") as body:
                    async with aclosing(self._engine_images.build(body, options, holder)) as messages:
                        async for message in messages:
                            failure = str(message.get("error") or failure)
                            for event in build_log.feed(message.get("stream") or ""):
                                await on_event(event)
                for event in build_log.end():
                    await on_event(event)
                watch.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if failure:
            why = "".join(character if character.isprintable() else " " for character in failure[:600]).strip()
            raise FailedPrecondition(f"The build failed; its log says how: {why}")
        return str((await self._engine_images.inspect(options.name))["Id"])

    async def _watch_room(self, storage: Path) -> None:
        while self._has_room(storage):
            await asyncio.sleep(_LOOK_AT_DISK_S)
        raise _full()


async def _to_its_end(tasks: asyncio.TaskGroup, job: Coroutine[Any, Any, _T], name: str) -> _T:
    """Do what must not be left half done, however often whoever waits for it is cancelled; then be cancelled."""
    outcome: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        # Whatever it raises is for who waits: in the group it would end all other work.
        try:
            outcome.set_result(await job)
        except asyncio.CancelledError:
            outcome.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - see above
            outcome.set_exception(error)

    tasks.create_task(run(), name=name)
    cancelled: asyncio.CancelledError | None = None
    while not outcome.done():
        try:
            await asyncio.shield(outcome)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001, S110 - raised below
            pass
    if cancelled is not None:
        if not outcome.cancelled():
            outcome.exception()  # it has been looked at: nobody else will
        raise cancelled
    return outcome.result()


async def _in_silence(_: int) -> None:
    """Wait without telling anybody."""


def _full() -> ResourceExhausted:
    return ResourceExhausted(
        "The disk that holds this worker's images is nearly full: delete images (image.delete) or DevBoxes, "
        "or have its operator free some of it."
    )
