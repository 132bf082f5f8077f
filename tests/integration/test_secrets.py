"""A secret is in its own DevBox and in one file of the executor; after the DevBox is removed, nowhere at all."""

from pathlib import Path

import pytest

from console.app import Console
from console.terminal_client import Terminal
from console.workers import WorkerLink
from protos.errors import Refusal
from tests.integration.canary import CANARY, files_with_it, watching
from tests.integration.conftest import DEVBOX_IMAGE, Podman, create, running_worker

AWKWARD = 'it\'s $HOME `id` \\ "quoted"\nsecond line '
ECHOED = "echoed-value-77"
"""Another secret: one that its owner gives to the engine in place of a user's name, which the engine repeats."""
SHOW = 'printf %s "$CANARY|$AWKWARD|$GIVEN"'


async def use(link: WorkerLink, box: str) -> list[str]:
    """Use the secret in every way there is; returns what was answered to what had to fail."""
    ran = await link.request("DevBox.exec", {"devboxId": box, "command": SHOW, "env": {"GIVEN": "stronger"}})
    assert ran["stdout"] == f"{CANARY}|{AWKWARD}|stronger"
    async with Terminal(link, box) as terminal:
        await terminal.write(b"test ${#CANARY} = %d && echo te''rminal\n" % len(CANARY))
        await terminal.read_until(b"terminal")
    async with Terminal(link, box, persistent="kept") as terminal:
        await terminal.write(b"test ${#CANARY} = %d && echo pers''istent\n" % len(CANARY))
        await terminal.read_until(b"persistent")
        await terminal.close()
    command = {"devboxId": box, "command": 'test -n "$CANARY" && echo back""ground'}
    started = await link.request("DevBox.exec.background", command)
    asked = {"devboxId": box, "backgroundId": started["backgroundId"], "waitMs": 60_000}
    captured = await link.request("DevBox.exec.background.capture", asked)
    assert captured["data"] == "YmFja2dyb3VuZAo="
    said = []
    for kind, wrong in (
        ("DevBox.exec", {"command": ["true"], "user": ECHOED}),
        ("DevBox.exec.background", {"command": ["true"], "user": ECHOED}),
        ("DevBox.setup", {"repository": {"url": f"/{ECHOED}"}}),
        ("DevBox.setup", {"repository": {"url": "https://localhost:1/x.git", "credential": CANARY}}),
        ("terminal.open", {"cols": 80, "rows": 24, "user": ECHOED}),
    ):
        with pytest.raises(Refusal) as refused:
            await link.request(kind, {"devboxId": box, **wrong})
        said.append(refused.value.message)
    return said


async def test_a_canary_is_found_nowhere(podman: Podman, console: Console, directory: Path) -> None:
    """Not in an argument, a log, an answer, the audit, the engine's store; in all that the box's owner starts there."""
    async with running_worker(podman, console, directory, executor_args=("--log-level", "DEBUG")) as worker:
        link = await worker.link()
        places = [*podman.places(), podman.directory, worker.directory]
        secrets = {"CANARY": CANARY, "AWKWARD": AWKWARD, "GIVEN": "weaker", "ECHOED": ECHOED}
        async with watching() as watch:
            box = await create(link, image=DEVBOX_IMAGE, secretEnv=secrets)
            said = await use(link, box)
            await link.request("DevBox.stop", {"devboxId": box, "timeoutSeconds": 0})
            await link.request("DevBox.start", {"devboxId": box})
            ran = await link.request("DevBox.exec", {"devboxId": box, "command": "echo ${#CANARY}"})
        kept = worker.data / "secrets" / box
        while_there, inspected = files_with_it(places), podman.run("inspect", f"clustercode-{box}")
        mode = kept.stat().st_mode & 0o777
        await link.request("DevBox.remove", {"devboxId": box, "force": True})
        afterwards = files_with_it(places)

        assert ran["stdout"] == f"{len(CANARY)}\n"
        assert watch.found == set()
        assert watch.looks > 10
        assert [message for message in said if CANARY in message or ECHOED in message] == []
        assert any("***" in message for message in said)
        assert CANARY not in inspected
        assert ECHOED not in worker.executor.text() + worker.gateway.text()
        assert (while_there, mode) == ({str(kept)}, 0o600)
        assert afterwards == set()
