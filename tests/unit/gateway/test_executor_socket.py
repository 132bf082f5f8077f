"""Executor socket: one that others could own is not used."""

from pathlib import Path

import pytest

from gateway.errors import ExecutorUntrusted
from gateway.executor_socket import ExecutorSocket


def test_a_socket_of_another_owner_or_open_to_all_is_refused(tmp_path: Path) -> None:
    """Directory and socket are looked at, and the refusal says what to do; an absent one is just away."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o750)
    path = directory / "executor.sock"
    ExecutorSocket(path, None).check()
    with pytest.raises(ExecutorUntrusted, match="uid"):
        ExecutorSocket(path, 4_000_000).check()
    directory.chmod(0o755)
    with pytest.raises(ExecutorUntrusted, match="chmod o-rwx"):
        ExecutorSocket(path, None).check()
    directory.chmod(0o750)
    path.write_text("not a socket")
    with pytest.raises(ExecutorUntrusted, match="should be a socket"):
        ExecutorSocket(path, None).check()
