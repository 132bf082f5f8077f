"""Asks the executor that runs on this machine, over the socket that only its user may reach."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import grpc

from clustercode.errors import Unusable
from protos import executor_pb2 as pb
from protos.errors import REFUSAL_METADATA
from protos.executor_pb2_grpc import OperatorServiceStub

_TIMEOUT_S = 10.0
_ACT_TIMEOUT_S = 330.0
"""A removal may delete many gigabytes."""

_Answer = TypeVar("_Answer")


class NotRunning(Unusable):
    """No executor answers there."""


class Operator:
    """One connection to the executor of a data directory. Raises `Unusable` with what to do."""

    def __init__(self, data_dir: Path) -> None:
        self._socket = data_dir / "operator" / "rpc.sock"
        self._stub = OperatorServiceStub(grpc.insecure_channel(f"unix:{self._socket}"))

    def show(self) -> pb.ShowWorkerResponse:
        """Return how the worker is."""
        return self._asked(lambda: self._stub.ShowWorker(pb.ShowWorkerRequest(), timeout=_TIMEOUT_S))

    def devboxes(self) -> Sequence[pb.DevBox]:
        """Return all DevBoxes, oldest first."""
        return self._asked(
            lambda: self._stub.ListAllDevBoxes(pb.ListAllDevBoxesRequest(), timeout=_ACT_TIMEOUT_S)
        ).devboxes

    def stop(self, devbox_id: str) -> pb.DevBox:
        """Stop a DevBox."""
        request = pb.StopAnyDevBoxRequest(devbox_id=devbox_id)
        return self._asked(lambda: self._stub.StopAnyDevBox(request, timeout=_ACT_TIMEOUT_S)).devbox

    def remove(self, devbox_id: str, *, keep_volumes: bool) -> pb.DevBox:
        """Remove a DevBox."""
        request = pb.RemoveAnyDevBoxRequest(devbox_id=devbox_id, keep_volumes=keep_volumes)
        return self._asked(lambda: self._stub.RemoveAnyDevBox(request, timeout=_ACT_TIMEOUT_S)).devbox

    def _asked(self, call: Callable[[], _Answer]) -> _Answer:
        try:
            self._socket.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise NotRunning(self._away()) from None
        except PermissionError:
            raise Unusable(
                f"{self._socket.parent} is for the executor's user alone: become that user, or root."
            ) from None
        try:
            return call()
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if any(entry.key == REFUSAL_METADATA for entry in error.trailing_metadata() or ()):
                raise Unusable(details) from None
            if code is grpc.StatusCode.UNAVAILABLE:
                raise NotRunning(self._away()) from None
            raise Unusable(f"The executor did not answer ({code.name}): its log says more.") from None

    def _away(self) -> str:
        data_dir = self._socket.parent.parent
        return (
            f"No worker runs here with the data directory {data_dir}: start it ('clustercode worker'), or name another "
            "directory with --data-dir."
        )
