"""Which requests are under way, so that a ``cancel`` finds the tenant it acts for. No I/O."""

from collections.abc import Iterator
from contextlib import contextmanager


class InFlight:
    """Ids under way, with their tenants. One id may be under way more than once: a repeat joins its first."""

    def __init__(self) -> None:
        self._tenants: dict[str, list[str]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def track(self, request_id: str | None, tenant_id: str | None) -> Iterator[None]:
        """Count a request while the block runs; one without an id or a tenant cannot be cancelled."""
        self._count += 1
        if request_id is None or tenant_id is None:
            try:
                yield
            finally:
                self._count -= 1
            return
        tenants = self._tenants.setdefault(request_id, [])
        tenants.append(tenant_id)
        try:
            yield
        finally:
            self._count -= 1
            tenants.remove(tenant_id)
            if not tenants and self._tenants.get(request_id) is tenants:
                del self._tenants[request_id]

    def tenants(self, request_id: str) -> frozenset[str]:
        """Return the tenants for whom this id is under way."""
        return frozenset(self._tenants.get(request_id, ()))
