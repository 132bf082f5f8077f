"""What the orchestrator's commands on images mean: one call of the executor, and its answer."""

import contextlib

from gateway import answers
from gateway.executor_client import ExecutorClient
from gateway.reporter import Handler, Reporter
from protos import executor_pb2 as pb
from protos import wire
from protos.errors import Internal


class ImageCommands:
    """List, check, delete, and build with a context in pieces."""

    def __init__(self, executor: ExecutorClient) -> None:
        self._executor = executor
        self.handlers: dict[type[wire.Payload], Handler] = {
            wire.ImagesList: self._list,
            wire.ImageCheck: self._check,
            wire.ImageDelete: self._delete,
            wire.ImageContext: self._context,
            wire.ImageBuild: self._build,
        }

    async def _list(self, payload: wire.ImagesList, _: str, __: Reporter) -> wire.ImagesAnswer:
        images = await self._executor.list_images(pb.ListImagesRequest(all=payload.all))
        return wire.ImagesAnswer(
            images=[
                wire.Image(
                    id=image.id,
                    tags=list(image.tags),
                    size_bytes=image.size_bytes,
                    created_at=image.created_at,
                    labels=dict(image.labels),
                    devboxes=list(image.devboxes),
                )
                for image in images
            ]
        )

    async def _check(self, payload: wire.ImageCheck, _: str, __: Reporter) -> wire.ImageCheckAnswer:
        image = await self._executor.check_image(pb.CheckImageRequest(image=payload.image))
        if image is None:
            return wire.ImageCheckAnswer(exists=False)
        return wire.ImageCheckAnswer(exists=True, id=image.id, size_bytes=image.size_bytes, labels=dict(image.labels))

    async def _delete(self, payload: wire.ImageDelete, request_id: str, _: Reporter) -> wire.ImageDeleteAnswer:
        request = pb.DeleteImageRequest(
            tenant_id=payload.tenant_id, request_id=request_id, image=payload.image, force=payload.force
        )
        return wire.ImageDeleteAnswer(deleted=list(await self._executor.delete_image(request)))

    async def _context(self, payload: wire.ImageContext, _: str, __: Reporter) -> wire.ImageContextAnswer:
        request = pb.UploadContextRequest(
            tenant_id=payload.tenant_id,
            upload_id=payload.upload_id,
            offset=payload.offset,
            data=payload.data,
            last=payload.last,
        )
        return wire.ImageContextAnswer(offset=await self._executor.upload_context(request))

    async def _build(self, payload: wire.ImageBuild, request_id: str, reporter: Reporter) -> wire.ImageBuildAnswer:
        request = pb.BuildImageRequest(
            tenant_id=payload.tenant_id,
            request_id=request_id,
            name=payload.name,
            tag=payload.tag or "",
            containerfile=payload.containerfile,
            context=payload.context or b"",
            upload_id=payload.upload_id or "",
            build_args=payload.build_args,
            labels=payload.labels,
            no_cache=payload.no_cache,
            timeout_ms=payload.timeout_ms or 0,
        )
        async with contextlib.aclosing(self._executor.build_image(request)) as events:
            async for event in events:
                match event.WhichOneof("event"):
                    case "progress":
                        await reporter.step(answers.progress(event.progress))
                    case "log":
                        await reporter.output(wire.LogProgress(log=event.log), len(event.log))
                    case _:
                        return wire.ImageBuildAnswer(image_id=event.image_id)
        raise Internal("The executor ended the build without an image; look before you send it again.")
