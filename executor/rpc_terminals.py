"""RPCs of terminals: unpack, call, pack; and the two directions of one viewer's stream."""

import asyncio
from collections.abc import AsyncIterator

import grpc

from executor import requests
from executor.rpc import DRAINING, Context, Rpcs, checked, refusing
from executor.terminal import Detached, Exited, InputAck, Output, Refused, Viewer
from protos import executor_pb2 as pb
from protos.errors import InvalidArgument, Refusal

_FAREWELL_S = 60.0
"""How long a viewer that was told the last there is may take to end the call."""


class TerminalRpcs(Rpcs):
    """List sessions, attach to one."""

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:  # noqa: ARG002, N802
        """List open sessions."""
        return pb.ListSessionsResponse(
            sessions=[
                pb.Session(
                    session_id=terminal.session_id,
                    tenant_id=terminal.tenant,
                    devbox_id=terminal.devbox_id,
                    base=terminal.scrollback.base,
                    acked=terminal.acked,
                    end=terminal.scrollback.end,
                    input_offset=terminal.input_offset,
                    attached=terminal.viewer is not None,
                )
                for terminal in self.parts.sessions.terminals()
            ]
        )

    async def AttachTerminal(  # type: ignore[override]  # noqa: N802 - written by context.write, not yielded
        self,
        request_iterator: AsyncIterator[pb.AttachTerminalRequest],  # noqa: ARG002 - read and write of the context serve both
        context: Context,
    ) -> None:
        """Carry one viewer's bytes. However this ends but for an in-band close, the session lives on."""
        async with refusing(context):
            first = await context.read()
            if first == grpc.aio.EOF or first.WhichOneof("message") != "open":
                raise InvalidArgument("The first message of a terminal stream is `open`.")
            viewer, resumed = await self._open_terminal(first.open)
            try:
                terminal = viewer.terminal
                opened = pb.TerminalOpened(
                    session_id=terminal.session_id,
                    offset=viewer.sent,
                    input_offset=terminal.input_offset,
                    resumed=resumed,
                    end_offset=terminal.scrollback.end,
                )
                await context.write(pb.AttachTerminalResponse(opened=opened))
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(self._read_viewer(viewer, context), name="terminal-requests")
                    writing = group.create_task(self._write_viewer(viewer, context), name="terminal-responses")
                    await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
                    # The viewer ends the call, not we: if our end met an acknowledgement on its way, its gRPC would
                    # forget what it has not read yet. So its end, where it is one, also says that it has all.
                    await asyncio.wait((reading,), timeout=_FAREWELL_S if writing.done() else 0)
                    told_end = writing.done() and writing.exception() is None and writing.result()
                    if told_end and reading.done() and not context.cancelled():
                        self.parts.sessions.fetched(viewer)
                    reading.cancel()
                    writing.cancel()
            finally:
                self.parts.sessions.leave(viewer)

    async def _open_terminal(self, request: pb.TerminalOpen) -> tuple[Viewer, bool]:
        if self.draining:
            raise DRAINING
        return await self.parts.sessions.open(
            checked(
                requests.OpenTerminal,
                tenant=request.tenant_id,
                request_id=request.request_id,
                session_id=request.session_id,
                devbox_id=request.devbox_id,
                cols=request.cols,
                rows=request.rows,
                argv=tuple(request.argv),
                user=request.user,
                workdir=request.workdir,
                env=dict(request.env),
                persistent=request.persistent,
                from_offset=request.from_offset if request.HasField("from_offset") else None,
                window_bytes=request.window_bytes or None,
            )
        )

    async def _write_viewer(self, viewer: Viewer, context: Context) -> bool:
        """Tell a viewer all there is; return whether the last was the session's end."""
        while True:
            match news := await viewer.next():
                case Output(offset, data):
                    # Built in place: a TerminalOutput of its own would be copied into the response.
                    await context.write(pb.AttachTerminalResponse(output={"offset": offset, "data": data}))
                case InputAck(offset):
                    await context.write(pb.AttachTerminalResponse(input_ack=pb.TerminalInputAck(offset=offset)))
                case Refused(refusal, offset):
                    told = pb.TerminalRefusal(code=refusal.code.value, message=refusal.message, input_offset=offset)
                    await context.write(pb.AttachTerminalResponse(refusal=told))
                case Exited(exit_code, offset):
                    exited = pb.TerminalExited(exit_code=exit_code, offset=offset)
                    await context.write(pb.AttachTerminalResponse(exited=exited))
                    return True
                case Detached():
                    await context.write(pb.AttachTerminalResponse(detached=pb.TerminalDetached(reason=news.reason)))
                    return False

    async def _read_viewer(self, viewer: Viewer, context: Context) -> None:
        terminal = viewer.terminal
        while (message := await context.read()) != grpc.aio.EOF:
            try:
                match message.WhichOneof("message"):
                    case "input":
                        offset = message.input.offset if message.input.HasField("offset") else None
                        terminal.write(viewer, offset, message.input.data)
                    case "ack":
                        terminal.ack(viewer, message.ack.offset)
                    case "resize":
                        size = checked(requests.ResizeTerminal, cols=message.resize.cols, rows=message.resize.rows)
                        self.parts.sessions.resize(terminal.session_id, size.cols, size.rows)
                    case "close":
                        self.parts.sessions.close(terminal.session_id)
                    case _:
                        raise InvalidArgument("A terminal stream takes input, resize, ack and close after `open`.")
            except Refusal as refusal:
                viewer.refuse(refusal)
