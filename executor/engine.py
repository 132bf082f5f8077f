"""The container engine, Podman or Docker, through the API that both speak. The only import of aiodocker.

Here and nowhere else engine errors become `Refusal`, options become the engine's own, and every call gets its
deadline. Names and ids that reach the engine are made by the executor; what callers sent is data.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import aiodocker
import aiohttp

from executor.exec_stream import ExecOutput, ExecStream, start_exec
from executor.metrics import Metrics
from executor.policy import BoxOptions
from protos.errors import FailedPrecondition, Internal, InvalidArgument, NotFound, Refusal, Unavailable

log = logging.getLogger(__name__)

API_VERSION = "v1.41"
"""What Podman 4.3 and Docker 20.10, the oldest engines supported, both speak."""

CALL_TIMEOUT_S = 30.0
PULL_TIMEOUT_S = 3600.0
_DISK_USAGE_TIMEOUT_S = 300.0
_MAX_ENGINE_LINE_BYTES = 4 * 1024 * 1024
_NOT_CONNECTED = 900
"""What aiodocker makes of a connection that nobody takes."""
_STILL_DYING = "did not die within timeout"
"""What Podman says where it gave up waiting for what it killed, as on a busy machine; asked again it goes on."""

EngineKind = Literal["podman", "docker"]

_NO_DETACH_KEYS = ",".join(("ctrl-@", "ctrl-\\", "ctrl-@", "ctrl-]", "ctrl-@", "ctrl-^", "ctrl-@", "ctrl-_") * 8)
"""Docker takes ctrl-p ctrl-q in a terminal's input as the wish to be cut off, and offers no way to want none: so this
is a sequence that nobody types."""


@dataclass(frozen=True)
class EngineInfo:
    """Which engine answers."""

    kind: EngineKind
    version: str
    storage: str
    rootless: bool = False
    """It runs as an ordinary user: what is root in a DevBox is not root on the machine."""
    bounds_builds: bool = True
    """It can limit a build; a rootless one on control groups of version 1 has none to set, and fails instead."""


@dataclass(frozen=True)
class PullStep:
    """One line of an image pull; ``fraction`` over all layers, where the engine says."""

    message: str
    fraction: float | None


@dataclass(frozen=True)
class Hint:
    """Something happened to a container, as the engine tells: ``action`` is "die", "oom", "remove" and the like."""

    container: str
    action: str


class Engine:
    """Client of one engine. Holds no state of the engine: whatever it says now is the truth.

    ``locate`` returns the engine's socket or raises `Unavailable` with the reason; it is asked before every call, so
    an engine that comes, goes or moves is found without a restart.
    """

    def __init__(self, locate: Callable[[], Path]) -> None:
        self._locate = locate
        self.metrics = Metrics()
        self._socket: Path | None = None
        self._docker: aiodocker.Docker | None = None
        self._info: EngineInfo | None = None

    @property
    def known(self) -> EngineInfo | None:
        """Which engine it is, None until `learn` found out and while it is away."""
        return self._info

    @property
    def kind(self) -> EngineKind:
        """Which engine answered last."""
        return self._info.kind if self._info else "podman"

    async def aclose(self) -> None:
        """Close idle connections. Safe to repeat."""
        if self._docker is not None:
            await self._docker.session.close()
        self._docker = self._socket = self._info = None

    async def learn(self) -> EngineInfo:
        """Return which engine answers, finding it out unless that is known.

        Podman may take a second for it on a busy machine (it asks the package manager), so nobody waits for it.
        """
        if self._info is None:
            async with self._call("learn") as docker:
                version, info = await docker.version(), await docker.system.info()
            names = {component.get("Name", "") for component in version.get("Components") or ()}
            kind: EngineKind = "podman" if "Podman Engine" in names else "docker"
            # Podman says it in a field of its own, Docker among the security options.
            said = info.get("SecurityOptions") or ()
            rootless = bool(info.get("Rootless")) or any("rootless" in option for option in said)
            bounds_builds = not (rootless and info.get("CgroupVersion") == "1")
            storage = info.get("DockerRootDir", "")
            self._info = EngineInfo(kind, version["Version"], storage, rootless, bounds_builds)
        return self._info

    async def ping(self, timeout_s: float) -> None:
        """Have the engine answer, at no cost; raises `Unavailable`."""
        async with self._call("ping", timeout_s) as docker, docker._query("_ping", versioned_api=False):  # noqa: SLF001
            pass

    # --- containers and volumes -----------------------------------------------------------------------------

    async def list_names(
        self, labels: Iterable[str], *, running_only: bool = False, timeout_s: float = CALL_TIMEOUT_S
    ) -> list[str]:
        """Return the names of all containers that carry all the labels (``key=value``)."""
        async with self._call("list_names", timeout_s) as docker:
            # Not by aiodocker's containers: each keeps what was said of it, in a cycle that waits for the collector.
            params = {"all": str(not running_only).lower(), "filters": json.dumps({"label": list(labels)})}
            found = await docker._query_json("containers/json", params=params)  # noqa: SLF001
        return [container["Names"][0].removeprefix("/") for container in found]

    async def list_said(self, labels: Iterable[str]) -> dict[str, dict[str, Any] | None]:
        """Return what the list itself says of containers that carry all the labels, by name, in `inspect`'s words.

        Without ``HostConfig``, of mounts only where they are, and when it started to the second. None where that is
        too little: of one that does not run, and on Docker, whose list says less, or while it is not known which it is.
        """
        if self._info is None or self._info.kind == "docker":
            return dict.fromkeys(await self.list_names(labels))
        params = {"all": "true", "filters": json.dumps({"label": list(labels)})}
        found = await self.ask("GET", "libpod/containers/json", params=params)
        return {container["Names"][0]: said_by_list(container) if container["Pid"] else None for container in found}

    async def inspect(self, name: str) -> dict[str, Any]:
        """Return all the engine knows of a container; raises `NotFound`."""
        async with self._call("inspect") as docker:
            found: dict[str, Any] = await docker._query_json(f"containers/{name}/json")  # noqa: SLF001 - see list_names
        return found

    async def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Create a named volume. One of that name that is there stays."""
        async with self._call("create_volume") as docker:
            await docker.volumes.create(  # type: ignore[no-untyped-call] # aiodocker types not all
                {"Name": name, "Labels": dict(labels)}
            )

    async def remove_volume(self, name: str) -> None:
        """Remove a volume and all in it. Safe to repeat."""
        try:
            async with self._call("remove_volume") as docker:
                await aiodocker.volumes.DockerVolume(docker, name).delete()  # type: ignore[no-untyped-call]
        except NotFound:
            pass

    async def create_container(
        self,
        name: str,
        *,
        image: str,
        labels: Mapping[str, str],
        env: Mapping[str, str],
        hostname: str,
        options: BoxOptions,
        volumes: Mapping[str, str],
        seccomp: str,
        files: Mapping[str, Path],
        beside: str = "",
    ) -> None:
        """Create a DevBox's container: it idles under an init that reaps orphans until it is stopped.

        ``seccomp`` is the profile for DevBoxes that may not make every socket, as that engine takes it. ``files`` of
        ours are seen at their paths, read-only. With ``beside`` it is in that container's network namespace, and on
        Docker has that one's hostname.
        """
        config: dict[str, Any] = {
            "Image": image,
            "Hostname": hostname,
            "Entrypoint": ["tail", "-f", "/dev/null"],
            "Cmd": [],
            "Env": [f"{key}={value}" for key, value in env.items()],
            "Labels": dict(labels),
            "HostConfig": host_config(options, volumes, files, seccomp),
        }
        if beside:
            config["HostConfig"]["NetworkMode"] = f"container:{beside}"
            if self.kind == "docker":
                del config["Hostname"]
        async with self._call("create_container", 60.0) as docker:
            await docker.containers.create(config, name=name)

    async def disk_usage(self) -> dict[str, int]:
        """Return what each container (beyond its image) and each volume holds, in bytes by name. May take long."""
        used = await self.ask("GET", "system/df", timeout_s=_DISK_USAGE_TIMEOUT_S)
        sizes = {
            name.removeprefix("/"): int(container.get("SizeRw") or 0)
            for container in used.get("Containers") or ()
            for name in container.get("Names") or ()
        }
        for volume in used.get("Volumes") or ():
            sizes[volume["Name"]] = max(0, int((volume.get("UsageData") or {}).get("Size") or 0))  # -1: not known
        return sizes

    async def start(self, name: str) -> None:
        """Start a container. One that runs stays as it is."""
        async with self._call("start", 60.0) as docker:
            await docker.containers.container(name).start()

    async def stop(self, name: str, timeout_s: int) -> None:
        """Ask the container's processes to end, kill them after ``timeout_s``. One that is stopped stays as it is."""
        async with self._call("stop", timeout_s + CALL_TIMEOUT_S) as docker:
            await docker.containers.container(name).stop(t=timeout_s)

    async def remove(self, name: str) -> None:
        """Kill and remove a container, with volumes that its image asked for. Safe to repeat."""
        for is_last in (False, False, True):
            try:
                async with self._call("remove", 60.0) as docker:
                    await docker.containers.container(name).delete(force=True, v=True)
            except NotFound:
                return
            except Internal as refusal:
                if is_last or _STILL_DYING not in refusal.message:
                    raise
            else:
                return

    async def events(self, label: str) -> AsyncGenerator[Hint, None]:
        """Yield what the engine tells of containers with this label (``key=value``), from now on; may end at any time.

        Without a deadline, for nothing may happen for days: whoever asks does not rely on it.
        """
        filters = json.dumps({"type": ["container"], "label": [label]})
        params = {"stream": "true", "filters": filters}
        async with self._call(None, None) as docker, docker._query("events", params=params, timeout=None) as response:  # noqa: SLF001
            try:
                pending = b""
                async for data in response.content.iter_any():
                    *lines, pending = (pending + data).split(b"\n")
                    if len(pending) > _MAX_ENGINE_LINE_BYTES:
                        raise Internal("The container engine sends a message without end.")
                    for line in lines:
                        if (hint := _hint(line)) is not None:
                            yield hint
            finally:
                response.close()

    # --- images ---------------------------------------------------------------------------------------------

    async def image_labels(self, image: str) -> dict[str, str]:
        """Return an image's labels; raises `NotFound`."""
        async with self._call("image_labels") as docker:
            found = await docker.images.inspect(image)
        return (found.get("Config") or {}).get("Labels") or {}

    async def pull(self, image: str) -> AsyncGenerator[PullStep, None]:
        """Pull an image, yielding progress; raises `NotFound` when no registry gives it."""
        layers: dict[str, tuple[int, int]] = {}
        try:
            async with asyncio.timeout(PULL_TIMEOUT_S):
                async with self._call(None, None) as docker:
                    async for line in docker.images.pull(image, stream=True):
                        detail = line.get("progressDetail") or {}
                        if detail.get("total"):
                            layers[line.get("id", "")] = (detail.get("current", 0), detail["total"])
                        done, total = (
                            (sum(column) for column in zip(*layers.values(), strict=True)) if layers else (0, 0)
                        )
                        text = " ".join(str(line[key]).strip() for key in ("id", "status", "stream") if line.get(key))
                        yield PullStep(text[:500], min(done / total, 1.0) if total else None)
        except TimeoutError:
            raise Unavailable(f"The pull of {image} did not end within {PULL_TIMEOUT_S / 60:.0f} minutes.") from None
        except (NotFound, Internal, InvalidArgument) as refusal:
            raise NotFound(f"The image {image} is not on this worker and cannot be pulled: {refusal.message}") from None

    async def import_image(self, name: str, archive: bytes, label: str, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Make an image of one layer from a tar archive, with a name that has a tag, and a label (``key=value``).

        By Podman's own call, where there is one: what it does for Docker's leaves the archive in ``/var/tmp`` (4.3).
        """
        changes = f"LABEL {label}"
        if (await self.learn()).kind == "podman":
            path, params = "libpod/images/import", {"reference": name, "changes": changes}
        else:
            path, params = "images/create", {"fromSrc": "-", "repo": name, "changes": changes}
        await self.ask("POST", path, params=params, body=archive, timeout_s=timeout_s)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Any:  # noqa: ANN401 - whatever the engine answers
        """Make one call of the engine's API that aiodocker has no words for; `executor.engine_images` has them."""
        async with self._call("ask", timeout_s) as docker:
            return await docker._query_json(path, method, params=params, data=body)  # noqa: SLF001

    async def post_tar(
        self, path: str, *, params: Mapping[str, str | int], body: BinaryIO
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Send an archive and yield what the engine tells of it, message by message, without a deadline of its own.

        Closing the iterator closes the connection, by which engines know that nobody waits any more.
        """
        async with self._call(None, None) as docker:
            headers = {"Content-Type": "application/x-tar"}
            async with docker._query(  # noqa: SLF001
                path, "POST", params=params, data=body, headers=headers, timeout=None
            ) as response:
                try:
                    pending = b""
                    async for data in response.content.iter_any():
                        *lines, pending = (pending + data).split(b"\n")
                        for line in lines:
                            if line.strip():
                                yield json.loads(line)
                        if len(pending) > _MAX_ENGINE_LINE_BYTES:
                            raise Internal("The container engine sends a message without end.")
                    if pending.strip():
                        yield json.loads(pending)
                finally:
                    response.close()

    # --- execs ----------------------------------------------------------------------------------------------

    async def create_exec(
        self,
        name: str,
        argv: Iterable[str],
        *,
        env: Mapping[str, str],
        user: str = "",
        workdir: str = "",
        tty: bool = False,
    ) -> str:
        """Prepare a command in a running container; returns the exec's id."""
        async with self._call("create_exec") as docker:
            created = await docker.containers.container(name).exec(
                list(argv),
                stdin=True,
                tty=tty,
                user=user,
                workdir=workdir or None,
                environment=env,
                detach_keys=_NO_DETACH_KEYS if tty and self.kind == "docker" else "",
            )
        return created.id

    async def start_exec(
        self, exec_id: str, receiver: ExecOutput, *, tty: bool, size: tuple[int, int] | None = None
    ) -> ExecStream:
        """Start a prepared command and take its byte stream over."""
        stream = await start_exec(self._locate(), exec_id, receiver, tty=tty, size=size)
        if size is not None and self.kind == "docker":
            # This version of Docker's API takes no size at the start: the program is told of it at once.
            with suppress(Refusal):  # it has ended already
                await self.resize_exec(exec_id, cols=size[0], rows=size[1])
        return stream

    async def exec_exit_code(self, exec_id: str) -> int | None:
        """Return the exit code of a command, None while it runs; raises `NotFound` once the engine forgot it."""
        async with self._call("exec_exit_code") as docker:
            state = await docker.containers.exec(exec_id).inspect()
        return None if state["Running"] else int(state["ExitCode"] or 0)

    async def resize_exec(self, exec_id: str, *, cols: int, rows: int) -> None:
        """Set the size of a command's terminal."""
        async with self._call("resize_exec", 5.0) as docker:
            await docker.containers.exec(exec_id).resize(h=rows, w=cols)

    # --- the border -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _call(
        self, name: str | None, timeout_s: float | None = CALL_TIMEOUT_S
    ) -> AsyncIterator[aiodocker.Docker]:
        """Give the client for one call, and count it; ``name`` is None for a stream."""
        with self.metrics.engine_call(name):
            async with self._bounded(timeout_s) as docker:
                yield docker

    @asynccontextmanager
    async def _bounded(self, timeout_s: float | None) -> AsyncIterator[aiodocker.Docker]:
        """Give the client for one call, bound it in time, and turn whatever the engine says into ours."""
        socket = self._locate()
        if self._docker is None or socket != self._socket:
            await self.aclose()
            self._socket = socket
            # No limit on connections: the default of 100 blocks without an error once that many streams are open.
            connector = aiohttp.UnixConnector(str(socket), limit=0)
            self._docker = aiodocker.Docker(
                url="unix://localhost",
                session=aiohttp.ClientSession(connector=connector),
                connector=connector,
                api_version=API_VERSION,
            )
        try:
            async with asyncio.timeout(timeout_s):
                yield self._docker
        except TimeoutError:
            raise Unavailable(f"The container engine did not answer within {timeout_s:.0f} s; it may hang.") from None
        except aiodocker.DockerError as error:
            if error.status != _NOT_CONNECTED:
                raise _refusal(error) from None
            raise self._away(socket) from None
        except (aiohttp.ClientError, OSError):
            raise self._away(socket) from None

    def _away(self, socket: Path) -> Unavailable:
        self._info = None  # what comes back may be another engine
        return Unavailable(f"The container engine does not answer on {socket}. Is it running?")


def said_by_list(listed: dict[str, Any]) -> dict[str, Any]:
    """Return what Podman's own list says of a container that runs, in the words of `Engine.inspect`."""
    # Its time is the service's local one, where inspect gives that of Greenwich.
    created = datetime.fromisoformat(listed["Created"]).astimezone(UTC)
    fraction = re.search(r"\.\d+", listed["Created"])
    started = datetime.fromtimestamp(listed["StartedAt"], UTC)
    return {
        "Name": listed["Names"][0],
        "Created": f"{created:%Y-%m-%dT%H:%M:%S}{fraction[0] if fraction else ''}Z",
        "Config": {"Image": listed["Image"], "Labels": listed["Labels"]},
        "State": {
            "Status": listed["State"],
            "Pid": listed["Pid"],
            "ExitCode": listed["ExitCode"],
            "StartedAt": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        },
        # Paths; some versions tell all of each.
        "Mounts": [{"Destination": mount} if isinstance(mount, str) else mount for mount in listed["Mounts"] or ()],
    }


def _hint(line: bytes) -> Hint | None:
    """Read one of the engine's events; None for what is none of a container."""
    try:
        told = json.loads(line)
        return Hint(str(told["Actor"]["Attributes"]["name"]), str(told["Action"]))
    except (ValueError, KeyError, TypeError):
        return None


def _refusal(error: aiodocker.DockerError) -> Exception:
    """Return our form of an engine's error."""
    message = str(error.message).strip()[:1000]
    if error.status == _NOT_CONNECTED:
        return Unavailable("The container engine does not answer. Is it running?")
    kinds = {400: InvalidArgument, 404: NotFound, 409: FailedPrecondition}
    if (why := _bad_user(message)) is not None:
        return FailedPrecondition(
            f"The image's USER names {why}: use another image, or build this one with another USER."
        )
    if "catatonit" in message or "podman-init" in message or "docker-init" in message:
        return FailedPrecondition(f"The engine has no init program: install the package catatonit. ({message})")
    kind = kinds.get(error.status, Internal)
    # Podman answers some of these with 500, when something goes or stops between two of its own steps.
    if any(words in message for words in ("no such container", "no such volume", "does not exist in database")):
        kind = NotFound
    elif "container state improper" in message or "is not running" in message:
        kind = FailedPrecondition
    return kind(f"The container engine says: {message}")


def _bad_user(message: str) -> str | None:
    """Say what is wrong with the user that an image names, if that is why a container did not start.

    Both engines read the image's files with the same library, and tell what it says.
    """
    if absent := re.search(r"unable to find (user|group) (.+): no matching entries in (passwd|group) file", message):
        kind, name, file = absent.groups()
        return f"the {kind} {name!r}, which is not in its /etc/{file}"
    if "uids and gids must be in range" in message:
        return "a number beyond 2147483647"
    return None


def host_config(
    options: BoxOptions, volumes: Mapping[str, str], files: Mapping[str, Path], seccomp: str
) -> dict[str, Any]:
    """Return a DevBox's options in the engine's terms; ``seccomp`` is the profile as that engine takes it."""
    security = ["no-new-privileges"] if options.no_new_privileges else []
    if options.closes_sockets:
        security.append(f"seccomp={seccomp}")
    config: dict[str, Any] = {
        "NetworkMode": options.network,
        "Init": True,
        "Mounts": [
            *({"Type": "volume", "Source": name, "Target": path} for name, path in volumes.items()),
            *({"Type": "bind", "Source": str(file), "Target": path, "ReadOnly": True} for path, file in files.items()),
        ],
        "ReadonlyRootfs": options.read_only,
        # Podman knows no uid= here, so the sticky bit lets the box's user write.
        "Tmpfs": dict.fromkeys(options.tmpfs, "rw,nosuid,nodev,size=512m,mode=1777"),
        "CapAdd": ["ALL"] if options.all_capabilities else [],
        "CapDrop": [] if options.all_capabilities else ["ALL"],
        "SecurityOpt": security,
        "Privileged": options.privileged,
    }
    limits = options.limits
    if limits.memory_bytes is not None:
        config |= {"Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes}
    if limits.cpus is not None:
        config["NanoCpus"] = int(limits.cpus * 1e9)
    if limits.pids is not None:
        config["PidsLimit"] = limits.pids
    return config
