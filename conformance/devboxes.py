"""DevBox.create, .start, .stop, .remove, .list, .list-all, .egress and DevBox.event."""

from typing import Any
from uuid import uuid4

from conformance.orchestrator import Refused
from conformance.scene import LONG_S, Scene, demand, same

_PROFILES = ("open", "standard", "strict", "offline")
_MIB = 1024 * 1024


async def a_devbox_lives_from_create_to_remove(scene: Scene) -> None:
    """It is created with progress, listed, stopped, started and removed; repeating any of it is no error."""
    name, peer = f"check-{uuid4().hex[:12]}", scene.peer
    spec = {"tenantId": scene.tenant, "name": name, "image": scene.target.image}
    await peer.send("DevBox.create", spec, f"create-{name}")
    await peer.expect(LONG_S, type="progress", id=f"create-{name}")
    answer = await peer.expect(LONG_S, type="response", id=f"create-{name}")
    demand(answer["ok"], f"DevBox.create was refused: {answer.get('error')}")
    box = answer["payload"]["devbox"]
    same((box["name"], box["tenantId"], box["state"]), (name, scene.tenant, "running"), "name, tenant and state")
    of_box: dict[str, Any] = {"devboxId": box["id"]}
    for kind in ("DevBox.list", "DevBox.list-all"):
        listed = [found["id"] for found in (await scene.ask(kind))["devboxes"]]
        demand(box["id"] in listed, f"{kind} leaves it out")
    for _ in range(2):
        stopped = (await scene.ask("DevBox.stop", {**of_box, "timeoutSeconds": 1}))["devbox"]
        same(stopped["state"], "exited", "the state after DevBox.stop")
    for _ in range(2):
        same((await scene.ask("DevBox.start", of_box))["devbox"]["state"], "running", "the state after DevBox.start")
    await scene.refused("FAILED_PRECONDITION", "DevBox.remove", of_box)
    for _ in range(2):
        await scene.ask("DevBox.remove", {**of_box, "force": True})
    left = [found["id"] for found in (await scene.ask("DevBox.list"))["devboxes"]]
    demand(box["id"] not in left, "it is listed after DevBox.remove")


async def the_same_create_again_is_the_same_devbox(scene: Scene) -> None:
    """The same name and spec answer with what is there; another spec is ALREADY_EXISTS."""
    name = f"check-{uuid4().hex[:12]}"
    first = await scene.create(name=name, env={"A": "1"})
    again = await scene.create(name=name, env={"A": "1"})
    same(again["id"], first["id"], "the id answered the second time")
    spec = {"name": name, "image": scene.target.image, "env": {"A": "2"}}
    await scene.refused("ALREADY_EXISTS", "DevBox.create", spec)


async def the_workspace_outlives_a_stop(scene: Scene) -> None:
    """What lies in /workspace is there after stop and start."""
    box = (await scene.create())["id"]
    await scene.run(box, "echo kept > /workspace/file")
    await scene.ask("DevBox.stop", {"devboxId": box, "timeoutSeconds": 1})
    await scene.refused("FAILED_PRECONDITION", "DevBox.exec", {"devboxId": box, "command": "true"})
    await scene.ask("DevBox.start", {"devboxId": box})
    same(await scene.run(box, ["cat", "/workspace/file"]), "kept\n", "what the file holds")


async def a_creation_that_may_not_be_is_refused(scene: Scene) -> None:
    """Missing image, offline with an environment, below the floor: each has its code and leaves nothing."""
    before = len((await scene.ask("DevBox.list"))["devboxes"])
    spec = {"name": "check-refused", "image": scene.target.image}
    absent = {**spec, "image": "localhost/check-absent:latest"}
    await scene.refused("NOT_FOUND", "DevBox.create", absent)
    await scene.refused("INVALID_ARGUMENT", "DevBox.create", {**spec, "profile": "offline", "env": {"A": "1"}})
    await scene.refused("INVALID_ARGUMENT", "DevBox.create", {**spec, "name": "no spaces"})
    floor = scene.register.get("securityFloor", "standard")
    for profile in _PROFILES[: _PROFILES.index(floor)]:
        await scene.refused("FAILED_PRECONDITION", "DevBox.create", {**spec, "profile": profile})
    same(len((await scene.ask("DevBox.list"))["devboxes"]), before, "the number of DevBoxes afterwards")


async def a_devbox_is_held_as_its_profile_says(scene: Scene) -> None:
    """Standard: no capabilities, no new privileges, no interface but loopback; strict: a read-only root besides."""
    look = (
        "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; cat /proc/net/dev | sed -n 's/:.*//p'; "
        "touch /root-file 2>&1; touch /tmp/x && echo tmp"
    )
    for profile in ("standard", "strict", "offline"):
        box = await scene.create(profile=profile)
        same(box["profile"], profile, "the profile")
        seen = await scene.run(box["id"], look, user="root")
        same(seen.count("0000000000000000"), 2, f"{profile}: sets of capabilities that are empty, in {seen!r},")
        demand("NoNewPrivs:\t1" in seen, f"{profile}: new privileges can be had")
        devices = {word for word in seen.split() if word.startswith(("eth", "tap", "wl", "en", "podman", "docker"))}
        demand(not devices, f"{profile}: there are network interfaces: {devices}")
        demand(seen.endswith("tmp\n"), f"{profile}: /tmp cannot be written")
        if profile != "standard":
            demand("Read-only file system" in seen, f"{profile}: the root can be written")


async def limits_hold_or_are_named_as_missing(scene: Scene) -> None:
    """Memory, CPUs and processes are bounded in the kernel as asked, else the DevBox's missingLimits says which not."""
    try:
        box = await scene.create(resources={"memoryBytes": 256 * _MIB, "cpus": 0.5, "pids": 64})
    except Refused as refused:
        demand(refused.code == "FAILED_PRECONDITION", str(refused))
        scene.note(f"refused: {refused.error['message']}")
        return
    files = (
        "memory/memory.limit_in_bytes memory.max",
        "cpu/cpu.cfs_quota_us cpu,cpuacct/cpu.cfs_quota_us cpu.max",
        "pids/pids.max pids.max",
    )
    look = [f"cat {names} 2>/dev/null | head -n 1 | cut -d ' ' -f 1 | grep . || echo none" for names in files]
    found = (await scene.run(box["id"], f"cd /sys/fs/cgroup; {'; '.join(look)}", user="root")).split()
    due = {"memory": str(256 * _MIB), "cpus": "50000", "pids": "64"}
    held = {limit for limit, seen in zip(due, found, strict=True) if seen == due[limit]}
    missing = box.get("missingLimits") or []
    for limit in due:
        named = any(limit.rstrip("s") in text.lower() for text in missing)
        demand(limit in held or named, f"{limit} is not held in the kernel ({found}) and not named as missing")
    if missing:
        scene.note(f"limits not held on this engine: {', '.join(missing)}")


async def a_secret_is_in_the_devbox_and_in_no_answer(scene: Scene) -> None:
    """secretEnv reaches commands and terminals; no list, label or error shows it."""
    secret = f"s-{uuid4().hex}"
    box = await scene.create(secretEnv={"CHECK_TOKEN": secret})
    same(await scene.run(box["id"], "echo $CHECK_TOKEN"), f"{secret}\n", "what a command sees of it")
    for kind in ("DevBox.list", "DevBox.list-all"):
        demand(secret not in str(await scene.ask(kind)), f"{kind} shows it")


async def what_a_devbox_may_reach_can_be_changed(scene: Scene) -> None:
    """DevBox.egress answers with the domains in force, or says that this worker has no such thing."""
    box = (await scene.create())["id"]
    answer = await scene.answer("DevBox.egress", {"devboxId": box, "allowedDomains": ["example.com"]})
    if not answer["ok"]:
        code = answer["error"]["code"]
        demand(code in ("UNIMPLEMENTED", "FAILED_PRECONDITION"), f"it is refused with {code}")
        scene.note(f"{code}: {answer['error']['message']}")
        return
    demand("example.com" in answer["payload"]["allowedDomains"], "the domain asked for is not in force")


async def a_devbox_that_ends_by_itself_is_told(scene: Scene) -> None:
    """DevBox.event says that it died, and the list has it as exited."""
    box = (await scene.create())["id"]
    command = {"tenantId": scene.tenant, "devboxId": box, "command": "kill 1"}
    await scene.peer.send("DevBox.exec", command)
    message = await scene.peer.expect(90, type="DevBox.event")
    same((message["payload"]["devboxId"], message["payload"]["event"]), (box, "died"), "the event")
    (listed,) = [found for found in (await scene.ask("DevBox.list"))["devboxes"] if found["id"] == box]
    same(listed["state"], "exited", "its state")


CHECKS = (
    a_devbox_lives_from_create_to_remove,
    the_same_create_again_is_the_same_devbox,
    the_workspace_outlives_a_stop,
    a_creation_that_may_not_be_is_refused,
    a_devbox_is_held_as_its_profile_says,
    limits_hold_or_are_named_as_missing,
    a_secret_is_in_the_devbox_and_in_no_answer,
    what_a_devbox_may_reach_can_be_changed,
    a_devbox_that_ends_by_itself_is_told,
)
