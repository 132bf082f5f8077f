"""Executor client: every status has its refusal."""

import grpc
import pytest

from gateway.executor_client import EXECUTOR_AWAY, EXECUTOR_STOPPED, refusal_of
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
