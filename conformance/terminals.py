"""terminal.open, .input, .resize, .ack, .close and what comes of them."""

import asyncio

from conformance.orchestrator import frame
from conformance.scene import Scene, demand, same

_WINDOW_BYTES = 128 * 1024
_RAW = "stty raw -echo; "


async def a_shell_of_the_size_asked_for(scene: Scene) -> None:
    """A login shell on a real terminal: size, resize, input in both forms, exit code."""
    box, peer = (await scene.create())["id"], scene.peer
    opened = await peer.open(box, "t-shell", tenantId=scene.tenant, cols=97, rows=31)
    same(opened["resumed"], False, "resumed of a new session")
    await peer.type("t-shell", b"stty size; tty\n")
    shown = await peer.shows("t-shell", b"/dev/pts/")
    demand(b"31 97" in shown, f"the size: {shown[-200:]!r}")
    await scene.ask("terminal.resize", {"sessionId": "t-shell", "cols": 120, "rows": 40})
    await peer.type("t-shell", b'until [ "$(stty size)" = "40 120" ]; do sleep 0.1; done; echo si\'\'zed\n')
    await peer.shows("t-shell", b"sized\r\n")
    if "channel" in opened:
        typed = len(b"stty size; tty\n") + len(
            b'until [ "$(stty size)" = "40 120" ]; do sleep 0.1; done; echo si\'\'zed\n'
        )
        await peer.send_raw(frame(opened["channel"], typed, b"echo bi''nary\n"))
        await peer.shows("t-shell", b"binary\r\n")
    await peer.type("t-shell", b"exit 5\n")
    end = await peer.exit_of("t-shell")
    same(end["exitCode"], 5, "the exit code")
    same(end["offset"], peer.offset("t-shell"), "the offset of the end, after the last byte of output,")


async def every_byte_value_passes(scene: Scene) -> None:
    """All 256 byte values come as the program wrote them, and go as they were typed."""
    box, peer = (await scene.create())["id"], scene.peer
    octal = "".join(f"\\{value:03o}" for value in range(256))
    await peer.open(box, "t-out", tenantId=scene.tenant, command=f"{_RAW}printf '{octal}'")
    await peer.exit_of("t-out")
    same(peer.output("t-out"), bytes(range(256)), "what came")
    await peer.open(box, "t-in", tenantId=scene.tenant, command=f"{_RAW}echo go; head -c 256 | od -An -v -tu1")
    await peer.shows("t-in", b"go")
    await peer.type("t-in", bytes(range(256)))
    await peer.exit_of("t-in")
    read = peer.output("t-in").decode(errors="replace").split()[1:]
    same(read, [str(number) for number in range(256)], "what the program read")


async def output_goes_no_further_than_the_window(scene: Scene) -> None:
    """Whoever promised acks gets 128 KiB beyond the last one, and the rest once it acknowledges; nothing is lost."""
    box, peer = (await scene.create())["id"], scene.peer
    total = 1024 * 1024
    await peer.open(box, "t-flood", tenantId=scene.tenant, command=f"{_RAW}head -c {total} /dev/zero")
    await peer.until(lambda: peer.offset("t-flood") >= _WINDOW_BYTES // 2)
    for _ in range(3):  # each answer comes after what was on its way
        await scene.ask("DevBox.list")
    demand(peer.offset("t-flood") <= _WINDOW_BYTES, f"{peer.offset('t-flood')} bytes came without an acknowledgement")
    while peer.offset("t-flood") < total:
        have = peer.offset("t-flood")
        await peer.send("terminal.ack", {"sessionId": "t-flood", "offset": have})
        await peer.until(lambda have=have: peer.offset("t-flood") > have)  # type: ignore[misc] # bound now
    await peer.send("terminal.ack", {"sessionId": "t-flood", "offset": total})
    end = await peer.exit_of("t-flood")
    same((end["offset"], end["exitCode"]), (total, 0), "end and exit code")


async def input_with_an_offset_is_typed_once(scene: Scene) -> None:
    """A repeat after a cut is dropped, what is new is typed."""
    box, peer = (await scene.create())["id"], scene.peer
    await peer.open(box, "t-once", tenantId=scene.tenant, command=f"{_RAW}echo go; head -c 12; echo; cat")
    await peer.shows("t-once", b"go")
    await peer.type("t-once", b"abcdef", 0)
    await peer.type("t-once", b"abcdef", 0)
    await peer.type("t-once", b"defghijkl", 3)
    shown = await peer.shows("t-once", b"l\n")
    demand(b"abcdefghijkl" in shown, f"the program read {shown!r}")
    await scene.ask("terminal.close", {"sessionId": "t-once"})


async def close_ends_the_shell_and_what_it_started(scene: Scene) -> None:
    """Nothing of the session runs afterwards, and it is not found any more."""
    box, peer = (await scene.create())["id"], scene.peer
    await peer.open(box, "t-end", tenantId=scene.tenant, command="sleep 8715 & echo go; sleep 8715")
    await peer.shows("t-end", b"go")
    await scene.ask("terminal.close", {"sessionId": "t-end"})
    wait = "until ! cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q 'sleep 871[5]'; do sleep 0.1; done"
    await scene.run(box, wait, user="root", timeoutMs=20_000)
    await peer.exit_of("t-end")
    async with asyncio.timeout(20):  # what is typed while it ends may be taken
        while (answer := await scene.answer("terminal.input", {"sessionId": "t-end", "data": "eA=="}))["ok"]:
            await asyncio.sleep(0.1)
    same(answer["error"]["code"], "NOT_FOUND", "the code for input to the session that ended")


CHECKS = (
    a_shell_of_the_size_asked_for,
    every_byte_value_passes,
    output_goes_no_further_than_the_window,
    input_with_an_offset_is_typed_once,
    close_ends_the_shell_and_what_it_started,
)
