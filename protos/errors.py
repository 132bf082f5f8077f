"""The one set of errors that callers see, on the WebSocket and on gRPC alike.

A `Refusal` carries a stable code (the name of the gRPC status) and a sentence that says what to do. It never
carries a secret, a traceback or a path of ours::

    Refusal
    ├── InvalidArgument      the request itself is wrong
    ├── NotFound             absent, or another tenant's: the answer is the same
    ├── AlreadyExists        the name is taken
    ├── PermissionDenied     the owner of the machine does not allow it
    ├── FailedPrecondition   not in this state
    ├── ResourceExhausted    a bound is reached
    ├── Unavailable          the executor or its engine does not answer
    ├── DeadlineExceeded     it took too long and was stopped
    ├── Cancelled            it was stopped on request
    ├── Unimplemented        not in this version
    └── Internal             a defect of ours
"""

from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """Stable error codes: names of gRPC status codes."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"


class Refusal(Exception):
    """Something asked for is not done; ``message`` says why and what to do, ``details`` holds figures."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(self, message: str, **details: int | str | list[str]) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidArgument(Refusal):
    """The request itself is wrong, whatever the state of things."""

    code = ErrorCode.INVALID_ARGUMENT


class NotFound(Refusal):
    """There is no such thing, or it belongs to another tenant."""

    code = ErrorCode.NOT_FOUND


class AlreadyExists(Refusal):
    """The name is taken by something else."""

    code = ErrorCode.ALREADY_EXISTS


class PermissionDenied(Refusal):
    """The owner of the machine does not allow it."""

    code = ErrorCode.PERMISSION_DENIED


class FailedPrecondition(Refusal):
    """It cannot be done in the present state; the message says which state it takes."""

    code = ErrorCode.FAILED_PRECONDITION


class ResourceExhausted(Refusal):
    """A bound is reached; nothing of the request was taken."""

    code = ErrorCode.RESOURCE_EXHAUSTED


class Unavailable(Refusal):
    """The executor or the engine does not answer; trying again later makes sense."""

    code = ErrorCode.UNAVAILABLE


class DeadlineExceeded(Refusal):
    """It took too long and was stopped."""

    code = ErrorCode.DEADLINE_EXCEEDED


class Cancelled(Refusal):
    """It was stopped on request."""

    code = ErrorCode.CANCELLED


class Unimplemented(Refusal):
    """Not in this version."""

    code = ErrorCode.UNIMPLEMENTED


class Internal(Refusal):
    """A defect of ours, logged where it happened."""


REFUSAL_METADATA = "clustercode-refusal"
"""Trailing metadata of an RPC that the executor itself refused; without it, gRPC or a defect speaks."""

REFUSALS: dict[ErrorCode, type[Refusal]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        FailedPrecondition,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
        Unimplemented,
        Internal,
    )
}
"""From a code to its class, for whoever receives one over a border."""
