"""DevBox.exec."""

import base64

from conformance.scene import Scene, b64, demand, same


async def it_runs_as_asked(scene: Scene) -> None:
    """Both streams, the exit code, standard input, user, workdir and environment are as asked."""
    box = (await scene.create())["id"]
    answer = await scene.ask(
        "DevBox.exec",
        {
            "devboxId": box,
            "command": 'cat; echo "$PWD $A $(id -un)"; echo wrong >&2; exit 3',
            "stdin": b64("in\n"),
            "user": "root",
            "workdir": "/tmp",  # noqa: S108 - in the DevBox
            "env": {"A": "b"},
        },
    )
    same((answer["stdout"], answer["stderr"]), ("in\n/tmp b root\n", "wrong\n"), "its output")
    same((answer["exitCode"], answer["truncated"]), (3, False), "exit code and truncation")
    same(await scene.run(box, ["echo", "$PWD", "a b"]), "$PWD a b\n", "what an argv that no shell reads prints")


async def bytes_can_be_had_exactly(scene: Scene) -> None:
    """With the encoding base64 every byte is as written; with utf-8 what is none is replaced."""
    box = (await scene.create())["id"]
    command = {"devboxId": box, "command": "printf 'a\\377\\000b'"}
    exact = await scene.ask("DevBox.exec", {**command, "encoding": "base64"})
    same(base64.b64decode(exact["stdout"]), b"a\xff\0b", "the bytes")
    same((await scene.ask("DevBox.exec", command))["stdout"], "a\ufffd\0b", "the text")


async def long_output_keeps_head_and_tail(scene: Scene) -> None:
    """Beyond maxOutputBytes the middle is cut, with the count of what is missing."""
    box = (await scene.create())["id"]
    answer = await scene.ask(
        "DevBox.exec", {"devboxId": box, "command": "seq 1 1000000", "maxOutputBytes": 1000}, timeout_s=120
    )
    demand(answer["stdout"].startswith("1\n2\n3\n"), "the head is missing")
    demand(answer["stdout"].endswith("999999\n1000000\n"), "the tail is missing")
    same(answer["truncated"], {"stdout": 6888896 - len(answer["stdout"]), "stderr": 0}, "the count of missing bytes")


async def output_can_be_had_as_it_comes(scene: Scene) -> None:
    """With stream the output comes as progress before the answer."""
    box = (await scene.create())["id"]
    command = "echo early; until [ -e /workspace/go ]; do sleep 0.05; done; echo late"
    payload = {"tenantId": scene.tenant, "devboxId": box, "command": command, "stream": True}
    await scene.peer.send("DevBox.exec", payload, "streamed")
    first = await scene.peer.expect(type="progress", id="streamed")
    same(base64.b64decode(first["payload"]["data"]), b"early\n", "the first progress, before the command ended,")
    await scene.run(box, "touch /workspace/go")
    demand((await scene.peer.expect(type="response", id="streamed"))["ok"], "the command did not end well")


async def what_takes_too_long_is_killed(scene: Scene) -> None:
    """After DEADLINE_EXCEEDED nothing of it runs: not what ignores signals, not what left its session."""
    box = (await scene.create())["id"]
    command = "trap '' TERM HUP; (setsid sleep 8713 &); sleep 8713 & sleep 8713"
    await scene.refused("DEADLINE_EXCEEDED", "DevBox.exec", {"devboxId": box, "command": command, "timeoutMs": 700})
    seen = await scene.run(box, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '", user="root")
    demand("sleep 8713" not in seen.replace(command, ""), "some of it still runs")


CHECKS = (
    it_runs_as_asked,
    bytes_can_be_had_exactly,
    long_output_keeps_head_and_tail,
    output_can_be_had_as_it_comes,
    what_takes_too_long_is_killed,
)
