"""Executor client: every status has its refusal, and a socket that others could own is not used."""

from pathlib import Path

import grpc
import pytest

from gateway.errors import ExecutorUntrusted
from gateway.executor_client import EXECUTOR_AWAY, EXECUTOR_STOPPED, ExecutorClient, refusal_of
from protos.errors import ErrorCode


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_of_ours_comes_back_with_its_message(code: ErrorCode) -> None:
    """What the executor refuses reaches the caller with its code and its sentence."""
    refusal = refusal_of(grpc.StatusCode[code.name], "Do this instead.", ours=True, begun=True)

    assert (refusal.code, refusal.message) == (code, "Do this instead.")


@pytest.mark.parametrize("code", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.ABORTED])
def test_codes_that_are_not_ours_tell_nothing_of_the_inside(code: grpc.StatusCode) -> None:
    """A defect of the executor shows neither a type nor a message of Python's."""
    refusal = refusal_of(code, "Unexpected <class 'ZeroDivisionError'>", ours=False, begun=True)

    assert refusal.code is ErrorCode.INTERNAL
    assert "ZeroDivision" not in refusal.message


def test_an_absent_executor_is_told_from_one_that_refuses() -> None:
    """The engine's absence is the executor's to tell; its own absence is ours."""
    code = grpc.StatusCode.UNAVAILABLE

    assert refusal_of(code, "failed to connect", ours=False, begun=False).message == EXECUTOR_AWAY
    assert refusal_of(code, "Socket closed", ours=False, begun=True).message == EXECUTOR_STOPPED
    assert refusal_of(code, "Podman is away.", ours=True, begun=True).message == "Podman is away."


def test_a_socket_of_another_owner_or_open_to_all_is_refused(tmp_path: Path) -> None:
    """Directory and socket are looked at, and the refusal says what to do; an absent one is just away."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o750)
    path = directory / "executor.sock"
    ExecutorClient(path, None).check_socket()
    with pytest.raises(ExecutorUntrusted, match="uid"):
        ExecutorClient(path, 4_000_000).check_socket()
    directory.chmod(0o755)
    with pytest.raises(ExecutorUntrusted, match="chmod o-rwx"):
        ExecutorClient(path, None).check_socket()
    directory.chmod(0o750)
    path.write_text("not a socket")
    with pytest.raises(ExecutorUntrusted, match="should be a socket"):
        ExecutorClient(path, None).check_socket()
