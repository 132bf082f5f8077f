"""Session streams: what keeps the gateway from the executor is said as it is."""

import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from gateway.executor_client import EXECUTOR_AWAY
from gateway.executor_socket import ExecutorSocket
from gateway.session_streams import SessionStreams
from protos.errors import Refusal, ResourceExhausted, Unavailable

NOBODY = 65534


def absent(path: Path) -> None:
    pass


def left_behind(path: Path) -> None:
    """By an executor that has ended."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    path.chmod(0o660)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def another_user() -> Iterator[None]:
    """Root may connect to anything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("place", "circumstances", "kind", "sentence"),
    [
        (absent, nullcontext, Unavailable, EXECUTOR_AWAY),
        (left_behind, nullcontext, Unavailable, EXECUTOR_AWAY),
        (left_behind, no_descriptor_left, ResourceExhausted, "limit on open files"),
        (left_behind, another_user, Unavailable, "must be in the group"),
    ],
)
async def test_why_there_is_no_connection(
    tmp_path: Path,
    place: Callable[[Path], None],
    circumstances: Callable[[], "nullcontext[None]"],
    kind: type[Refusal],
    sentence: str,
) -> None:
    """Only an executor that is not there is called away."""
    directory = tmp_path / "rpc"
    directory.mkdir(mode=0o750)
    place(directory / "terminals.sock")
    if circumstances is another_user:
        directory.chmod(0)
    stream = SessionStreams(ExecutorSocket(directory / "executor.sock", None)).terminal()
    with circumstances(), pytest.raises(kind) as refused:
        await stream.connect()
    directory.chmod(0o750)

    assert sentence in refused.value.message
