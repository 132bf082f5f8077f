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
    drain_s: Annotated[float, Field(ge=0)] = 10.0
    """How long work in flight may go on after a request to stop."""

    @property
    def rpc_socket(self) -> Path:
        """The socket that the gateway dials."""
        return self.data_dir / "rpc" / "executor.sock"
