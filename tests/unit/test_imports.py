"""Who may import whom: the split between the processes, held by a test (ARCHITECTURE.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
OURS = {"clustercode", "conformance", "console", "executor", "gateway", "protos"}
MAY = {
    "clustercode": {"clustercode", "conformance", "console", "executor", "gateway", "protos"},
    "conformance": {"conformance", "protos"},
    "console": {"console", "protos"},
    "executor": {"executor", "protos"},
    "gateway": {"gateway", "protos"},
    "protos": {"protos"},
}
ONLY_IN = {
    "aiodocker": {"executor/engine.py"},
    "grpc": {
        "executor/app.py",
        "executor/health.py",
        "executor/rpc.py",
        "executor/rpc_operator.py",
        "executor/rpc_audit.py",
        "gateway/executor_client.py",
        "clustercode/operator_client.py",
    },
    "grpc_health": {"executor/app.py", "executor/health.py"},
    "psutil": {"executor/egress_process.py", "executor/service.py", "gateway/health.py", "gateway/machine.py"},
}
PURE = {
    "executor/domains.py",
    "executor/egress_denials.py",
    "executor/egress_rules.py",
    "executor/egress_squid.py",
    "executor/engine_places.py",
    "executor/policy.py",
    "executor/requests.py",
    "executor/scrollback.py",
    "gateway/backoff.py",
    "gateway/session.py",
    "protos/errors.py",
    "protos/frames.py",
    "protos/limits.py",
    "protos/messages.py",
    "protos/wire.py",
}
NO_IO = {"asyncio", "socket", "subprocess", "threading", "time", "random", "os"}

FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in OURS
    for path in (ROOT / package).rglob("*.py")
    if "_pb2" not in path.name and "node_modules" not in path.parts
)


def _imports(file: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield f"{node.module}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES)
def test_a_module_imports_only_what_its_process_may(file: str) -> None:
    """Gateway and executor know only the contract; nobody imports the command line."""
    allowed = MAY[file.split("/", maxsplit=1)[0]]
    ours = {name for name in _imports(file) if name.split(".", maxsplit=1)[0] in OURS}

    assert {name for name in ours if name.split(".", maxsplit=1)[0] not in allowed} == set()


@pytest.mark.parametrize("file", FILES)
def test_a_library_is_imported_only_at_its_border(file: str) -> None:
    """Engine and gRPC errors are translated in one place each, so nothing else may know them."""
    found = {name.split(".", maxsplit=1)[0] for name in _imports(file)}

    assert {library for library in found & ONLY_IN.keys() if file not in ONLY_IN[library]} == set()


@pytest.mark.parametrize("file", FILES)
def test_the_executor_and_the_command_line_do_not_know_the_wire(file: str) -> None:
    """The executor knows nothing of WebSockets."""
    if file.startswith(("executor/", "clustercode/")):
        assert not any(name.startswith(("protos.wire", "protos.messages", "websockets")) for name in _imports(file))


@pytest.mark.parametrize("file", sorted(PURE))
def test_a_pure_module_does_no_io(file: str) -> None:
    """No sockets, no clock, no chance: what it decides can be tested as values."""
    assert {name.split(".", maxsplit=1)[0] for name in _imports(file)} & NO_IO == set()
