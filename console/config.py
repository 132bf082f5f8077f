"""The console's configuration, read once by the command line and passed down."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_PORT = 7070
TENANT = "local"
"""The one tenant that the console serves."""


class ConsoleConfig(BaseModel):
    """How to run a console. It listens on 127.0.0.1 only; there is no option to change that."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path
    """Holds ``worker-token``; created 0700 if it is not there."""

    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    """0 takes any free port."""

    dialect: Literal["full", "plain"] = "full"
    """``plain`` speaks like an orchestrator that knows nothing of acks and binary frames, for tests."""

    default_image: str = "localhost/devbox:latest"
    """What the page suggests for a new DevBox."""

    program: str = "clustercode"
    """What starts this program in a shell here, for the command that starts a worker."""

    reconnect_grace_s: float = Field(default=60, gt=0)
    """How long a command in flight waits for a worker that lost its connection."""
