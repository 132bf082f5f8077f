"""images.list, image.check, image.delete, image.context and image.build."""

import io
import tarfile
from uuid import uuid4

from conformance.scene import LONG_S, Scene, b64, demand, same


def _tar(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


async def an_image_is_built_used_and_deleted(scene: Scene) -> None:
    """Steps and log come as progress, the context is there, and an image in use is not deleted."""
    name, peer = scene.own_image(), scene.peer
    lines = f"FROM {scene.target.image}\nARG WORD\nUSER root\nCOPY hello /hello\nRUN echo said-$WORD && cat /hello"
    await peer.send(
        "image.build",
        {
            "tenantId": scene.tenant,
            "name": name,
            "containerfile": lines,
            "context": b64(_tar(hello="from the context\n")),
            "buildArgs": {"WORD": "aloud"},
        },
        "build",
    )
    answer = await peer.expect(LONG_S, type="response", id="build")
    progress = [message["payload"] for message in peer.waiting if message["type"] == "progress"]
    log = "\n".join(part["log"] for part in progress if "log" in part)
    demand(answer["ok"], f"image.build was refused: {answer.get('error', {}).get('message')} Its log: {log[-1000:]}")
    demand("said-aloud" in log and "from the context" in log, f"the log is {log[-500:]!r}")
    demand(any("message" in part for part in progress), "no step was told")
    checked = await scene.ask("image.check", {"image": name})
    demand(checked["exists"], "image.check does not find it")
    same(checked["labels"].get("io.clustercode.managed"), "true", "its label io.clustercode.managed")
    listed = {tag for image in (await scene.ask("images.list"))["images"] for tag in image["tags"]}
    demand(any(tag.startswith(name) for tag in listed), f"images.list has only {sorted(listed)}")
    box = (await scene.create(image=name))["id"]
    same(await scene.run(box, "cat /hello"), "from the context\n", "what a DevBox made from it holds")
    await scene.refused("FAILED_PRECONDITION", "image.delete", {"image": name})
    await scene.ask("DevBox.remove", {"devboxId": box, "force": True})
    demand((await scene.ask("image.delete", {"image": name}))["deleted"], "image.delete names nothing it deleted")
    demand(not (await scene.ask("image.check", {"image": name}))["exists"], "it is there after image.delete")


async def a_context_is_sent_in_pieces(scene: Scene) -> None:
    """In order by offset; a repeat is no error, a gap is refused; the build then has the files."""
    archive, upload = _tar(big="x" * 300_000), f"up-{uuid4().hex[:12]}"
    pieces = [(offset, archive[offset : offset + 100_000]) for offset in range(0, len(archive), 100_000)]
    for offset, data in (pieces[0], pieces[0]):
        answer = await scene.ask("image.context", {"uploadId": upload, "offset": offset, "data": b64(data)})
        same(answer["offset"], len(data), "the offset to go on from")
    gap = {"uploadId": upload, "offset": pieces[2][0], "data": b64(pieces[2][1])}
    await scene.refused("FAILED_PRECONDITION", "image.context", gap)
    for offset, data in pieces[1:]:
        last = offset == pieces[-1][0]
        payload = {"uploadId": upload, "offset": offset, "data": b64(data), "last": last}
        await scene.ask("image.context", payload)
    lines = f"FROM {scene.target.image}\nUSER root\nCOPY big /big"
    build = {"name": scene.own_image(), "containerfile": lines, "uploadId": upload}
    demand(bool((await scene.ask("image.build", build, timeout_s=LONG_S))["imageId"]), "no imageId")


async def a_build_that_fails_or_is_cancelled_leaves_no_image(scene: Scene) -> None:
    """A failing step is FAILED_PRECONDITION, a cancelled build CANCELLED; the name is not given."""
    name = scene.own_image()
    lines = f"FROM {scene.target.image}\nRUN exit 9"
    answer = await scene.answer("image.build", {"name": name, "containerfile": lines}, timeout_s=LONG_S)
    same(answer.get("error", {}).get("code"), "FAILED_PRECONDITION", "the code of a build with a failing step")
    lines = f"FROM {scene.target.image}\nRUN echo goes-on && sleep 300"
    payload = {"tenantId": scene.tenant, "name": name, "containerfile": lines}
    await scene.peer.send("image.build", payload, "slow")
    while "goes-on" not in (await scene.peer.expect(LONG_S, type="progress", id="slow"))["payload"].get("log", ""):
        pass
    await scene.peer.send("cancel", {}, "slow")
    answer = await scene.peer.expect(120, type="response", id="slow")
    same(answer.get("error", {}).get("code"), "CANCELLED", "the code of the cancelled build")
    demand(not (await scene.ask("image.check", {"image": name}))["exists"], "the name was given")


async def images_that_are_not_there_are_not_found(scene: Scene) -> None:
    """image.check says that it does not exist, image.delete NOT_FOUND; the operator's own are not deleted."""
    absent = {"image": "localhost/check-absent:latest"}
    demand(not (await scene.ask("image.check", absent))["exists"], "an absent image exists")
    await scene.refused("NOT_FOUND", "image.delete", absent)
    checked = await scene.ask("image.check", {"image": scene.target.image})
    demand(checked["exists"] and checked["id"] and checked["sizeBytes"] > 0, "the image of the DevBoxes is not there")
    answer = await scene.answer("image.delete", {"image": scene.target.image})
    demand(not answer["ok"], "an image that no message built was deleted by one")
    some = (await scene.ask("images.list", {"all": True}))["images"]
    demand(bool(some), "images.list with all lists nothing")


CHECKS = (
    an_image_is_built_used_and_deleted,
    a_context_is_sent_in_pieces,
    a_build_that_fails_or_is_cancelled_leaves_no_image,
    images_that_are_not_there_are_not_found,
)
