"""The executor's configuration: what the machine's owner grants, and what contradicts itself."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from executor.config import ExecutorConfig, Quotas, TenantPolicy
from executor.policy import Profile


def config(**changes: Any) -> ExecutorConfig:  # noqa: ANN401 - any field
    return ExecutorConfig.model_validate({"data_dir": Path("/data"), "tenants": ["t1"]} | changes)


def test_a_tenant_named_alone_is_granted_nothing_besides_its_profile() -> None:
    """A list of ids, and an id without a policy, mean the same."""
    assert config().tenants == config(tenants={"t1": None}).tenants == {"t1": TenantPolicy()}


def test_a_policy_reads_as_a_file_writes_it() -> None:
    """Names are camelCase in files; domains and paths are kept in one form."""
    policy = config(
        tenants={
            "t1": {
                "allowedDomains": ["*.Example.com"],
                "writablePaths": ["/opt//cache/"],
                "quotas": {"devboxes": 3, "memoryBytes": 4096, "diskBytes": 1},
            }
        }
    ).tenants["t1"]

    assert policy.allowed_domains == (".example.com",)
    assert policy.writable_paths == ("/opt/cache",)
    assert policy.quotas == Quotas(devboxes=3, memory_bytes=4096, disk_bytes=1)
    assert policy.quotas.cpus is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenants": {}},
        {"tenants": {"a b": None}},
        {"tenants": {"t1": {"allowedDomains": ["10.0.0.1"]}}},
        {"tenants": {"t1": {"writablePaths": ["/etc/x"]}}},
        {"tenants": {"t1": {"quotas": {"devboxes": -1}}}},
        {"tenants": {"t1": {"quota": {}}}},
        {"tenants": ["t1", "t2"]},  # byom: the registered one alone
        {"accepted_missing_limits": ["disk"]},
        {"allow_privileged": True},  # the floor is standard
        {"allow_privileged": True, "security_floor": Profile.OPEN, "mode": "fleet"},
        {"unknown": 1},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    """Unknown names, values out of bounds, and switches that contradict the mode or the floor."""
    with pytest.raises(ValidationError):
        config(**wrong)


def test_a_fleet_worker_serves_several_tenants() -> None:
    """And privileged DevBoxes are for one's own machine, where the owner lowered the floor."""
    assert list(config(mode="fleet", tenants=["t1", "t2"]).tenants) == ["t1", "t2"]
    assert config(allow_privileged=True, security_floor=Profile.OPEN).allow_privileged
