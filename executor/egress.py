"""The network of DevBoxes with an allowlist, from their side: lists, the containers beside them, and what is refused.

In this order, and none without the one before: the list's file, the bridge, the holder, the sidecar, the DevBox. What
is missing means no way out, never another one: the DevBox itself has a loopback and nothing else.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from executor.egress_containers import PORT, EgressContainers, Part, holder_name, repair, sidecar_name
from executor.egress_denials import Denials
from executor.egress_files import EgressFiles
from executor.egress_link import Denial, EgressLink
from executor.egress_rules import checked_names, is_name, names_in_force
from executor.engine import Engine
from executor.policy import Profile
from executor.watchlist import Event
from protos.errors import FailedPrecondition, Refusal, Unavailable

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 30.0
_AGAIN_S = 2.0
_READY_WITHIN_S = 20.0
_PROXY = f"http://127.0.0.1:{PORT}"
_NOT_PROXIED = "localhost,127.0.0.1,::1"

ENVIRONMENT: Mapping[str, str] = {
    **{name: _PROXY for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (upper, upper.lower())},
    "NO_PROXY": _NOT_PROXIED,
    "no_proxy": _NOT_PROXIED,
    "NODE_USE_ENV_PROXY": "1",  # Node's own fetch, from 20.20 and 22.17 on
}
"""What tells programs in a DevBox of the proxy."""

_WHY = {
    "number": "{host} is no name of a host: DevBoxes reach names that are on their list, never addresses.",
    "name": "{host} is not on the list of what this DevBox may reach: add it to its allowedDomains.",
    "port": "{host}: port {port} is never open; 443, 80 and 22 are.",
    "address": "{host} leads into a private network or to this machine, which no DevBox may reach.",
}


@dataclass(frozen=True)
class Wanted:
    """A DevBox with an allowlist: what is needed to make and to mend its way out."""

    devbox_id: str
    tenant: str
    address: str
    hostname: str
    labels: Mapping[str, str] = field(repr=False)


class Egress:
    """All lists and ways out of this worker. ``run`` mends what dies; ``tell`` takes the events of refusals."""

    def __init__(
        self, engine: Engine, data_dir: Path, *, tenant_names: Mapping[str, Iterable[str]], expected: bool
    ) -> None:
        self._containers = EgressContainers(engine)
        self.files = EgressFiles(data_dir)
        self.files.make()
        self._link = EgressLink(self.files.control, self._on_denial)
        self._tenant_names = {tenant: tuple(names) for tenant, names in tenant_names.items()}
        self._expected = expected
        self._known: dict[str, Wanted] = {}
        self._denials = Denials()
        self._to_mend: set[str] = set()
        # Seen with its DevBox: if that is gone, so must be what stands beside it.
        self._whole: set[str] = set()
        self._changed = asyncio.Event()
        self._locks: dict[str, asyncio.Lock] = {}
        self.tell: Callable[[Event], None] = lambda _: None

    @property
    def reason(self) -> str:
        """Why DevBoxes have no way out now; empty: they have."""
        return self._link.reason

    def names(self, profile: Profile, tenant: str, own: Iterable[str]) -> tuple[str, ...]:
        """Return all that a DevBox may reach; raises `InvalidArgument` for what is no name."""
        return names_in_force(profile, self._tenant_names.get(tenant, ()), checked_names(own))

    async def ready(self) -> None:
        """Wait until there is a way out, where one is expected; not for ever."""
        if self._expected:
            await self._link.ready(_READY_WITHIN_S)

    def is_usable(self, names: tuple[str, ...], *, asked_for: bool) -> bool:
        """Say whether a DevBox with this list gets a way out.

        Where the worker has none, a list that was ``asked_for`` is refused, with `FailedPrecondition`, rather than
        ignored.
        """
        if not names:
            return False
        if self._link.reason and asked_for:
            raise FailedPrecondition(f"This worker cannot let DevBoxes reach anything now: {self._link.reason}")
        return not self._link.reason

    async def open(
        self, devbox_id: str, tenant: str, hostname: str, names: Iterable[str], own: Iterable[str], install: str
    ) -> Wanted:
        """Make a DevBox's way out, before the DevBox; raises `Refusal`, and then `close` takes away what is there."""
        address = self.files.new_address()
        box = self._wanted(devbox_id, tenant, address, hostname, install)
        self._known[address] = box
        self.files.write_own(devbox_id, checked_names(own))
        self.files.write_policy(address, names)
        await self._link.ask("open", address)
        await self._containers.start_holder(holder_name(devbox_id), hostname, box.labels)
        await self._start_sidecar(box)
        return box

    async def open_build(self, name: str, tenant: str, holder: str, install: str) -> Mapping[str, str]:
        """Make the way out of an image's build, which reaches what a standard DevBox of its tenant does.

        It is in the namespace of the build's ``holder``. Returns what tells its steps of it; empty where there is none.
        """
        if self._link.reason:
            return {}
        address = self.files.new_address()
        build = self._wanted(_build_id(name), tenant, address, "", install)
        self._known[address] = build
        self.files.write_policy(address, self.names(Profile.STANDARD, tenant, ()))
        await self._link.ask("open", address)
        bridge = self.files.bridge(address)
        await self._containers.start_sidecar(sidecar_name(build.devbox_id), bridge, build.labels, joins=holder)
        return ENVIRONMENT

    async def close_build(self, name: str) -> None:
        """Take a build's way out away, before its holder. Safe to repeat."""
        build_id = _build_id(name)
        address = next((build.address for build in self._known.values() if build.devbox_id == build_id), "")
        await self.close(build_id, address)

    async def prepare_start(self, box: Wanted) -> None:
        """Have holder and sidecar in order before a DevBox that was stopped is started."""
        async with self._lock(box.devbox_id):
            holder = await self._containers.look(holder_name(box.devbox_id))
            sidecar = await self._containers.look(sidecar_name(box.devbox_id))
            if holder is None or not holder.running:
                await self._containers.start_holder(holder_name(box.devbox_id), box.hostname, box.labels)
                sidecar = None
            if sidecar is None or not sidecar.running or sidecar.joins:
                await self._start_sidecar(box)

    @asynccontextmanager
    async def leaving(self, devbox_id: str) -> AsyncIterator[None]:
        """Let the DevBox be removed while the block runs: the sidecar goes before it, the rest after it.

        The sidecar may be in the DevBox's own namespace, and engines remove no container that another depends on. If
        the block fails, the way out is mended.
        """
        known = next((box for box in self._known.values() if box.devbox_id == devbox_id), None)
        if known is not None:
            del self._known[known.address]
        try:
            async with self._lock(devbox_id):
                await self._containers.remove(sidecar_name(devbox_id))
            yield
            await self.close(devbox_id, known.address if known else "")
        except Refusal:
            if known is not None:
                self._known[known.address] = known
                self._to_mend.add(devbox_id)
                self._changed.set()
            raise

    async def close(self, devbox_id: str, address: str) -> None:
        """Take away what is beside a DevBox that is gone. Safe to repeat."""
        self._known.pop(address, None)
        await self._containers.remove(sidecar_name(devbox_id))
        await self._containers.remove(holder_name(devbox_id))
        await self._let_go(address)
        self.files.forget(devbox_id, address)
        self._locks.pop(devbox_id, None)
        self._whole.discard(devbox_id)

    async def allow(self, box: Wanted, profile: Profile, own: Iterable[str], *, cut: bool) -> tuple[str, ...]:
        """Change what a DevBox is given itself; returns all it may reach from now on.

        New connections follow within two seconds. Those that are open go on unless ``cut`` ends them, all of them.
        """
        own = checked_names(own)
        names = self.names(profile, box.tenant, own)
        self.files.write_own(box.devbox_id, own)
        self.files.write_policy(box.address, names)
        if cut:
            await self._link.ask("cut", box.address)
        return names

    def wanted(self, devbox_id: str, tenant: str, address: str, hostname: str, install: str) -> Wanted:
        """Return the same DevBox's way out as it was made, from what its labels say."""
        return self._wanted(devbox_id, tenant, address, hostname, install)

    async def adopt(self, boxes: Iterable[tuple[Wanted, Profile]], devbox_ids: set[str], beside: list[str]) -> None:
        """Take over what an earlier executor left; what tenants may reach is as this one's configuration says.

        ``beside`` are the containers that stand beside DevBoxes; those whose DevBox is gone are removed.
        """
        for box, profile in boxes:
            self._known[box.address] = box
            self._to_mend.add(box.devbox_id)
            self._whole.add(box.devbox_id)
            own = self.files.read_own(box.devbox_id)
            names = names_in_force(profile, self._tenant_names.get(box.tenant, ()), own)
            if self.files.read_policy(box.address) != names:
                self.files.write_policy(box.address, names)
        alive = devbox_ids | {box.devbox_id for box in self._known.values()}
        orphans = {name.removeprefix("clustercode-").rpartition("-")[0] for name in beside} - alive
        for devbox_id in orphans:
            log.warning("%s is gone: what stood beside it is removed", devbox_id)
            await self.close(devbox_id, "")
        for address in self.files.keep_only(devbox_ids, set(self._known)):
            await self._let_go(address)
        self._changed.set()

    def died(self, container: str) -> None:
        """Note that a container of ours ended: if it stood beside a DevBox, it is looked at at once."""
        for box in self._known.values():
            if container in (sidecar_name(box.devbox_id), holder_name(box.devbox_id)):
                self._to_mend.add(box.devbox_id)
                self._changed.set()

    async def run(self) -> None:
        """Keep the line to the egress process, and mend what dies, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.run(), name="egress-link")
            group.create_task(self._keep_mending(), name="egress-mend")

    # --- within -------------------------------------------------------------------------------------------------

    def _wanted(self, devbox_id: str, tenant: str, address: str, hostname: str, install: str) -> Wanted:
        labels = {"io.clustercode.install": install, "io.clustercode.beside": devbox_id}
        return Wanted(devbox_id, tenant, address, hostname, labels)

    def _lock(self, devbox_id: str) -> asyncio.Lock:
        return self._locks.setdefault(devbox_id, asyncio.Lock())

    async def _start_sidecar(self, box: Wanted, *, in_devbox: str = "") -> None:
        await self._containers.start_sidecar(
            sidecar_name(box.devbox_id),
            self.files.bridge(box.address),
            box.labels,
            joins=in_devbox or holder_name(box.devbox_id),
            as_devbox=bool(in_devbox),
        )

    async def _let_go(self, address: str) -> None:
        if address:
            with suppress(Unavailable):  # it finds no list any more, and starts without this bridge next time
                await self._link.ask("close", address)

    async def _keep_mending(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK_AGAIN_S)
            self._changed.clear()
            due = self._to_mend or {box.devbox_id for box in self._known.values()}
            self._to_mend = set()
            for box in [box for box in self._known.values() if box.devbox_id in due]:
                try:
                    await self._mend(box)
                except Refusal as refusal:
                    log.warning("the way out of DevBox %s is not mended yet: %s", box.devbox_id, refusal.message)
                    self._to_mend.add(box.devbox_id)
            if self._to_mend:
                self._changed.set()
                await asyncio.sleep(_AGAIN_S)

    async def _mend(self, wanted: Wanted) -> None:
        devbox_id = wanted.devbox_id
        async with self._lock(devbox_id):
            container = f"clustercode-{devbox_id}"
            box = await self._containers.look(container)
            if self._known.get(wanted.address) is not wanted:
                return
            if box is None and devbox_id in self._whole:
                await self.close(devbox_id, wanted.address)
            if box is None:
                return
            self._whole.add(devbox_id)
            if not box.running:
                return
            holder: Part | None = await self._containers.look(holder_name(devbox_id))
            sidecar: Part | None = await self._containers.look(sidecar_name(devbox_id))
            match repair(box, holder, sidecar):
                case "start":
                    await self._start_sidecar(wanted)
                case "rejoin":
                    await self._start_sidecar(wanted, in_devbox=container)
                case "nothing":
                    return
            log.info("the way out of DevBox %s is open again", devbox_id)

    def _on_denial(self, denial: Denial) -> None:
        box = self._known.get(denial.address)
        host = "".join(character if character.isprintable() else "?" for character in denial.host.lower())
        if box is None or not self._denials.is_news(box.devbox_id, host, asyncio.get_running_loop().time()):
            return
        why = "number" if denial.why == "name" and not is_name(host) else denial.why
        detail = _WHY[why].format(host=host, port=denial.port)
        self.tell(Event(box.devbox_id, box.tenant, "egress-denied", detail, host))


def _build_id(name: str) -> str:
    """Return what stands for a DevBox's id, so that names beside it are made in the same way."""
    return name.removeprefix("clustercode-")
