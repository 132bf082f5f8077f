"""What is allowed, and what a security profile means. Pure: from a profile and what was asked to a DevBox's options.

Nothing here can be set by a message: the floor and the tenants come from the executor's configuration.
"""

import posixpath
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, TypeVar

from protos.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied

_GB = 1024**3
_N = TypeVar("_N", int, float)


class Profile(IntEnum):
    """How tightly a DevBox is held, from the least to the most restrictive. The values are the contract's."""

    OPEN = 1
    STANDARD = 2
    STRICT = 3
    OFFLINE = 4

    @property
    def label(self) -> str:
        """The profile's name on the wire, in labels and in messages."""
        return self.name.lower()


@dataclass(frozen=True)
class Limits:
    """Bounds of a DevBox; none: not bounded."""

    memory_bytes: int | None
    cpus: float | None
    pids: int | None


@dataclass(frozen=True)
class BoxOptions:
    """What a DevBox is created with, in no engine's terms."""

    network: Literal["none", "host"]
    """Of its own; one with an allowlist gets its way out beside that (`executor.egress`)."""
    read_only: bool
    tmpfs: tuple[str, ...]
    all_capabilities: bool
    no_new_privileges: bool
    limits: Limits
    privileged: bool = False
    """All that the engine calls so: devices, no seccomp, no masked paths. Open DevBoxes only."""
    closes_sockets: bool = True
    """Only Unix, IPv4, IPv6 and netlink sockets can be made: AF_VSOCK leaves a DevBox that has no network."""


_HOME = "/home/developer"
_WRITABLE = (
    "/tmp",  # noqa: S108 - in the DevBox
    "/var/tmp",  # noqa: S108 - in the DevBox
    *(f"{_HOME}/{name}" for name in (".cache", ".npm", ".cargo", ".local/share")),
)
_KERNELS_PATHS = ("/proc", "/sys", "/dev", "/run")
_FORBIDDEN_PATHS = (
    *_KERNELS_PATHS, "/workspace", "/var/lib/clustercode",
    "/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr",
)  # fmt: skip
_MAX_PATH_BYTES, _MAX_NAME_BYTES = 1024, 255

_LIMITS = {
    Profile.OPEN: Limits(memory_bytes=4 * _GB, cpus=None, pids=None),
    Profile.STANDARD: Limits(memory_bytes=4 * _GB, cpus=2, pids=256),
    Profile.STRICT: Limits(memory_bytes=2 * _GB, cpus=1, pids=128),
    Profile.OFFLINE: Limits(memory_bytes=2 * _GB, cpus=1, pids=128),
}


def check_tenant(tenant: str, served: Collection[str]) -> None:
    """Raise `NotFound`, the same as for anything absent, unless this worker serves the tenant."""
    if tenant not in served:
        raise NotFound("This worker does not know that tenant.")


def check_floor(profile: Profile, floor: Profile) -> None:
    """Raise `FailedPrecondition` for a profile less restrictive than the machine's owner allows."""
    if profile < floor:
        raise FailedPrecondition(
            f"The security floor of this worker is {floor.label}, so a DevBox with profile {profile.label} is refused. "
            f"Ask for {floor.label} or a stricter profile, or have the machine's owner lower SECURITY_FLOOR."
        )


def check_privileged(profile: Profile, *, floor: Profile, mode: Literal["byom", "fleet"], allowed: bool) -> None:
    """Raise unless a privileged DevBox may be made: it is the machine's root, and only its owner can want that.

    `InvalidArgument` for another profile than open, `PermissionDenied` where the worker takes none at all.
    """
    if mode != "byom":
        raise PermissionDenied("Privileged DevBoxes are not allowed on a worker of a fleet: leave privileged out.")
    if not allowed:
        raise PermissionDenied(
            "Privileged DevBoxes are not allowed on this worker: leave privileged out, or have the machine's owner "
            "set allowPrivileged."
        )
    if floor is not Profile.OPEN:
        raise PermissionDenied(
            f"The security floor of this worker is {floor.label}, so no DevBox may be privileged: leave privileged "
            "out, or have the machine's owner lower SECURITY_FLOOR to open."
        )
    if profile is not Profile.OPEN:
        raise InvalidArgument(
            f"Only an open DevBox can be privileged, not a {profile.label} one: ask for profile open."
        )


def check_company(profile: Profile, tenant: str, others: list[tuple[Profile, str]], *, is_rootful: bool = True) -> None:
    """Keep an `open` DevBox, which on a rootful engine is root on the machine, from other tenants' DevBoxes.

    ``others`` are (profile, tenant) of the DevBoxes that are there. Raises `FailedPrecondition`.
    """
    if not is_rootful:
        return
    foreign = [other for other, owner in others if owner != tenant]
    if profile is Profile.OPEN and foreign:
        raise FailedPrecondition(
            "An open DevBox can do anything to this machine, and another tenant has a DevBox here. "
            "Use the profile standard, or another worker."
        )
    if Profile.OPEN in foreign:
        raise FailedPrecondition(
            "Another tenant has an open DevBox here, which can do anything to this machine. Use another worker."
        )


def box_options(
    profile: Profile,
    *,
    asked: Limits,
    privileged: bool = False,
    allowed_domains: tuple[str, ...] = (),
    writable_paths: tuple[str, ...] = (),
    injects_environment: bool = False,
) -> BoxOptions:
    """Return what a DevBox of this profile is created with; what was asked may tighten it, never loosen it.

    ``writable_paths`` are the tenant's by the owner's word and those of this creation. Whether it may be
    ``privileged``, `check_privileged` has said.

    No DevBox but an open one has a network of its own: standard and strict ones reach what their list names through a
    proxy beside them, and without it nothing.

    Raises `InvalidArgument` for what the profile does not take.
    """
    if allowed_domains and profile not in (Profile.STANDARD, Profile.STRICT):
        raise InvalidArgument(
            f"allowedDomains is for the profiles standard and strict: leave it out, for an {profile.label} DevBox "
            f"reaches {'everything' if profile is Profile.OPEN else 'nothing'}."
        )
    if profile is Profile.OFFLINE and injects_environment:
        raise InvalidArgument("An offline DevBox takes neither env nor secretEnv: leave them out.")
    is_open = profile is Profile.OPEN
    read_only = profile >= Profile.STRICT
    return BoxOptions(
        network="host" if is_open else "none",
        read_only=read_only,
        tmpfs=tuple(dict.fromkeys((*_WRITABLE, *map(writable_path, writable_paths)))) if read_only else (),
        all_capabilities=is_open,
        no_new_privileges=not is_open,
        limits=_lowered(_LIMITS[profile], asked),
        privileged=privileged and is_open,
        closes_sockets=not is_open,
    )


def _lowered(given: Limits, asked: Limits) -> Limits:
    """Return the tighter of both, field by field."""

    def lower(of_profile: _N | None, of_caller: _N | None) -> _N | None:
        if of_profile is None or of_caller is None:
            return of_caller if of_profile is None else of_profile
        return min(of_profile, of_caller)

    return Limits(
        memory_bytes=lower(given.memory_bytes, asked.memory_bytes),
        cpus=lower(given.cpus, asked.cpus),
        pids=lower(given.pids, asked.pids),
    )


def writable_path(path: str) -> str:
    """Return a path that may be writable; raises `InvalidArgument` for one that would hide the box's system."""
    clean = _clean(path)
    names = path.split("/")
    if (
        not path.startswith("/")
        or clean == "/"
        or ".." in names
        or re.search(r"[,:\x00-\x1f\x7f]", path)
        or len(path.encode(errors="replace")) > _MAX_PATH_BYTES
        or any(len(name.encode(errors="replace")) > _MAX_NAME_BYTES for name in names)
    ):
        raise InvalidArgument(f"writablePaths takes absolute paths in the DevBox without '..', not {path[:200]!r}.")
    if _is_below(clean, _FORBIDDEN_PATHS):
        raise InvalidArgument(f"{clean} cannot be made writable: it belongs to the DevBox's system.")
    return clean


def check_image_volumes(paths: Iterable[str], promised: BoxOptions) -> None:
    """Raise `InvalidArgument` where an image's own volumes would break a promise.

    ``paths`` are where the engine mounts them: writable, and on disk.
    """
    volumes = sorted(map(_clean, paths))
    if system := [path for path in volumes if path == "/" or _is_below(path, _KERNELS_PATHS)]:
        raise InvalidArgument(
            f"The image keeps {', '.join(system)} on a volume, but that belongs to the DevBox's system: "
            "use another image."
        )
    if promised.read_only and volumes:
        raise InvalidArgument(
            f"The image keeps {', '.join(volumes)} on volumes of their own, which would be writable: "
            "ask for these paths in writablePaths, or use an image without VOLUME."
        )


def _clean(path: str) -> str:
    """Return a path in its shortest form; two slashes at its beginning mean no more than one."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _is_below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
