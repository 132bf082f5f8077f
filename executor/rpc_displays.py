"""RPCs of displays: unpack, call, pack; and the two directions of one viewer's stream."""

import asyncio
from collections.abc import AsyncIterator

import grpc

from executor import requests
from executor.display import DisplayBytes, DisplayViewer
from executor.rpc import DRAINING, Context, Rpcs, checked, refusing
from protos import executor_pb2 as pb
from protos.errors import InvalidArgument


class DisplayRpcs(Rpcs):
    """Look at a display."""

    async def AttachDisplay(  # type: ignore[override]  # noqa: N802 - written by context.write, not yielded
        self,
        request_iterator: AsyncIterator[pb.AttachDisplayRequest],  # noqa: ARG002 - read and write of the context serve both
        context: Context,
    ) -> None:
        """Carry one viewer's bytes. However this ends, the viewer ends with it."""
        async with refusing(context):
            first = await context.read()
            if first == grpc.aio.EOF or first.WhichOneof("message") != "open":
                raise InvalidArgument("The first message of a display stream is `open`.")
            viewer = await self._open_display(first.open)
            try:
                opened = pb.DisplayOpened(session_id=viewer.session_id)
                await context.write(pb.AttachDisplayResponse(opened=opened))
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(self._read_display(viewer, context), name="display-requests")
                    writing = group.create_task(self._write_display(viewer, context), name="display-responses")
                    await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
                    reading.cancel()
                    writing.cancel()
            finally:
                self.parts.displays.leave(viewer)

    async def _open_display(self, request: pb.DisplayOpen) -> DisplayViewer:
        if self.draining:
            raise DRAINING
        return await self.parts.displays.open(
            checked(
                requests.OpenDisplay,
                tenant=request.tenant_id,
                devbox_id=request.devbox_id,
                window_bytes=request.window_bytes or None,
                **({"width": request.width} if request.width else {}),
                **({"height": request.height} if request.height else {}),
            )
        )

    async def _write_display(self, viewer: DisplayViewer, context: Context) -> None:
        while isinstance(news := await viewer.next(), DisplayBytes):
            data = pb.DisplayData(offset=news.offset, data=news.data)
            await context.write(pb.AttachDisplayResponse(data=data))
        await context.write(pb.AttachDisplayResponse(ended=pb.DisplayEnded(reason=news.reason)))

    async def _read_display(self, viewer: DisplayViewer, context: Context) -> None:
        while (message := await context.read()) != grpc.aio.EOF:
            match message.WhichOneof("message"):
                case "data":
                    await viewer.write(message.data)
                case "ack":
                    viewer.ack(message.ack.offset)
                case _:
                    raise InvalidArgument("A display stream takes data and ack after `open`.")
