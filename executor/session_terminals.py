"""Terminals on their socket: unpack, call, pack; and the two directions of one viewer's connection."""

import asyncio
import logging
from functools import partial

from executor import requests
from executor.rpc import Parts, checked
from executor.session_sockets import SessionKind
from executor.terminal import Detached, Exited, InputAck, Output, Refused, Viewer
from protos import executor_pb2 as pb
from protos.errors import Internal, InvalidArgument, Refusal
from protos.message_stream import MessageStream

log = logging.getLogger(__name__)

_FAREWELL_S = 60.0
"""How long a viewer that was told the last there is may take to end the connection."""

_Stream = MessageStream[pb.AttachTerminalRequest, pb.AttachTerminalResponse]


class TerminalSessions(SessionKind[requests.OpenTerminal, Viewer]):
    """However a connection ends but for an in-band close, its session lives on."""

    socket = "terminals.sock"
    rpc = "AttachTerminal"
    end = "DetachTerminal"
    request = pb.AttachTerminalRequest
    response = pb.AttachTerminalResponse

    def __init__(self, parts: Parts) -> None:
        self._sessions = parts.sessions

    def asked(self, opening: pb.TerminalOpen) -> requests.OpenTerminal:
        """Return the session asked for."""
        return checked(
            requests.OpenTerminal,
            tenant=opening.tenant_id,
            request_id=opening.request_id,
            session_id=opening.session_id,
            devbox_id=opening.devbox_id,
            cols=opening.cols,
            rows=opening.rows,
            argv=tuple(opening.argv),
            user=opening.user,
            workdir=opening.workdir,
            env=dict(opening.env),
            persistent=opening.persistent,
            from_offset=opening.from_offset if opening.HasField("from_offset") else None,
            window_bytes=opening.window_bytes or None,
        )

    async def open(self, asked: requests.OpenTerminal) -> Viewer:
        """Attach to a session, or open one."""
        return await self._sessions.open(asked)

    def session_id(self, viewer: Viewer) -> str:
        """Return its terminal's."""
        return viewer.terminal.session_id

    async def carry(self, viewer: Viewer, stream: _Stream) -> None:
        """Carry keystrokes and output. The viewer ends the connection, not we: what it has yet to read is not cut."""
        terminal = viewer.terminal
        opened = pb.TerminalOpened(
            session_id=terminal.session_id,
            offset=viewer.sent,
            input_offset=terminal.input_offset,
            resumed=viewer.resumed,
            end_offset=terminal.scrollback.end,
        )
        stream.write(pb.AttachTerminalResponse(opened=opened))
        try:
            async with asyncio.timeout(None) as farewell:
                viewer.on_news = stream.on_writable = partial(_tell, viewer, stream, farewell)
                stream.deliver(partial(self._hear, viewer))
                viewer.on_news()
                await stream.ended()
        except TimeoutError:
            pass  # It was told the last there is and does not end the connection: we do.
        finally:
            viewer.on_news = _nothing
            stream.on_writable = None

    def leave(self, viewer: Viewer) -> None:
        """Detach the viewer."""
        self._sessions.leave(viewer)

    def _hear(self, viewer: Viewer, message: pb.AttachTerminalRequest) -> None:
        """Do what a viewer asks."""
        if viewer.detached is not None:
            return  # the session is not its own any more
        terminal = viewer.terminal
        try:
            match message.WhichOneof("message"):
                case "input":
                    offset = message.input.offset if message.input.HasField("offset") else None
                    terminal.write(viewer, offset, message.input.data)
                case "ack":
                    terminal.ack(viewer, message.ack.offset)
                case "resize":
                    size = checked(requests.ResizeTerminal, cols=message.resize.cols, rows=message.resize.rows)
                    self._sessions.resize(terminal.session_id, size.cols, size.rows)
                case "close":
                    self._sessions.close(terminal.session_id)
                case "fetched" if viewer.told_end:
                    self._sessions.fetched(viewer)
                case _:
                    raise InvalidArgument(
                        "A terminal's connection takes input, resize, ack and close, and fetched once it has ended."
                    )
        except Refusal as refusal:
            viewer.refuse(refusal)


def _nothing() -> None:
    pass


def _tell(viewer: Viewer, stream: _Stream, farewell: asyncio.Timeout) -> None:
    """Tell a viewer all there is. A defect there ends this viewer, not the session, whose PTY's bytes come this way."""
    try:
        _tell_all(viewer, stream, farewell)
    except Exception:
        viewer.on_news = stream.on_writable = _nothing
        log.exception("session %s", viewer.terminal.session_id)
        stream.fail(Internal("The executor failed at this viewer; its log on the machine says why. Open it again."))


def _tell_all(viewer: Viewer, stream: _Stream, farewell: asyncio.Timeout) -> None:
    """Tell what the viewer takes. On the way of every byte, so no task is woken for it."""
    if viewer.detached is not None:  # also where it does not read, and so is never told
        _part(farewell)
    while stream.is_writable and (news := viewer.news()) is not None:
        match news:
            case Output(offset, data):
                # Built in place: a TerminalOutput of its own would be copied into the response.
                response = pb.AttachTerminalResponse(output={"offset": offset, "data": data})
            case InputAck(offset):
                response = pb.AttachTerminalResponse(input_ack=pb.TerminalInputAck(offset=offset))
            case Refused(code, message, offset):
                told = pb.TerminalRefusal(code=code.value, message=message, input_offset=offset)
                response = pb.AttachTerminalResponse(refusal=told)
            case Exited(exit_code, offset):
                response = pb.AttachTerminalResponse(exited=pb.TerminalExited(exit_code=exit_code, offset=offset))
                _part(farewell)
            case Detached(reason):
                response = pb.AttachTerminalResponse(detached=pb.TerminalDetached(reason=reason))
        stream.write(response)


def _part(farewell: asyncio.Timeout) -> None:
    if farewell.when() is None:
        farewell.reschedule(asyncio.get_running_loop().time() + _FAREWELL_S)
