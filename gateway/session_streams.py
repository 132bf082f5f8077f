"""The way to a terminal or a display: a connection to the executor for each, beside the calls of `executor_client`."""

import asyncio
import errno
from typing import Generic, TypeVar

from gateway.executor_client import EXECUTOR_AWAY
from gateway.executor_socket import ExecutorSocket
from protos import executor_pb2 as pb
from protos.errors import REFUSALS, ErrorCode, Internal, Refusal, ResourceExhausted, Unavailable
from protos.message_stream import MessageStream

_Request = TypeVar("_Request", bound=pb.AttachTerminalRequest | pb.AttachDisplayRequest)
_Response = TypeVar("_Response", bound=pb.AttachTerminalResponse | pb.AttachDisplayResponse)


class SessionStream(MessageStream[_Response, _Request], Generic[_Request, _Response]):
    """The connection of one session. Has no deadline: it lasts as long as someone looks at it."""

    def __init__(self, kind: type[_Response], socket: ExecutorSocket) -> None:
        super().__init__(kind)
        self._socket = socket

    async def connect(self) -> None:
        """Connect, once; raises `ExecutorUntrusted` where another might listen, and what `_refusal_to_connect` says."""
        self._socket.check()
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, str(self._socket.path))
        except OSError as error:
            raise _refusal_to_connect(error) from None


TerminalStream = SessionStream[pb.AttachTerminalRequest, pb.AttachTerminalResponse]
DisplayStream = SessionStream[pb.AttachDisplayRequest, pb.AttachDisplayResponse]


class SessionStreams:
    """Where they go to; keeps no state."""

    def __init__(self, executor: ExecutorSocket) -> None:
        self._terminals = executor.beside("terminals.sock")
        self._displays = executor.beside("displays.sock")

    def terminal(self) -> TerminalStream:
        """Return a connection for one terminal, not connected yet; the first message must be ``open``."""
        return SessionStream(pb.AttachTerminalResponse, self._terminals)

    def display(self) -> DisplayStream:
        """Return a connection for one viewer of a display, as `terminal` does."""
        return SessionStream(pb.AttachDisplayResponse, self._displays)


def refusal_of(refused: pb.SessionRefused) -> Refusal:
    """Return what the executor refused as it means it."""
    if refused.code not in ErrorCode.__members__ or not refused.message:
        return Internal("The executor failed at this; its log on the machine says why.")
    return REFUSALS[ErrorCode(refused.code)](refused.message)


def _refusal_to_connect(error: OSError) -> Refusal:
    """Return what keeps us from the executor, for those who can mend it."""
    match error.errno:
        case errno.ENOENT | errno.ECONNREFUSED:
            return Unavailable(EXECUTOR_AWAY)
        case errno.EMFILE | errno.ENFILE:
            return ResourceExhausted(
                "The worker has as many files and connections open as it may on this machine: close terminals or "
                "displays, or raise its limit on open files."
            )
        case errno.EACCES | errno.EPERM:
            return Unavailable(
                "The gateway's user may not connect to the executor: it must be in the group of the executor's sockets "
                "and of the directory that they are in."
            )
        case _:
            return Unavailable(f"The executor cannot be connected to ({error.strerror or error}): try again.")
