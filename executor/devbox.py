"""What a DevBox is: the names of its container and volumes, its labels, and how it is read from them.

A DevBox is a container ``clustercode-<id>`` and two volumes: ``clustercode-<id>-workspace`` mounted at
``/workspace``, and ``clustercode-<id>-state`` for what its background commands are (`executor.background`).
Everything else about it is read from the engine at each call.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from executor import oom_kills, readback
from executor.egress_files import is_address
from executor.policy import BoxOptions, Limits, Profile, box_options
from executor.watchlist import Sighting

PREFIX = "io.clustercode."
WORKSPACE = "/workspace"
STATE = "/var/lib/clustercode"


@dataclass(frozen=True)
class DevBox:
    """A DevBox as the engine has it now. ``state`` is one of created, running, paused, exited, removing, dead."""

    id: str
    name: str
    tenant: str
    image: str
    state: str
    profile: Profile
    privileged: bool
    display: bool
    created_at: str
    started_at: str
    exit_code: int | None
    labels: dict[str, str]
    spec: str
    promised: BoxOptions
    """What its profile promises, as far as that can be looked at."""
    missing_limits: tuple[str, ...] = ()
    """Limits that are promised and do not hold; the machine's owner accepted that."""
    has_state: bool = False
    """Whether it has the second volume; those of an earlier version have not."""
    pid: int = 0
    """Of its main process, in the engine's pid namespace; 0: it does not run."""
    egress: str = ""
    """Its address, by which the proxy knows it; empty: it has no way out, or the machine's own."""
    volumes: tuple[str, ...] = ()
    """Names of all its volumes, also of those that its image asks for."""
    oom_killed: bool = False
    """The engine says that its main process ended for want of memory."""

    @property
    def network(self) -> str:
        """What it reaches: "host" as the machine does, "allowlist" what its list names, "none"."""
        if self.profile is Profile.OPEN:
            return "host"
        return "allowlist" if self.egress else "none"

    @property
    def container(self) -> str:
        """Name of its container."""
        return container_name(self.id)


def container_name(devbox_id: str) -> str:
    """Return the name of a DevBox's container."""
    return f"clustercode-{devbox_id}"


def workspace_name(devbox_id: str) -> str:
    """Return the name of a DevBox's workspace volume."""
    return f"clustercode-{devbox_id}-workspace"


def volume_names(devbox_id: str) -> dict[str, str]:
    """Return all volumes of a DevBox, with the paths they are mounted at."""
    return {workspace_name(devbox_id): WORKSPACE, f"clustercode-{devbox_id}-state": STATE}


def devbox_id_of(container: str) -> str | None:
    """Return the id of the DevBox whose container has this name; None where it can be no DevBox's."""
    found = re.fullmatch(r"clustercode-([0-9a-f]{12})", container)
    return found and found[1]


def sighting(box: DevBox) -> Sighting:
    """Return what counts of a DevBox that was looked at."""
    running = box.state in ("running", "paused")
    return Sighting(
        devbox_id=box.id,
        tenant=box.tenant,
        running=running,
        started_at=box.started_at,
        exit_code=box.exit_code,
        oom_killed=box.oom_killed,
        oom_kills=oom_kills.count(box.pid) if running else None,
    )


def devbox_of(container: dict[str, Any], install: str) -> DevBox | None:
    """Read a DevBox from what the engine says of its container; None if it is not one of this installation.

    Raises `readback.Unreadable` where that came from a list and does not suffice.
    """
    labels = container["Config"].get("Labels") or {}
    if labels.get(f"{PREFIX}managed") != "true" or labels.get(f"{PREFIX}install") != install:
        return None
    # Containers inherit their image's labels, which anybody may have written; the name is the executor's alone.
    if container["Name"].removeprefix("/") != container_name(labels.get(f"{PREFIX}devbox", "")):
        return None
    state = container["State"]
    status = state["Status"]
    started = state.get("StartedAt") or ""
    profile = Profile[labels[f"{PREFIX}profile"].upper()]
    privileged = labels[f"{PREFIX}privileged"] == "true"
    # Those of an earlier version do not say: then the profile's own are meant.
    limits = Limits(*json.loads(labels.get(f"{PREFIX}limits") or "[null, null, null]"))
    promised = box_options(profile, asked=limits, privileged=privileged)
    return DevBox(
        id=labels[f"{PREFIX}devbox"],
        name=labels[f"{PREFIX}name"],
        tenant=labels[f"{PREFIX}tenant"],
        image=container["Config"]["Image"],
        # Podman's names for what Docker calls created, exited and so on differ in part.
        state={
            "configured": "created",
            "initialized": "created",
            "stopped": "exited",
            "stopping": "running",
        }.get(status, status),
        profile=profile,
        privileged=privileged,
        display=labels.get(f"{PREFIX}display") == "true",
        created_at=container["Created"],
        started_at="" if started.startswith("0001-") else started,
        exit_code=state["ExitCode"] if status in ("exited", "stopped", "dead") else None,
        labels=json.loads(labels.get(f"{PREFIX}labels") or "{}"),
        spec=labels[f"{PREFIX}spec"],
        promised=promised,
        missing_limits=readback.missing_limits(container, promised),
        has_state=any(mount.get("Destination") == STATE for mount in container.get("Mounts") or ()),
        egress=found if is_address(found := labels.get(f"{PREFIX}egress", "")) else "",
        pid=int(state.get("Pid") or 0),
        volumes=tuple(name for name, _ in _volumes(container)),
        oom_killed=bool(state.get("OOMKilled")),
    )


def image_volumes(container: dict[str, Any]) -> list[str]:
    """Return where a container has volumes that its image asked for."""
    return [path for _, path in _volumes(container) if path not in (WORKSPACE, STATE)]


def _volumes(container: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (name, path) of a container's volumes."""
    mounts = container.get("Mounts") or ()
    return [(mount["Name"], mount["Destination"]) for mount in mounts if mount.get("Type") == "volume"]
