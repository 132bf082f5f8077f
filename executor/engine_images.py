"""Images and builds in the engine's words, beside `executor.engine`: which calls, which parameters, which engine."""

import io
import json
import tarfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from executor.engine import Engine
from protos.errors import Internal, NotFound

_HOLDER_MEMORY_BYTES = 64 * 1024**2
_NAMESPACES = {"pid": "pid", "network": "net", "ipc": "ipc"}
"""What a build shares with its holder: by Podman's name and by the kernel's."""


@dataclass(frozen=True)
class ListedImage:
    """An image as the engine lists it."""

    id: str
    parent: str
    tags: tuple[str, ...]
    size_bytes: int
    created: int
    """Seconds since 1970."""
    labels: dict[str, str]


@dataclass(frozen=True)
class BuildOptions:
    """How an image is built."""

    containerfile: str
    """Name in the context."""
    has_network: bool
    memory_bytes: int | None
    cpus: float | None
    name: str = ""
    """What the image is called; empty: it has its id alone."""
    build_args: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    seccomp: str = ""
    """Path of the profile that its steps run under; empty: the engine's own."""


class EngineImages:
    """The engine's images. Holds nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list_images(self, *labels: str, layers: bool = False) -> list[ListedImage]:
        """Return the images that carry all the labels, with ``layers`` also what builds keep between their steps."""
        params = {"filters": json.dumps({"label": list(labels)} if labels else {}), "all": str(layers).lower()}
        found = await self._listed(params)
        return [
            ListedImage(
                id=_prefixed(image["Id"]),
                parent=_prefixed(image.get("ParentId") or ""),
                tags=tuple(tag for tag in image.get("RepoTags") or () if not tag.startswith("<none>")),
                size_bytes=image["Size"],
                created=image["Created"],
                labels=image.get("Labels") or {},
            )
            for image in found
        ]

    async def _listed(self, params: Mapping[str, str]) -> list[dict[str, Any]]:
        """Ask for a list, again where it met a removal: Podman 4.3 then gives none."""
        tries = 5
        while True:
            tries -= 1
            try:
                found: list[dict[str, Any]] = await self._engine.ask("GET", "images/json", params=dict(params))
            except (Internal, NotFound):
                if not tries:
                    raise
            else:
                return found

    async def inspect(self, image: str) -> dict[str, Any]:
        """Return all the engine knows of an image; raises `NotFound`."""
        found: dict[str, Any] = await self._engine.ask("GET", f"images/{image}/json")
        found["Id"] = _prefixed(found["Id"])
        return found

    async def users(self, *labels: str) -> list[tuple[str, dict[str, str]]]:
        """Return (image id, labels) of all containers that carry the labels."""
        params = {"all": "true", "filters": json.dumps({"label": list(labels)})}
        found = await self._engine.ask("GET", "containers/json", params=params)
        return [(_prefixed(container["ImageID"]), container.get("Labels") or {}) for container in found]

    async def tag(self, image: str, name: str) -> None:
        """Give an image a name; it is taken from the image that has it now."""
        repository, _, tag = name.rpartition(":")
        await self._engine.ask("POST", f"images/{image}/tag", params={"repo": repository, "tag": tag})

    async def delete(self, image: str, *, prune: bool = True) -> list[str]:
        """Remove a name, and the image when that was the last; returns what is gone.

        Never by force: the engine's own would remove containers. Raises `FailedPrecondition` for one in use.
        """
        params = {"force": "false", "noprune": str(not prune).lower()}
        gone = await self._engine.ask("DELETE", f"images/{image}", params=params, timeout_s=300.0)
        return [step.get("Untagged") or _prefixed(step["Deleted"]) for step in gone or ()]

    async def build(
        self, context: BinaryIO, options: BuildOptions, holder_pid: int | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Build an image, yielding what the engine tells. Closing the iterator is not enough to stop it."""
        params: dict[str, str | int] = {
            "dockerfile": options.containerfile,
            "rm": "true",
            "forcerm": "true",
            "nocache": str(options.no_cache).lower(),
            "buildargs": json.dumps(dict(options.build_args)),
            # What is missing was pulled before, and pinned by its id.
            "pullpolicy": "never",
            "dropcaps": json.dumps(["CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"]),
        }
        if options.memory_bytes is not None:
            params |= {"memory": options.memory_bytes, "memswap": options.memory_bytes}
        if options.cpus is not None:
            params |= {"cpuperiod": 100_000, "cpuquota": int(options.cpus * 100_000)}
        if options.seccomp:
            params["securityopt"] = json.dumps([f"seccomp={options.seccomp}"])
        if options.name:
            params["t"] = options.name
        if holder_pid is None:
            params["networkmode"] = "host" if options.has_network else "none"
        else:
            params["nsoptions"] = json.dumps(
                [
                    {"Name": "network", "Host": True}
                    if name == "network" and options.has_network
                    else {"Name": name, "Host": False, "Path": f"/proc/{holder_pid}/ns/{kernel}"}
                    for name, kernel in _NAMESPACES.items()
                ]
            )
        async with aclosing(self._engine.post_tar("build", params=params, body=context)) as messages:
            async for message in messages:
                yield message

    # --- what makes a build of Podman's end when we say so -------------------------------------------------------

    async def start_holder(self, name: str, label: str) -> int:
        """Start an empty container that does nothing but hold namespaces; returns the process id the engine knows.

        Podman goes on with a ``RUN`` whose client is gone. In the holder's process namespace all of a build's
        processes die with the holder, by the kernel and whatever they do, and all it takes is the engine's API.
        """
        empty = io.BytesIO()
        tarfile.open(fileobj=empty, mode="w").close()
        await self._engine.import_image(f"localhost/{name}:latest", empty.getvalue(), label)
        # The init that Podman puts into the container pauses for ever; there is nothing else in it to run.
        config = {
            "Image": f"localhost/{name}:latest",
            "Entrypoint": ["/run/podman-init", "-P"],
            "Cmd": [],
            "Labels": dict([label.split("=", 1)]),
            "HostConfig": {
                "Init": True,
                "NetworkMode": "none",
                "ReadonlyRootfs": True,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "Memory": _HOLDER_MEMORY_BYTES,
                "MemorySwap": _HOLDER_MEMORY_BYTES,
            },
        }
        await self._engine.ask("POST", "containers/create", params={"name": name}, body=config)
        await self._engine.start(name)
        pid: int = (await self._engine.inspect(name))["State"]["Pid"]
        return pid

    async def remove_container(self, name: str) -> None:
        """Remove a container of ours. Safe to repeat."""
        await self._engine.remove(name)

    async def remove_holder(self, name: str) -> None:
        """Remove a holder, and so end all processes of its build. Safe to repeat."""
        await self._engine.remove(name)
        await self.forget(f"localhost/{name}:latest")

    async def forget(self, image: str) -> None:
        """Delete an image if it is there. Raises `FailedPrecondition` for one in use."""
        with suppress(NotFound):
            await self.delete(image)

    async def working_containers(self) -> dict[str, str]:
        """Return the containers that Podman's builds work in, whoever's builds: image id by container id."""
        if (await self._engine.learn()).kind != "podman":
            return {}
        found = await self._engine.ask("GET", "libpod/containers/json", params={"all": "true", "external": "true"})
        return {
            container["Id"]: _prefixed(container["ImageID"]) for container in found if container["State"] == "storage"
        }

    async def remove_working_container(self, container_id: str) -> None:
        """Remove one of those. Safe to repeat."""
        with suppress(NotFound):
            await self._engine.ask(
                "DELETE", f"libpod/containers/{container_id}", params={"force": "true"}, timeout_s=60.0
            )


def _prefixed(image_id: str) -> str:
    return image_id if not image_id or ":" in image_id else f"sha256:{image_id}"
