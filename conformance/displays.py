"""display.open, .data, .ack and .close."""

import struct

from conformance.orchestrator import DISPLAY, frame
from conformance.scene import LONG_S, Scene, demand, same


async def a_display_is_opened_and_speaks_rfb(scene: Scene) -> None:
    """The VNC server greets, takes the handshake in both directions and has the size asked for."""
    box = await scene.create(image=scene.target.display_image)
    demand(box["display"], "the DevBox is not listed as one with a display")
    peer = scene.peer
    opened = await scene.ask(
        "display.open", {"devboxId": box["id"], "sessionId": "v-1", "width": 640, "height": 480}, timeout_s=LONG_S
    )
    sent = 0

    async def send(data: bytes) -> None:
        nonlocal sent
        await peer.send_raw(frame(opened["channel"], sent, data, DISPLAY))
        sent += len(data)

    async def come(size: int) -> bytes:
        await peer.until(lambda: peer.offset("v-1") >= size, 60)
        return peer.output("v-1")

    same((await come(12))[:12], b"RFB 003.008\n", "the greeting")
    await send(b"RFB 003.008\n")
    security = (await come(14))[12:14]
    same(security, b"\x01\x01", "the security types: one, none")
    await send(b"\x01")
    same((await come(18))[14:18], b"\0\0\0\0", "the security result")
    await send(b"\x01")
    same(struct.unpack("!HH", (await come(22))[18:22]), (640, 480), "the size")
    await scene.ask("display.close", {"sessionId": "v-1"})
    await scene.refused("NOT_FOUND", "display.close", {"sessionId": "v-1"})


async def an_image_without_a_display_says_so(scene: Scene) -> None:
    """FAILED_PRECONDITION, with what to do."""
    box = (await scene.create())["id"]
    await scene.refused("FAILED_PRECONDITION", "display.open", {"devboxId": box})


CHECKS = (a_display_is_opened_and_speaks_rfb, an_image_without_a_display_says_so)
