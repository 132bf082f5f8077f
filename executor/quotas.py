"""What one tenant may have at a time, by the owner's word (``tenants.<id>.quotas``). Pure.

Each raises `ResourceExhausted` with the quota in the sentence; a quota of None bounds nothing.
"""

from collections.abc import Iterable, Sequence

from executor.config import Quotas
from executor.policy import Limits
from protos.errors import ResourceExhausted

_GB = 1024**3


def check_count(what: str, quota: int | None, have: int) -> None:
    """Refuse one more of something where there are as many as may be."""
    if quota is not None and have >= quota:
        raise ResourceExhausted(
            f"This tenant may have {quota} {what} at a time on this worker: end one first, or have the machine's owner "
            "raise the quota."
        )


def check_running(quotas: Quotas, running: Iterable[Limits], new: Limits) -> None:
    """Refuse to run a DevBox with these limits beside the tenant's others that run."""
    all_of_them = [*running, new]
    _check_sum("memory", "memoryBytes", quotas.memory_bytes, [box.memory_bytes for box in all_of_them], _GB, " GB")
    _check_sum("processors", "cpus", quotas.cpus, [box.cpus for box in all_of_them], 1, "")


def check_disk(quota: int | None, used: int) -> None:
    """Refuse new work of a tenant whose DevBoxes hold more on disk than they may."""
    if quota is not None and used > quota:
        raise ResourceExhausted(
            f"This tenant's DevBoxes hold {used / _GB:.2f} GB on this worker's disk and may hold {quota / _GB:.2f} GB: "
            "remove a DevBox, or have the machine's owner raise the quota."
        )


def _check_sum(
    what: str, field: str, quota: float | None, parts: Sequence[float | None], unit: float, suffix: str
) -> None:
    if quota is None:
        return
    if parts[-1] is None:
        raise ResourceExhausted(
            f"This tenant's {what} are bounded on this worker, and this DevBox would have no bound: give it "
            f"resources.{field}."
        )
    # One that was made before there was a quota may have no bound: then it has all there is.
    total = sum(quota if part is None else part for part in parts)
    if total > quota:
        raise ResourceExhausted(
            f"This tenant's running DevBoxes may have {quota / unit:g}{suffix} of {what} together on this worker, and "
            f"with this one it would be {total / unit:g}{suffix}: stop one, ask for less by resources.{field}, or have "
            "the machine's owner raise the quota."
        )
