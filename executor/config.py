"""Configuration of the executor: read once by the command line, then passed down."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from executor.domains import domain_pattern
from executor.policy import Profile, writable_path
from protos import limits
from protos.errors import InvalidArgument


class TerminalLimits(BaseModel):
    """Bounds of every terminal session."""

    model_config = ConfigDict(frozen=True)

    scrollback_bytes: Annotated[int, Field(ge=64 * 1024, le=64 * 1024 * 1024)] = 1024 * 1024
    window_bytes: Annotated[int, Field(ge=limits.MIN_WINDOW_BYTES, le=limits.MAX_WINDOW_BYTES)] = (
        limits.DEFAULT_WINDOW_BYTES
    )
    grace_s: Annotated[float, Field(gt=0)] = 60.0
    """How long a program waits for a viewer when the scrollback is full; then the oldest output is dropped."""
    detached_s: Annotated[float, Field(gt=0)] = 24 * 3600.0
    """How long a session without a viewer lives."""
    ended_s: Annotated[float, Field(gt=0)] = 600.0
    """How long an ended session waits for its viewer to fetch the last output and the exit code, a new one for any."""
    max_sessions: Annotated[int, Field(ge=1, le=10_000)] = 256


class DisplayLimits(BaseModel):
    """Bounds of all viewers of displays."""

    model_config = ConfigDict(frozen=True)

    window_bytes: Annotated[int, Field(ge=limits.MIN_WINDOW_BYTES, le=limits.MAX_WINDOW_BYTES)] = (
        limits.DEFAULT_WINDOW_BYTES
    )
    max_viewers: Annotated[int, Field(ge=1, le=1000)] = 64


class BuildLimits(BaseModel):
    """Bounds of image builds: one at a time on this worker, the others wait."""

    model_config = ConfigDict(frozen=True)

    memory_bytes: Annotated[int, Field(ge=64 * 1024**2)] = 4 * 1024**3
    cpus: Annotated[float, Field(gt=0)] = 2.0
    max_waiting: Annotated[int, Field(ge=1)] = 32
    context_bytes: Annotated[int, Field(ge=1024**2)] = 512 * 1024**2
    """Build contexts of one tenant that were sent in pieces, and the content of each."""
    contexts_bytes: Annotated[int, Field(ge=1024**2)] = 2 * 1024**3
    """Those of all tenants."""
    min_free_bytes: Annotated[int, Field(ge=0)] | None = None
    """Room on the disk without which nothing is built; none: 2 GiB or 5 % of the disk, whichever is less."""

    def floor(self, disk_bytes: int) -> int:
        """Return the room that must be left on a disk of this size."""
        return min(2 * 1024**3, disk_bytes // 20) if self.min_free_bytes is None else self.min_free_bytes


class EventLimits(BaseModel):
    """How DevBoxes are watched."""

    model_config = ConfigDict(frozen=True)

    reconcile_s: Annotated[float, Field(gt=0)] = 30.0
    """How often all DevBoxes are looked at, whatever the engine tells."""
    kept: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Events that wait for one who watches; the oldest go first."""


def _path_in_box(path: str) -> str:
    try:
        return writable_path(path)
    except InvalidArgument as refusal:
        raise ValueError(refusal.message) from None


class Quotas(BaseModel):
    """What all DevBoxes of one tenant may have together; none: not bounded."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    devboxes: Annotated[int, Field(ge=0)] | None = None
    memory_bytes: Annotated[int, Field(ge=0)] | None = None
    """The limits of its running DevBoxes, added up."""
    cpus: Annotated[float, Field(ge=0)] | None = None
    """The same of processors."""
    sessions: Annotated[int, Field(ge=0)] | None = None
    """Terminals and displays that are open."""
    backgrounds: Annotated[int, Field(ge=0)] | None = None
    """Background commands that run."""
    disk_bytes: Annotated[int, Field(ge=0)] | None = None
    """What its DevBoxes and their volumes hold, as measured."""


class TenantPolicy(BaseModel):
    """What this machine's owner grants one tenant: ``tenants.<id>`` in the executor's file."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    allowed_domains: Annotated[
        tuple[Annotated[str, AfterValidator(domain_pattern)], ...], Field(max_length=limits.MAX_LIST_ITEMS)
    ] = ()
    """Names its standard and strict DevBoxes may reach, as `executor.domains` keeps them."""
    writable_paths: Annotated[
        tuple[Annotated[str, AfterValidator(_path_in_box)], ...], Field(max_length=limits.MAX_LIST_ITEMS)
    ] = ()
    """Paths that are writable in its strict and offline DevBoxes, besides the profile's."""
    quotas: Quotas = Quotas()


Limit = Literal["memory", "cpus", "pids"]
"""A limit that an engine may fail to hold (rootless Podman on cgroup v1 holds none)."""


def _policies(tenants: Any) -> Any:  # noqa: ANN401 - what a file or a flag says
    """Take ids alone, as a flag gives them, and in a file ``id:`` with nothing behind it."""
    if isinstance(tenants, Mapping):
        return {tenant: {} if policy is None else policy for tenant, policy in tenants.items()}
    return {tenant: {} for tenant in tenants} if isinstance(tenants, Sequence) else tenants


class ExecutorConfig(BaseModel):
    """Everything the executor is told from outside. No message can change any of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path
    """The one directory of the host that the executor uses; it is created 0700."""
    tenants: Annotated[
        dict[Annotated[str, StringConstraints(pattern=limits.ID_PATTERN)], TenantPolicy],
        BeforeValidator(_policies),
        Field(min_length=1),
    ]
    """Whom this worker serves, and what each is granted: in BYOM mode exactly the registered tenant."""
    mode: Literal["byom", "fleet"] = "byom"
    """Its owner's own machine, or one of a managed fleet."""
    security_floor: Profile = Profile.STANDARD
    """The least restrictive profile that this machine's owner allows."""
    allow_privileged: bool = False
    """Privileged DevBoxes may be made: open ones, where the floor is open, in BYOM mode."""
    accepted_missing_limits: frozenset[Limit] = frozenset()
    """Limits without which DevBoxes may run where the engine does not hold them."""
    stop_below_floor: bool = False
    """Stop DevBoxes that are found at start with a profile below the floor; else they are only reported."""
    open_beside_others: bool = False
    """Let an open DevBox of one tenant, root on a rootful engine's machine, run beside those of others."""
    runtime: Literal["podman", "docker"] | None = None
    """Engine to use; none: Podman, or whatever ``DOCKER_HOST`` names."""
    engine_socket: Path | None = None
    """The engine's socket; none: look where engines put theirs, or start Podman's service."""
    podman_path: str = "podman"
    starts_engine: bool = True
    """Start Podman's service where no engine answers; as root the supervisor does that."""
    expects_egress: bool = False
    """The supervisor runs an egress process too: wait for it rather than make DevBoxes without a network."""
    terminals: TerminalLimits = TerminalLimits()
    displays: DisplayLimits = DisplayLimits()
    builds: BuildLimits = BuildLimits()
    events: EventLimits = EventLimits()
    disk_check_s: Annotated[float, Field(gt=0)] = 60.0
    """How often what DevBoxes hold on disk is measured, where a tenant has a quota of it."""
    drain_s: Annotated[float, Field(ge=0)] = 10.0
    """How long work in flight may go on after a request to stop."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mode == "byom" and len(self.tenants) > 1:
            raise ValueError("In mode byom the worker serves the one tenant it is registered for: name that alone.")
        if self.allow_privileged and (self.mode != "byom" or self.security_floor is not Profile.OPEN):
            raise ValueError("allowPrivileged needs mode byom and the security floor open.")
        return self

    @property
    def rpc_socket(self) -> Path:
        """The socket that the gateway dials."""
        return self.data_dir / "rpc" / "executor.sock"
