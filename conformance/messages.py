"""Messages that are wrong, strange or repeated: each is answered, and the worker goes on."""

import asyncio

from conformance.orchestrator import Json, frame
from conformance.scene import Scene, demand, same

_NOBODY = "abcdefabcdef"


async def what_is_no_message_is_an_error(scene: Scene) -> None:
    """Broken JSON, JSON that is no object and a frame of no channel are told; the connection stays."""
    peer = scene.peer
    for text in ("not json", "[1, 2]", '{"payload": {}}'):
        await peer.send_raw(text)
        error = (await peer.expect(type="error"))["error"]
        demand(error["code"] in ("INVALID_ARGUMENT", "UNIMPLEMENTED"), f"{text!r} is told as {error['code']}")
    await peer.send_raw(frame(4_000_000, 0, b"x"))
    same((await peer.expect(type="error"))["error"]["code"], "NOT_FOUND", "the code for a channel that is not open")
    await scene.ask("DevBox.list")


async def an_unknown_command_is_answered(scene: Scene) -> None:
    """UNIMPLEMENTED, never silence."""
    await scene.refused("UNIMPLEMENTED", "DevBox.fly")


async def unknown_fields_are_ignored(scene: Scene) -> None:
    """A newer orchestrator may say more than a worker knows."""
    await scene.ask("DevBox.list", {"aFieldOfTheFuture": {"deep": [1]}})


async def a_wrong_field_is_named(scene: Scene) -> None:
    """INVALID_ARGUMENT says which field of which command."""
    box = (await scene.create())["id"]
    for kind, payload, field in (
        ("DevBox.create", {"name": "x"}, "image"),
        ("DevBox.exec", {"devboxId": box}, "command"),
        ("DevBox.stop", {"devboxId": box, "timeoutSeconds": "soon"}, "timeoutSeconds"),
        ("terminal.open", {"devboxId": box, "cols": 0, "rows": 24}, "cols"),
        ("DevBox.list", {"tenantId": None}, "tenantId"),
    ):
        says = await scene.refused("INVALID_ARGUMENT", kind, payload)
        demand(field in says, f"{kind} without a right {field} is refused with {says!r}")


async def what_is_not_there_is_not_found(scene: Scene) -> None:
    """An absent DevBox, and one seen by a tenant that the worker does not serve, are NOT_FOUND for every command."""
    box = (await scene.create())["id"]
    asked: tuple[tuple[str, Json], ...] = (
        ("DevBox.start", {}),
        ("DevBox.stop", {}),
        ("DevBox.exec", {"command": "true"}),
        ("DevBox.exec.background", {"command": "true"}),
        ("DevBox.exec.background.kill", {"backgroundId": "b"}),
        ("DevBox.exec.background.capture", {"backgroundId": "b"}),
        ("DevBox.setup", {"repository": {"url": "/x"}}),
        ("terminal.open", {"cols": 80, "rows": 24}),
        ("display.open", {}),
    )
    for kind, more in asked:
        await scene.refused("NOT_FOUND", kind, {"devboxId": _NOBODY, **more})
        await scene.refused("NOT_FOUND", kind, {"devboxId": box, "tenantId": "nobody-here", **more})
    for kind in ("terminal.input", "terminal.resize", "terminal.close", "display.close"):
        payload = {"sessionId": "t-nobody", "data": "eA==", "cols": 80, "rows": 24}
        await scene.refused("NOT_FOUND", kind, payload)


async def an_id_runs_once(scene: Scene) -> None:
    """A repeat joins the work in flight, or has its first answer again; for another command it is refused."""
    box = (await scene.create())["id"]
    command = {"devboxId": box, "command": "echo ran >> /workspace/runs; sleep 0.3; cat /workspace/runs"}
    await scene.peer.send("DevBox.exec", {"tenantId": scene.tenant, **command}, "twice")
    await asyncio.sleep(0.1)
    for _ in range(2):
        await scene.peer.send("DevBox.exec", {"tenantId": scene.tenant, **command}, "twice")
    for _ in range(3):
        answer = await scene.peer.expect(type="response", id="twice")
        same(answer["payload"]["stdout"], "ran\n", "an answer, which has one line a run,")
    other = await scene.answer("DevBox.exec", {"devboxId": box, "command": "true"}, message_id="twice")
    demand(not other["ok"], "an id was used for another command and that ran")


async def work_in_flight_can_be_cancelled(scene: Scene) -> None:
    """The answer is CANCELLED and nothing of it runs any more."""
    box = (await scene.create())["id"]
    command = {"tenantId": scene.tenant, "devboxId": box, "command": "touch /workspace/runs; sleep 8712"}
    await scene.peer.send("DevBox.exec", command, "stop-me")
    await scene.run(box, "until [ -e /workspace/runs ]; do sleep 0.05; done", timeoutMs=30_000)
    await scene.peer.send("cancel", {}, "stop-me")
    answer = await scene.peer.expect(type="response", id="stop-me")
    same(answer.get("error", {}).get("code"), "CANCELLED", "the code of the answer")
    running = await scene.run(box, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '", user="root")
    demand("sleep 8712" not in running.replace("touch", ""), "the cancelled command still runs")


CHECKS = (
    what_is_no_message_is_an_error,
    an_unknown_command_is_answered,
    unknown_fields_are_ignored,
    a_wrong_field_is_named,
    what_is_not_there_is_not_found,
    an_id_runs_once,
    work_in_flight_can_be_cancelled,
)
