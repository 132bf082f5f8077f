"""A terminal's connection: what goes wrong at one viewer stays with that viewer."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from executor.config import TerminalLimits
from executor.session_terminals import TerminalSessions
from executor.terminal import Terminal
from protos import executor_pb2 as pb
from protos.errors import Internal
from protos.message_stream import MessageStream


async def test_a_defect_at_a_viewer_ends_that_viewer_only(caplog: pytest.LogCaptureFixture) -> None:
    """What comes from the PTY then is not lost, and the next viewer is told all of it."""
    terminal = Terminal(session_id="s", tenant="t", devbox_id="d", limits=TerminalLimits())
    sessions = TerminalSessions(cast("Any", SimpleNamespace(sessions=None)))
    ours, theirs = socket.socketpair()
    stream: MessageStream[Any, Any] = MessageStream(pb.AttachTerminalRequest)
    peer: MessageStream[Any, Any] = MessageStream(pb.AttachTerminalResponse)
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: stream, sock=ours)
    await loop.create_unix_connection(lambda: peer, sock=theirs)
    viewer = terminal.attach(None, None)

    async def carried() -> None:
        with pytest.raises(Internal, match="Open it again"):
            await sessions.carry(viewer, stream)

    async with asyncio.TaskGroup() as group:
        group.create_task(carried())
        terminal.output(memoryview(b"before"))
        opened = await peer.read()
        assert (await peer.read()).output.data == b"before"
        viewer.sent = cast("int", None)  # the defect
        terminal.output(memoryview(b", behind"))
    stream.abort()
    await stream.finish()
    peer.abort()
    await peer.finish()

    assert opened.WhichOneof("message") == "opened"
    assert "session s" in caplog.text
    news = terminal.attach(None, None).news()
    assert news is not None
    assert getattr(news, "data", None) == b"before, behind"
