"""Images: list, check, delete; whose they are, and which may be built on.

An image that a build of ours made says so in its labels: ``io.clustercode.tenant`` who built it, ``.builder`` on which
installation. It is that tenant's: nobody else may delete it, build on it or create a DevBox from it, and to others it
is not there. All other images are the machine operator's: everybody may use them and no message deletes them.

Images carry no ``io.clustercode.install``: containers inherit labels, and that one says which are DevBoxes.
"""

import logging
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from executor.devbox import PREFIX
from executor.devboxes import DevBoxes, OnProgress
from executor.engine import Engine
from executor.engine_images import EngineImages
from executor.image_reference import is_id
from executor.requests import DeleteImage
from protos.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Refusal

log = logging.getLogger(__name__)

TENANT_LABEL = f"{PREFIX}tenant"
BUILDER_LABEL = f"{PREFIX}builder"
MANAGED = f"{PREFIX}managed=true"


@dataclass(frozen=True)
class Image:
    """An image as the engine has it now; ``devboxes`` are ids, which are worth nothing to who does not own them."""

    id: str
    tags: tuple[str, ...]
    size_bytes: int
    created_at: str
    labels: dict[str, str]
    devboxes: tuple[str, ...] = ()


class Images:
    """The images on this worker's engine."""

    def __init__(self, engine: Engine, devboxes: DevBoxes, install: str) -> None:
        self._engine = engine
        self._images = EngineImages(engine)
        self._devboxes = devboxes
        self._install = install

    async def list_images(self, *, everything: bool) -> list[Image]:
        """Return the managed images, or all, newest first, each with the DevBoxes of this worker that use it."""
        found = await self._images.list_images(*([] if everything else [MANAGED]))
        users: dict[str, list[str]] = {}
        for image_id, labels in await self._users():
            users.setdefault(image_id, []).append(labels.get(f"{PREFIX}devbox", ""))
        return [
            Image(
                id=image.id,
                tags=image.tags,
                size_bytes=image.size_bytes,
                created_at=datetime.fromtimestamp(image.created, UTC).isoformat().replace("+00:00", "Z"),
                labels=image.labels,
                devboxes=tuple(sorted(users.get(image.id, ()))),
            )
            for image in sorted(found, key=lambda image: image.created, reverse=True)
            # What has no name is a layer that a build keeps, unless someone uses it or asks for all.
            if everything or image.tags or image.id in users
        ]

    async def check(self, image: str) -> Image | None:
        """Return an image by tag, digest or id; None if it is not there."""
        try:
            return _image(await self._images.inspect(image))
        except NotFound:
            return None

    async def delete(self, request: DeleteImage) -> list[str]:
        """Delete an image of the tenant's own that no DevBox uses; returns the names and ids that are gone."""
        image = await self._own(request)
        await self._refuse_used(request.tenant, image)
        by_id = is_id(request.image) or "@" in request.image
        if by_id and len(image.tags) > 1 and not request.force:
            raise FailedPrecondition(
                f"This image has the names {', '.join(image.tags)}: delete them one by one, or all with force."
            )
        gone: list[str] = []
        for name in (image.tags if by_id else (request.image,)) or (image.id,):
            try:
                gone += await self._images.delete(name)
            except FailedPrecondition:
                # Taken between our look and the engine's, or by a container that is no DevBox of this worker.
                await self._refuse_used(request.tenant, image)
                raise FailedPrecondition(
                    f"A container that is no DevBox of this worker uses {name}: its operator must remove that first."
                ) from None
        log.info("image %s of tenant %s deleted", image.id[:19], request.tenant)
        return gone

    async def base(self, tenant: str, image: str, on_progress: OnProgress) -> str:
        """Return the id of an image to build on, pulled if it is missing; raises `NotFound` for another tenant's.

        The id is what is built on then, whatever its name comes to mean meanwhile.
        """
        try:
            found = await self._images.inspect(image)
        except NotFound:
            absent = NotFound(f"The image {image} is not on this worker: build it first (image.build).")
            if image.startswith("localhost/") or is_id(image):
                raise absent from None
            await on_progress(f"Pulling {image}", None)
            async with aclosing(self._engine.pull(image)) as steps:
                async for step in steps:
                    await on_progress(step.message, step.fraction)
            found = await self._images.inspect(image)
        config = found.get("Config") or {}
        if (config.get("Labels") or {}).get(TENANT_LABEL, tenant) != tenant:
            raise NotFound(f"The image {image} is not on this worker: build it first (image.build).")
        if config.get("OnBuild"):
            raise InvalidArgument(f"The image {image} has ONBUILD steps, which are not run here; build on another.")
        return str(found["Id"])

    async def check_name(self, tenant: str, name: str) -> str:
        """Return the id of the tenant's image that has this name, "" if it is free; raises `AlreadyExists`."""
        try:
            found = _image(await self._images.inspect(name))
        except NotFound:
            return ""
        if not self._is_of(tenant, found.labels):
            raise AlreadyExists(f"The name {name} is taken by an image that is not yours: choose another name.")
        return found.id

    async def forget_replaced(self, image_id: str) -> None:
        """Delete an image that lost its name to a newer one, unless it has others or is used."""
        try:
            if not _image(await self._images.inspect(image_id)).tags:
                await self._images.delete(image_id)
        except Refusal as refusal:
            log.info("image %s, replaced, stays: %s", image_id[:19], refusal.message)

    async def _own(self, request: DeleteImage) -> Image:
        absent = NotFound(f"There is no image {request.image}; images.list shows those there are.")
        try:
            image = _image(await self._images.inspect(request.image))
        except NotFound:
            raise absent from None
        if self._is_of(request.tenant, image.labels):
            return image
        if TENANT_LABEL in image.labels:
            raise absent
        raise PermissionDenied(
            f"{request.image} was not built by image.build: only the operator of this machine removes it (podman rmi)."
        )

    def _is_of(self, tenant: str, labels: dict[str, str]) -> bool:
        return labels.get(TENANT_LABEL) == tenant and labels.get(BUILDER_LABEL) == self._install

    async def _users(self) -> list[tuple[str, dict[str, str]]]:
        return await self._images.users(f"{PREFIX}install={self._install}")

    async def _refuse_used(self, tenant: str, image: Image) -> None:
        """Raise `FailedPrecondition` if DevBoxes use an image: the tenant's by name, others by their number."""
        users = [labels for image_id, labels in await self._users() if image_id == image.id]
        if not users:
            return
        own = [
            f"{labels.get(f'{PREFIX}name')} ({labels.get(f'{PREFIX}devbox')})"
            for labels in users
            if labels.get(TENANT_LABEL) == tenant
        ]
        others = len(users) - len(own)
        who = ", ".join(sorted(own) + ([f"{others} of other tenants"] if others else []))
        raise FailedPrecondition(f"DevBoxes use this image: {who}. Remove them first.")


def _image(found: dict[str, Any]) -> Image:
    return Image(
        id=found["Id"],
        tags=tuple(found.get("RepoTags") or ()),
        size_bytes=found["Size"],
        created_at=found["Created"],
        labels=(found.get("Config") or {}).get("Labels") or {},
    )
