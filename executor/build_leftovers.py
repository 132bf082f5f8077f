"""What builds leave on the engine, found again by what only a build of this installation can have.

==================  ==========================================================================================
holder              container and image ``clustercode-build-<id>-holder``: all processes of the build
working container   Podman's own, found by the image it works on: a layer that bears our labels
layer               an image without a name that bears our labels: the engine's cache, kept for a day
==================  ==========================================================================================
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from executor.engine import Engine
from executor.engine_images import EngineImages, ListedImage
from executor.images import BUILDER_LABEL
from protos.errors import FailedPrecondition, NotFound, Refusal, Unavailable

log = logging.getLogger(__name__)

CACHE_KEPT_S = 24 * 3600.0
_NAME = "clustercode-build-"
_HOLDER = "-holder"
_SIDECAR = "-egress"
_STOPS_WITHIN_S = 20.0
_ENGINE_RETURNS_WITHIN_S = 60.0


@dataclass(frozen=True)
class Before:
    """What was there when a build began: ids of layers and of working containers."""

    layers: frozenset[str]
    containers: frozenset[str]


class BuildLeftovers:
    """Finds and removes them. Called by one build at a time."""

    def __init__(self, engine: Engine, install: str) -> None:
        self._images = EngineImages(engine)
        self._label = f"{BUILDER_LABEL}={install}"

    def new_name(self) -> str:
        """Return a name for a build, and for its image until that is whole."""
        return f"{_NAME}{secrets.token_hex(6)}"

    async def hold(self, name: str) -> int:
        """Start a build's holder; returns its process id."""
        return await self._images.start_holder(f"{name}{_HOLDER}", self._label)

    @staticmethod
    def holder(name: str) -> str:
        """Return the name of a build's holder."""
        return f"{name}{_HOLDER}"

    async def look(self) -> Before:
        """Note what is there before a build."""
        layers = await self._images.list_images(self._label, layers=True)
        containers = await self._images.working_containers()
        return Before(frozenset(layer.id for layer in layers), frozenset(containers))

    async def remove(self, name: str, before: Before, stamps: frozenset[str], *, ended: bool) -> None:
        """Remove what a build left, its layers too unless it ``ended`` by itself; what cannot be removed is logged.

        Of the ``stamps``, ids of the images it was to be made on, those go that nothing is made on.
        """
        deadline = time.monotonic() + _ENGINE_RETURNS_WITHIN_S
        while True:
            try:
                # First the processes: with the holder all of them die. A sidecar depends on it.
                await self._images.remove_container(f"{name}{_SIDECAR}")
                await self._images.remove_holder(f"{name}{_HOLDER}")
                if not ended:
                    await self._wait_for_working_containers(before.containers)
                await self._images.forget(f"localhost/{name}:latest")
                await self._remove_layers(lambda layer: layer.id in stamps or not (ended or layer.id in before.layers))
            except Unavailable as refusal:
                if time.monotonic() < deadline:
                    await asyncio.sleep(1.0)
                    continue
                log.error("the build %s may have left something: %s", name, refusal.message)  # noqa: TRY400
            except Refusal as refusal:
                log.error("the build %s left something: %s", name, refusal.message)  # noqa: TRY400
            return

    async def remove_all(self) -> None:
        """Remove what builds of this installation left that nobody waits for any more, layers made since they began."""
        began = {
            tag.removeprefix("localhost/").partition(":")[0].removesuffix(_HOLDER): image.created
            for image in await self._images.list_images(self._label)
            for tag in image.tags
            if tag.startswith(f"localhost/{_NAME}")
        }
        for name in began:
            log.warning("the build %s, cut off when the executor ended, is stopped and removed", name)
            await self._images.remove_container(f"{name}{_SIDECAR}")
            await self._images.remove_holder(f"{name}{_HOLDER}")
        await self._wait_for_working_containers(frozenset())
        for name in began:
            await self._images.forget(f"localhost/{name}:latest")
        if began:
            first = min(began.values())
            await self._remove_layers(lambda layer: layer.created >= first)

    async def prune_cache(self, older_than_s: float = CACHE_KEPT_S) -> None:
        """Remove layers that are old and no image's; those of an image go with it."""
        limit = time.time() - older_than_s
        await self._remove_layers(lambda layer: layer.created <= limit)

    async def _wait_for_working_containers(self, known: frozenset[str]) -> None:
        """Wait until Podman has removed the containers it worked in, then remove those of ours it has not."""
        deadline = time.monotonic() + _STOPS_WITHIN_S
        while True:
            layers = {layer.id for layer in await self._images.list_images(self._label, layers=True)}
            left = [
                container
                for container, image in (await self._images.working_containers()).items()
                if container not in known and image in layers
            ]
            if not left:
                return
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(0.2)
        for container in left:
            await self._images.remove_working_container(container)

    async def _remove_layers(self, unwanted: Callable[[ListedImage], bool]) -> None:
        """Remove layers from the last to the first; one that is used stays, and what it is made from."""
        stay: set[str] = set()
        while True:
            layers = await self._images.list_images(self._label, layers=True)
            parents = {layer.parent for layer in layers}
            ends = [layer for layer in layers if not layer.tags and layer.id not in parents | stay and unwanted(layer)]
            if not ends:
                return
            for layer in ends:
                try:
                    await self._images.delete(layer.id, prune=False)
                except NotFound:
                    pass
                except FailedPrecondition as refusal:
                    log.debug("layer %s stays: %s", layer.id[:19], refusal.message)
                stay.add(layer.id)
