"""Displays on their socket: unpack, call, pack; and the two directions of one viewer's connection."""

import asyncio

from executor import requests
from executor.display import DisplayBytes, DisplayViewer
from executor.rpc import Parts, checked
from executor.session_sockets import SessionKind
from protos import executor_pb2 as pb
from protos.errors import InvalidArgument
from protos.message_stream import MessageStream

_Stream = MessageStream[pb.AttachDisplayRequest, pb.AttachDisplayResponse]


class DisplaySessions(SessionKind[requests.OpenDisplay, DisplayViewer]):
    """However a connection ends, the viewer ends with it."""

    socket = "displays.sock"
    rpc = "AttachDisplay"
    end = "DetachDisplay"
    request = pb.AttachDisplayRequest
    response = pb.AttachDisplayResponse

    def __init__(self, parts: Parts) -> None:
        self._displays = parts.displays

    def asked(self, opening: pb.DisplayOpen) -> requests.OpenDisplay:
        """Return the display asked for."""
        return checked(
            requests.OpenDisplay,
            tenant=opening.tenant_id,
            devbox_id=opening.devbox_id,
            window_bytes=opening.window_bytes or None,
            **({"width": opening.width} if opening.width else {}),
            **({"height": opening.height} if opening.height else {}),
        )

    async def open(self, asked: requests.OpenDisplay) -> DisplayViewer:
        """Connect a viewer, starting the display first where it does not run."""
        return await self._displays.open(asked)

    def session_id(self, viewer: DisplayViewer) -> str:
        """Return its own: nobody else looks at it."""
        return viewer.session_id

    async def carry(self, viewer: DisplayViewer, stream: _Stream) -> None:
        """Carry RFB bytes."""
        await stream.send(pb.AttachDisplayResponse(opened=pb.DisplayOpened(session_id=viewer.session_id)))
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(viewer, stream), name="display-requests")
            writing = group.create_task(self._write(viewer, stream), name="display-responses")
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            reading.cancel()
            writing.cancel()

    def leave(self, viewer: DisplayViewer) -> None:
        """End the viewer."""
        self._displays.leave(viewer)

    async def _write(self, viewer: DisplayViewer, stream: _Stream) -> None:
        while isinstance(news := await viewer.next(), DisplayBytes):
            # Built in place, as a terminal's output is.
            await stream.send(pb.AttachDisplayResponse(data={"offset": news.offset, "data": news.data}))
        await stream.send(pb.AttachDisplayResponse(ended=pb.DisplayEnded(reason=news.reason)))

    async def _read(self, viewer: DisplayViewer, stream: _Stream) -> None:
        while (message := await stream.read()) is not None:
            data = _heard(viewer, message)
            del message  # before anything is waited for: what is parsed may be forty times as large
            if data:
                await viewer.write(data)


def _heard(viewer: DisplayViewer, message: pb.AttachDisplayRequest) -> bytes:
    """Do what a viewer asks; return what it sends to the display's server."""
    match message.WhichOneof("message"):
        case "data":
            return message.data
        case "ack":
            viewer.ack(message.ack.offset)
            return b""
    raise InvalidArgument("A display's connection takes data and ack after `open`.")
