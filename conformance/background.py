"""DevBox.exec.background, .kill and .capture."""

import base64
from typing import Any

from conformance.scene import Scene, demand, same


async def _start(scene: Scene, command: str) -> dict[str, str]:
    box = (await scene.create())["id"]
    answer = await scene.ask("DevBox.exec.background", {"devboxId": box, "command": command})
    return {"devboxId": box, "backgroundId": answer["backgroundId"]}


async def _capture(scene: Scene, of: dict[str, Any], **more: int) -> tuple[bytes, dict[str, Any]]:
    answer = await scene.ask("DevBox.exec.background.capture", {**of, **more}, timeout_s=90)
    return base64.b64decode(answer["data"]), answer


async def it_runs_by_itself(scene: Scene) -> None:
    """It is captured and listed while it runs, and keeps output and exit code."""
    of = await _start(scene, "echo one; until [ -e /workspace/go ]; do sleep 0.05; done; echo two; exit 7")
    data, answer = await _capture(scene, of, waitMs=20_000)
    same((data, answer["offset"], answer["nextOffset"], answer["running"]), (b"one\n", 0, 4, True), "the first capture")
    (listed,) = [box for box in (await scene.ask("DevBox.list"))["devboxes"] if box["id"] == of["devboxId"]]
    shown = [item["running"] for item in listed["background"] if item["backgroundId"] == of["backgroundId"]]
    same(shown, [True], "whether the list shows it as running")
    await scene.run(of["devboxId"], "touch /workspace/go")
    rest, next_offset = b"", 4
    for _ in range(20):
        data, answer = await _capture(scene, of, offset=next_offset, waitMs=5000)
        rest, next_offset = rest + data, answer["nextOffset"]
        if not answer["running"]:
            break
    same((rest, answer["running"], answer.get("exitCode")), (b"two\n", False, 7), "the rest, whether it runs, its code")


async def kill_ends_the_whole_group(scene: Scene) -> None:
    """What ignores the signal is killed after the grace; the answer has the exit code; killing again is no error."""
    of = await _start(scene, "trap '' TERM; sleep 8714 & echo ready; while :; do sleep 1; done")
    data, _ = await _capture(scene, of, waitMs=20_000)
    same(data, b"ready\n", "its output")
    for _ in range(2):
        answer = await scene.ask("DevBox.exec.background.kill", {**of, "graceSeconds": 1})
        same(answer.get("exitCode"), 137, "the exit code")
    running = await scene.run(of["devboxId"], "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '", user="root")
    demand("8714" not in running, "a process of its group still runs")


async def an_unknown_one_is_not_found(scene: Scene) -> None:
    """To capture and to kill."""
    box = (await scene.create())["id"]
    for kind in ("DevBox.exec.background.capture", "DevBox.exec.background.kill"):
        await scene.refused("NOT_FOUND", kind, {"devboxId": box, "backgroundId": "b-absent"})


CHECKS = (it_runs_by_itself, kill_ends_the_whole_group, an_unknown_one_is_not_found)
