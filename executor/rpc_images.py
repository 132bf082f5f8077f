"""RPCs of images and their builds: unpack, call, pack."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from executor import requests
from executor.build_log import BuildEvent, BuildStep
from executor.images import Image
from executor.ledger import Work
from executor.policy import check_tenant
from executor.rpc import DRAINING, Context, Rpcs, checked, refusing
from protos import executor_pb2 as pb


class ImageRpcs(Rpcs):
    """List, check, delete, and build with a context in pieces."""

    async def ListImages(self, request: pb.ListImagesRequest, context: Context) -> pb.ListImagesResponse:  # noqa: N802
        """List images."""
        async with refusing(context):
            images = await self.parts.images.list_images(everything=request.all)
            return pb.ListImagesResponse(images=map(_packed, images))

    async def CheckImage(self, request: pb.CheckImageRequest, context: Context) -> pb.CheckImageResponse:  # noqa: N802
        """Say whether an image is there."""
        async with refusing(context):
            asked = checked(requests.CheckImage, image=request.image)
            image = await self.parts.images.check(asked.image)
            return pb.CheckImageResponse(image=_packed(image) if image else None)

    async def DeleteImage(self, request: pb.DeleteImageRequest, context: Context) -> pb.DeleteImageResponse:  # noqa: N802
        """Delete an image."""
        async with refusing(context):
            asked = checked(
                requests.DeleteImage,
                tenant=request.tenant_id,
                request_id=request.request_id,
                image=request.image,
                force=request.force,
            )
            return pb.DeleteImageResponse(deleted=await self.once(asked, lambda: self.parts.images.delete(asked)))

    async def UploadContext(self, request: pb.UploadContextRequest, context: Context) -> pb.UploadContextResponse:  # noqa: N802
        """Take a piece of a build context. No work of the ledger: its offset makes a repeat harmless."""
        async with refusing(context):
            if self.draining:
                raise DRAINING
            asked = checked(
                requests.UploadContext,
                tenant=request.tenant_id,
                upload_id=request.upload_id,
                offset=request.offset,
                data=request.data,
                last=request.last,
            )
            check_tenant(asked.tenant, self.parts.config.tenants)
            self.parts.disk.check(asked.tenant)
            return pb.UploadContextResponse(offset=await self.parts.contexts.take(asked))

    async def BuildImage(  # noqa: N802
        self, request: pb.BuildImageRequest, context: Context
    ) -> AsyncIterator[pb.BuildImageResponse]:
        """Build an image."""
        async with refusing(context):
            asked = checked(
                requests.BuildImage,
                tenant=request.tenant_id,
                request_id=request.request_id,
                name=request.name,
                tag=request.tag,
                containerfile=request.containerfile,
                context=request.context,
                upload_id=request.upload_id,
                build_args=dict(request.build_args),
                labels=dict(request.labels),
                no_cache=request.no_cache,
                **({"timeout_ms": request.timeout_ms} if request.timeout_ms else {}),
            )

            async def job(work: Work[str, BuildEvent]) -> str:
                return await self.parts.builds.build(asked, work.progress)

            work = self.begin(asked, job)
            async with aclosing(work.steps()) as steps:
                async for step in steps:
                    if isinstance(step, BuildStep):
                        yield pb.BuildImageResponse(progress=pb.Progress(message=step.message, fraction=step.fraction))
                    else:
                        yield pb.BuildImageResponse(log=step.text)
            yield pb.BuildImageResponse(image_id=await work.result())


def _packed(image: Image) -> pb.Image:
    return pb.Image(
        id=image.id,
        tags=image.tags,
        size_bytes=image.size_bytes,
        created_at=image.created_at,
        labels=image.labels,
        devboxes=image.devboxes,
    )
