"""The two containers beside a DevBox with an allowlist: one holds its network namespace, one is the way out of it.

==========  =====================================================================================================
holder      ``clustercode-<id>-net``: no network, and nothing in it but a program that waits. The DevBox and the
            sidecar are in its namespace, so that either can be restarted without losing the other
sidecar     ``clustercode-<id>-egress``: listens on the namespace's own loopback and hands bytes to the DevBox's
            bridge, a Unix socket that is mounted into it alone
==========  =====================================================================================================

Both run without capabilities, read-only, as nobody, bounded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from executor.egress_files import SOCKET
from executor.egress_image import LABEL, EgressImage
from executor.engine import Engine
from protos.errors import NotFound

PORT = 3128
"""Where the proxy is, in a DevBox's own namespace."""

_MIB = 1024**2
_IN_SIDECAR = "/egress"
_JOINS = "io.clustercode.joins"

Repair = Literal["nothing", "start", "rejoin"]


@dataclass(frozen=True)
class Part:
    """One of the containers of a DevBox as the engine has it. ``started_at``: seconds since 1970."""

    running: bool
    started_at: float
    joins: str = ""
    """Of a sidecar: the container whose namespace it is in."""


def holder_name(devbox_id: str) -> str:
    """Return the name of a DevBox's holder."""
    return f"clustercode-{devbox_id}-net"


def sidecar_name(devbox_id: str) -> str:
    """Return the name of a DevBox's sidecar."""
    return f"clustercode-{devbox_id}-egress"


def is_beside(name: str) -> bool:
    """Whether a container of this name is a holder or a sidecar, and no DevBox."""
    return re.fullmatch(r"clustercode-.+-(net|egress)", name) is not None


def repair(box: Part, holder: Part | None, sidecar: Part | None) -> Repair:
    """Return what gives a running DevBox its way out again. Pure.

    A holder that died took no namespace with it: the DevBox keeps that alive, and with it a sidecar that runs. One that
    was started again since has a new namespace, in which there is no DevBox.
    """
    held = holder is not None and holder.running and holder.started_at <= box.started_at
    if sidecar is not None and sidecar.running:
        if sidecar.joins:  # the DevBox itself
            return "nothing" if sidecar.started_at >= box.started_at else "rejoin"
        begun = min(box.started_at, sidecar.started_at)
        if holder is not None and holder.started_at <= begun:
            return "nothing"
    return "start" if held and sidecar is not None and not sidecar.joins else "rejoin"


class EgressContainers:
    """Makes, looks at and removes them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._image = EgressImage(engine)

    async def look(self, name: str) -> Part | None:
        """Return a container as it is, None if there is none."""
        try:
            found = await self._engine.inspect(name)
        except NotFound:
            return None
        labels = found["Config"].get("Labels") or {}
        return Part(found["State"]["Status"] == "running", _seconds(found["State"]), labels.get(_JOINS, ""))

    async def start_holder(self, name: str, hostname: str, labels: Mapping[str, str]) -> int:
        """Start a holder; returns its process id. One that is there is started again."""
        if await self.look(name) is None:
            # Reads from a pipe of its own, for ever.
            argv = ["/socat", "-u", "PIPE", "OPEN:/dev/null"]
            await self._create(name, argv, labels, network="none", pids=8, hostname=hostname)
        await self._engine.start(name)
        pid: int = (await self._engine.inspect(name))["State"]["Pid"]
        return pid

    async def start_sidecar(
        self, name: str, bridge: Path, labels: Mapping[str, str], *, joins: str, as_devbox: bool = False
    ) -> None:
        """Start a sidecar anew in the namespace of a container; ``as_devbox``: of the DevBox's own, not of a holder."""
        await self._engine.remove(name)
        argv = [
            "/socat", f"TCP-LISTEN:{PORT},bind=127.0.0.1,fork,reuseaddr,max-children=256",
            f"UNIX-CONNECT:{_IN_SIDECAR}/{SOCKET}",
        ]  # fmt: skip
        labels = {**labels, _JOINS: joins if as_devbox else ""}
        await self._create(name, argv, labels, network=f"container:{joins}", pids=300, bridge=bridge)
        await self._engine.start(name)

    async def remove(self, name: str) -> None:
        """Remove one. Safe to repeat."""
        await self._engine.remove(name)

    async def _create(
        self,
        name: str,
        argv: list[str],
        labels: Mapping[str, str],
        *,
        network: str,
        pids: int,
        hostname: str = "",
        bridge: Path | None = None,
    ) -> None:
        binds = [{"Type": "bind", "Source": str(bridge), "Target": _IN_SIDECAR, "ReadOnly": True}] if bridge else []
        config: dict[str, Any] = {
            "Image": await self._image.ensure(),
            "Entrypoint": argv,
            "Cmd": [],
            "User": "65534:65534",
            "Env": [],
            "StopTimeout": 0,
            "Labels": {**labels, **dict([LABEL.split("=", 1)])},
            "HostConfig": {
                "NetworkMode": network,
                "ReadonlyRootfs": True,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "PidsLimit": pids,
                "Memory": 64 * _MIB,
                "MemorySwap": 64 * _MIB,
                "Mounts": binds,
            },
        }
        if hostname:
            config["Hostname"] = hostname
        await self._engine.ask("POST", "containers/create", params={"name": name}, body=config, timeout_s=60.0)


def _seconds(state: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(state.get("StartedAt") or "").timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
