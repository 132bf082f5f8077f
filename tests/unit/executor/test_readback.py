"""Read-back against a kernel as it would look: control groups v1, v2 and both, and each promise broken in turn."""

from pathlib import Path
from typing import Any

import pytest

from executor.policy import BoxOptions, Limits, Profile, box_options
from executor.readback import Unreadable, declared, effective, missing_limits

MIB = 1024**2
PROMISED = box_options(Profile.STRICT, asked=Limits(None, None, None))
STATUS = {
    "NSpid": "77\t1",
    "CapInh": "0000000000000000",
    "CapPrm": "0000000000000000",
    "CapEff": "0000000000000000",
    "CapBnd": "0000000000000000",
    "CapAmb": "0000000000000000",
    "NoNewPrivs": "1",
    "Seccomp": "2",
}
GROUPS = {
    1: {
        "memory": {"memory.limit_in_bytes": str(2048 * MIB)},
        "cpu,cpuacct": {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"},
        "pids": {"pids.max": "128"},
    },
    2: {"": {"memory.max": str(2048 * MIB), "cpu.max": "100000 100000", "pids.max": "128"}},
}
HOST = {"NetworkMode": "none", "ReadonlyRootfs": True, "Memory": 2048 * MIB, "NanoCpus": 10**9, "PidsLimit": 128}


class Kernel:
    """A process 77 in a tree of files, held as promised until something is changed."""

    def __init__(self, root: Path, version: int) -> None:
        self.root = root
        self.process = root / "proc/77"
        self.groups = {name: root / "sys/fs/cgroup" / name / "boxes/box-1" for name in GROUPS[version]}
        self.write("net/dev", "Inter-| x\n face | x\n    lo: 0 0\n")
        self.write("mountinfo", "1 0 0:1 / / ro,relatime - overlay x rw\n2 1 0:2 / /tmp rw - tmpfs x rw\n")
        self.write("cgroup", "\n".join(f"{n}:{name}:/boxes/box-1" for n, name in enumerate(GROUPS[version])))
        self.status()
        for name, files in GROUPS[version].items():
            self.groups[name].mkdir(parents=True)
            for file, value in files.items():
                (self.groups[name] / file).write_text(f"{value}\n")

    def write(self, file: str, text: str) -> None:
        (self.process / file).parent.mkdir(parents=True, exist_ok=True)
        (self.process / file).write_text(text)

    def status(self, **changes: str) -> None:
        self.write("status", "".join(f"{name}:\t{value}\n" for name, value in {**STATUS, **changes}.items()))

    def broken(self, promised: BoxOptions = PROMISED) -> list[str]:
        return [found.promise for found in effective(77, promised, self.root)]


@pytest.fixture(params=[1, 2])
def kernel(tmp_path: Path, request: pytest.FixtureRequest) -> Kernel:
    return Kernel(tmp_path, request.param)


def test_what_holds_is_found_to_hold(kernel: Kernel) -> None:
    """Whichever control groups the machine has."""
    assert kernel.broken() == []


@pytest.mark.parametrize(
    ("changes", "promise"),
    [
        *(({name: "0000000000000020"}, "capabilities") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")),
        ({"NoNewPrivs": "0"}, "no-new-privileges"),
        ({"Seccomp": "0"}, "seccomp"),
    ],
)
def test_a_weaker_privilege_is_found(kernel: Kernel, changes: dict[str, str], promise: str) -> None:
    """Any capability in any set, privileges that may be gained, no filter."""
    kernel.status(**changes)

    assert kernel.broken() == [promise]


@pytest.mark.parametrize(
    ("file", "weaker", "promise"),
    [
        ("memory.limit_in_bytes", "9223372036854771712", "memory"),
        ("memory.max", "max", "memory"),
        ("cpu.cfs_quota_us", "-1", "cpus"),
        ("cpu.cfs_quota_us", "200000", "cpus"),
        ("cpu.max", "max 100000", "cpus"),
        ("cpu.max", "150000 100000", "cpus"),
        ("pids.max", "max", "pids"),
        ("pids.max", "129", "pids"),
    ],
)
def test_a_weaker_limit_is_found(kernel: Kernel, file: str, weaker: str, promise: str) -> None:
    """Absent or larger; a tighter one of a group above makes up for it."""
    for group in kernel.groups.values():
        if (group / file).exists():
            (group / file).write_text(weaker)
            assert kernel.broken() == [promise]
            (group.parent / file).write_text("50000" if "quota" in file else "50000 100000" if "cpu" in file else "1")
            if "quota" in file:
                (group.parent / "cpu.cfs_period_us").write_text("100000")
            assert kernel.broken() == []


def test_a_missing_group_is_a_missing_limit(tmp_path: Path) -> None:
    """As with rootless Podman on version 1: no group of its own, no limits."""
    kernel = Kernel(tmp_path, 1)
    kernel.write("cgroup", "4:memory:/user\n3:cpu:/\n2:pids:/\n0::/")

    assert kernel.broken() == ["memory", "cpus", "pids"]


def test_a_network_or_a_writable_root_is_found(kernel: Kernel) -> None:
    """Any interface besides lo; the mount on / that is on top counts."""
    kernel.write("net/dev", "Inter-| x\n face | x\n    lo: 0 0\n  eth0: 0 0\n")
    kernel.write("mountinfo", "1 0 0:1 / / ro - x x ro\n9 1 0:1 / / rw,relatime - overlay x rw\n")

    assert kernel.broken() == ["network", "read-only root"]
    assert kernel.broken(box_options(Profile.OPEN, asked=Limits(None, None, None))) == []


@pytest.mark.parametrize("namespaces", ["77", "77\t3", ""])
def test_a_process_that_is_no_containers_first_is_not_believed(kernel: Kernel, namespaces: str) -> None:
    """An executor that does not see the engine's processes must not read those of others instead."""
    kernel.status(NSpid=namespaces)
    with pytest.raises(Unreadable):
        kernel.broken()


def test_what_the_engine_declares_is_compared_before_anything_runs() -> None:
    """Each value that it drops or loosens."""
    assert [found.promise for found in declared({"HostConfig": HOST}, PROMISED)] == []
    for changes, promise in (
        ({"Memory": 0}, "memory"),
        ({"NanoCpus": 0}, "cpus"),
        ({"NanoCpus": 0, "CpuQuota": 200_000, "CpuPeriod": 100_000}, "cpus"),
        ({"PidsLimit": 0}, "pids"),
        ({"PidsLimit": -1}, "pids"),
        ({"PidsLimit": None}, "pids"),
        ({"NetworkMode": "bridge"}, "network"),
        ({"NetworkMode": "default"}, "network"),
        ({"NetworkMode": "host"}, "network"),
        ({"ReadonlyRootfs": False}, "read-only root"),
        ({"Privileged": True}, "capabilities"),
    ):
        assert [found.promise for found in declared({"HostConfig": {**HOST, **changes}}, PROMISED)] == [promise]


def test_missing_limits_are_named_whether_it_runs_or_not(tmp_path: Path) -> None:
    """By the engine's word for one that is stopped, by the kernel's for one that runs."""
    kernel = Kernel(tmp_path, 1)
    kernel.write("cgroup", "4:memory:/boxes/box-1\n3:cpu,cpuacct:/boxes/box-1\n2:pids:/")

    def container(pid: int, **changes: object) -> dict[str, Any]:
        return {"HostConfig": {**HOST, **changes}, "State": {"Pid": pid}}

    assert missing_limits(container(0), PROMISED, tmp_path) == ()
    assert missing_limits(container(0, Memory=0), PROMISED, tmp_path) == ("memory",)
    assert missing_limits(container(77), PROMISED, tmp_path) == ("pids",)


def test_what_a_list_says_suffices_while_it_runs(tmp_path: Path) -> None:
    """Without the engine's word on limits the kernel's does; where there is no process, nothing is made up."""
    kernel = Kernel(tmp_path, 2)
    kernel.write("cgroup", "0::/boxes/box-1")

    assert missing_limits({"State": {"Pid": 77}}, PROMISED, tmp_path) == ()
    for pid in (0, 78):
        with pytest.raises(Unreadable):
            missing_limits({"State": {"Pid": pid}}, PROMISED, tmp_path)
