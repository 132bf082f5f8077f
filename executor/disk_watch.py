"""Measures what tenants' DevBoxes hold on disk, and stops the one that holds the most where that is too much.

No engine bounds it on every storage, so it is measured, now and then, and only where the owner set a quota.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable

from executor.audit import Audit
from executor.config import ExecutorConfig
from executor.devbox import DevBox
from executor.devboxes import DevBoxes
from executor.engine import Engine
from executor.quotas import check_disk
from executor.requests import StopDevBox
from executor.watchlist import Event
from protos.errors import Refusal, ResourceExhausted

log = logging.getLogger(__name__)

_STOP_S = 5


class DiskWatch:
    """What was measured last, by tenant. ``tell`` is called with each DevBox that had to be stopped."""

    def __init__(
        self, engine: Engine, devboxes: DevBoxes, config: ExecutorConfig, audit: Audit, tell: Callable[[Event], None]
    ) -> None:
        self._engine = engine
        self._devboxes = devboxes
        self._tenants = config.tenants
        self._pause_s = config.disk_check_s
        self._audit = audit
        self._tell = tell
        self._used: dict[str, int] = {}

    def check(self, tenant: str) -> None:
        """Raise `ResourceExhausted` where the tenant held too much when it was last measured."""
        check_disk(self._tenants[tenant].quotas.disk_bytes, self._used.get(tenant, 0))

    async def run(self) -> None:
        """Measure until cancelled; returns at once where nobody has a quota."""
        while any(policy.quotas.disk_bytes is not None for policy in self._tenants.values()):
            try:
                await self._measure()
            except Refusal as refusal:
                log.warning("what DevBoxes hold on disk cannot be measured: %s", refusal.message)
            await asyncio.sleep(self._pause_s)

    async def _measure(self) -> None:
        sizes = await self._engine.disk_usage()
        by_tenant: dict[str, list[tuple[int, DevBox]]] = defaultdict(list)
        for box in await self._devboxes.inspect_boxes():
            held = sum(sizes.get(name, 0) for name in (box.container, *box.volumes))
            by_tenant[box.tenant].append((held, box))
        self._used = {tenant: sum(held for held, _ in boxes) for tenant, boxes in by_tenant.items()}
        for tenant, boxes in by_tenant.items():
            try:
                self.check(tenant)
            except ResourceExhausted as refusal:
                # The others may go on: if one of them holds the most one day, it is its turn.
                _, largest = max(boxes, key=lambda pair: pair[0])
                if largest.state == "running":
                    await self._stop(largest, refusal.message)

    async def _stop(self, box: DevBox, why: str) -> None:
        verdict = "OK"
        try:
            await self._devboxes.stop(StopDevBox(tenant=box.tenant, devbox_id=box.id, timeout_s=_STOP_S))
            self._tell(Event(box.id, box.tenant, "over-quota", f"It was stopped. {why}"))
        except Refusal as refusal:
            verdict = refusal.code.value
            log.error("DevBox %s cannot be stopped: %s", box.id, refusal.message)  # noqa: TRY400 - a sentence
        self._audit.note(who="executor", tenant=box.tenant, rpc="StopDevBox", subject=box.id, verdict=verdict)
