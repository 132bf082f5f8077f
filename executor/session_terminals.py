"""Terminals on their socket: unpack, call, pack; and the two directions of one viewer's connection."""

import asyncio

from executor import requests
from executor.rpc import Parts, checked
from executor.session_sockets import SessionKind
from executor.terminal import Detached, Exited, InputAck, Output, Refused, Viewer
from protos import executor_pb2 as pb
from protos.errors import InvalidArgument, Refusal
from protos.message_stream import MessageStream

_FAREWELL_S = 60.0
"""How long a viewer that was told the last there is may take to end the connection."""

_Stream = MessageStream[pb.AttachTerminalRequest, pb.AttachTerminalResponse]


class TerminalSessions(SessionKind[Viewer]):
    """However a connection ends but for an in-band close, its session lives on."""

    socket = "terminals.sock"
    rpc = "AttachTerminal"
    request = pb.AttachTerminalRequest
    response = pb.AttachTerminalResponse

    def __init__(self, parts: Parts) -> None:
        self._sessions = parts.sessions

    async def open(self, opening: pb.TerminalOpen) -> Viewer:
        """Attach to a session, or open one."""
        return await self._sessions.open(
            checked(
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
        )

    async def carry(self, viewer: Viewer, stream: _Stream) -> None:
        """Carry keystrokes and output."""
        terminal = viewer.terminal
        opened = pb.TerminalOpened(
            session_id=terminal.session_id,
            offset=viewer.sent,
            input_offset=terminal.input_offset,
            resumed=viewer.resumed,
            end_offset=terminal.scrollback.end,
        )
        await stream.send(pb.AttachTerminalResponse(opened=opened))
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(viewer, stream), name="terminal-requests")
            writing = group.create_task(self._write(viewer, stream), name="terminal-responses")
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            # The viewer ends the connection, not we: what it has not read yet is not cut short.
            await asyncio.wait((reading,), timeout=_FAREWELL_S if writing.done() else 0)
            reading.cancel()
            writing.cancel()

    def leave(self, viewer: Viewer) -> None:
        """Detach the viewer."""
        self._sessions.leave(viewer)

    async def _write(self, viewer: Viewer, stream: _Stream) -> None:
        """Tell a viewer all there is."""
        while True:
            match news := await viewer.next():
                case Output(offset, data):
                    # Built in place: a TerminalOutput of its own would be copied into the response.
                    await stream.send(pb.AttachTerminalResponse(output={"offset": offset, "data": data}))
                case InputAck(offset):
                    await stream.send(pb.AttachTerminalResponse(input_ack=pb.TerminalInputAck(offset=offset)))
                case Refused(refusal, offset):
                    told = pb.TerminalRefusal(code=refusal.code.value, message=refusal.message, input_offset=offset)
                    await stream.send(pb.AttachTerminalResponse(refusal=told))
                case Exited(exit_code, offset):
                    exited = pb.TerminalExited(exit_code=exit_code, offset=offset)
                    await stream.send(pb.AttachTerminalResponse(exited=exited))
                    return
                case Detached():
                    await stream.send(pb.AttachTerminalResponse(detached=pb.TerminalDetached(reason=news.reason)))
                    return

    async def _read(self, viewer: Viewer, stream: _Stream) -> None:
        """Do all that a viewer asks."""
        terminal = viewer.terminal
        while (message := await stream.read()) is not None:
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
                    case "fetched":
                        if viewer.told_end:
                            self._sessions.fetched(viewer)
                    case _:
                        raise InvalidArgument("A terminal's connection takes input, resize, ack, close and fetched.")
            except Refusal as refusal:
                viewer.refuse(refusal)
