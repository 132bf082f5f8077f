"""Configuration of the executor: read once by the command line, then passed down."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from executor.policy import Profile
from protos import limits


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
    """How long an ended session waits for its viewer to fetch the last output and the exit code."""
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


class ExecutorConfig(BaseModel):
    """Everything the executor is told from outside. No message can change any of it."""

    model_config = ConfigDict(frozen=True)

    data_dir: Path
    """The one directory of the host that the executor uses; it is created 0700."""
    tenants: Annotated[tuple[Annotated[str, StringConstraints(pattern=limits.ID_PATTERN)], ...], Field(min_length=1)]
    """Whom this worker serves: in BYOM mode exactly the registered tenant."""
    security_floor: Profile = Profile.STANDARD
    """The least restrictive profile that this machine's owner allows."""
    runtime: Literal["podman", "docker"] | None = None
    """Engine to use; none: Podman, or whatever ``DOCKER_HOST`` names."""
    engine_socket: Path | None = None
    """The engine's socket; none: look where engines put theirs, or start Podman's service."""
    podman_path: str = "podman"
    starts_engine: bool = True
    """Start Podman's service where no engine answers; as root the supervisor does that."""
    terminals: TerminalLimits = TerminalLimits()
    displays: DisplayLimits = DisplayLimits()
    builds: BuildLimits = BuildLimits()
    events: EventLimits = EventLimits()
    drain_s: Annotated[float, Field(ge=0)] = 10.0
    """How long work in flight may go on after a request to stop."""

    @property
    def rpc_socket(self) -> Path:
        """The socket that the gateway dials."""
        return self.data_dir / "rpc" / "executor.sock"
