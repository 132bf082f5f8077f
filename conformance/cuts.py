"""What a lost connection leaves untouched, and an orchestrator that knows less."""

from conformance.orchestrator import BINARY
from conformance.scene import Scene, demand, same


async def a_session_outlives_the_connection(scene: Scene) -> None:
    """After a cut it is among the registered sessions and goes on byte for byte from the offset asked for."""
    box, peer = (await scene.create())["id"], scene.peer
    command = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line-$i; [ $((i % 100)) != 0 ] || sleep 0.1; done; cat"
    await peer.open(box, "t-long", tenantId=scene.tenant, command=command)
    await peer.shows("t-long", b"line-300\r\n")
    peer = await scene.cut()
    demand(
        "t-long" in [session["sessionId"] for session in scene.register.get("sessions") or []],
        "worker.register does not list the session",
    )
    before = scene.peers[-2].output("t-long")
    opened = await peer.open(box, "t-long", tenantId=scene.tenant, fromOffset=len(before))
    same((opened["resumed"], opened["offset"]), (True, len(before)), "resumed and offset")
    after = await peer.shows("t-long", b"line-2000\r\n", 60)
    due = b"".join(b"line-%d\r\n" % number for number in range(1, 2001))
    same(before + after == due, True, "whether both parts put together are the whole output")
    await scene.ask("terminal.close", {"sessionId": "t-long"})


async def work_goes_on_and_is_answered_once(scene: Scene) -> None:
    """A command in flight runs once and is answered when its id comes again; a background command runs on."""
    box = (await scene.create())["id"]
    command = {"tenantId": scene.tenant, "devboxId": box, "command": "echo ran >> /workspace/runs; sleep 2; echo done"}
    ticking = "while :; do echo tick; sleep 0.2; done"
    background = await scene.ask("DevBox.exec.background", {"devboxId": box, "command": ticking})
    before = await scene.ask("DevBox.exec.background.capture", {"devboxId": box, **background, "waitMs": 10_000})
    await scene.peer.send("DevBox.exec", command, "once")
    await scene.cut()
    answer = await scene.ask("DevBox.exec", command, message_id="once")
    same(answer["stdout"], "done\n", "the answer")
    same(await scene.run(box, "cat /workspace/runs"), "ran\n", "what the command left, which is one line a run")
    rest = {"devboxId": box, **background, "offset": before["nextOffset"], "waitMs": 10_000}
    after = await scene.ask("DevBox.exec.background.capture", rest)
    demand(after["running"] and after["nextOffset"] > before["nextOffset"], "the background command did not go on")


async def it_works_for_an_orchestrator_that_knows_only_the_commands(scene: Scene) -> None:
    """No subprotocol, no worker.registered: commands and terminals work with JSON alone, without acknowledgements."""
    box = (await scene.create())["id"]
    scene.orchestrator.subprotocol, scene.orchestrator.registered = None, None
    try:
        await scene.cut()
        peer = scene.peer
        answer = await peer.open(box, "t-plain", tenantId=scene.tenant, command="seq 1 60000; echo en''d; cat")
        demand("channel" not in answer, "terminal.open gives a channel, though no binary frames were agreed on")
        shown = await peer.shows("t-plain", b"end\r\n", 60)
        same(shown.count(b"\n"), 60001, "the number of lines of 370 kB that nobody acknowledged")
        await peer.type("t-plain", b"typed\n")
        await peer.shows("t-plain", b"typed\r\ntyped\r\n")
        await scene.ask("terminal.close", {"sessionId": "t-plain"})
    finally:  # for the next connection; each cut makes the worker wait longer, so there is none for its own sake
        scene.orchestrator.subprotocol, scene.orchestrator.registered = BINARY, {"capabilities": ["terminal.ack"]}


CHECKS = (
    a_session_outlives_the_connection,
    work_goes_on_and_is_answered_once,
    it_works_for_an_orchestrator_that_knows_only_the_commands,
)
