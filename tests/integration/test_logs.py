"""What a worker logs, read as a person or a program would."""

import json
import logging
import os
import pty
import re
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from clustercode.logs import ForPeople
from conformance.orchestrator import Peer, orchestrator
from tests.integration.conftest import (
    TENANT,
    Podman,
    Process,
    eventually,
    executor_process,
    gateway_process,
    lasting_peer,
    serves,
    started,
)

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
async def talked(podman: Podman) -> AsyncIterator[tuple[Peer, Process, Process]]:
    """A gateway and an executor that log everything, and the orchestrator's end."""
    with TemporaryDirectory(prefix="cc-") as name:
        place = Path(name)
        async with orchestrator(place) as cloud:
            executor = executor_process(podman, place, "--log-level", "DEBUG")
            gateway = gateway_process(place, cloud.worker_url, cloud.token_file, "--log-level", "DEBUG")
            async with started(executor, gateway):
                await serves(executor)
                peer, _ = await lasting_peer(cloud)
                yield peer, gateway, executor


def lines(process: Process) -> list[dict[str, Any]]:
    """The lines of a log; fails where one is no JSON object."""
    found = [json.loads(line) for line in process.text().splitlines()]
    assert all(isinstance(line, dict) for line in found)
    return found


async def test_a_request_s_id_is_in_the_logs_of_both_processes(talked: tuple[Peer, Process, Process]) -> None:
    """From the message through the call to the refusal; what belongs to no request has none."""
    peer, gateway, executor = talked
    devbox = {"tenantId": TENANT, "devboxId": "no-such-box"}
    assert not (await peer.ask("DevBox.start", devbox, message_id="find-me"))["ok"]
    assert (await peer.ask("DevBox.list", {"tenantId": TENANT}, message_id="another"))["ok"]

    def has(process: Process, request: str, said: str) -> bool:
        return any(said in line["msg"] for line in lines(process) if line.get("request") == request)

    for process, said in ((gateway, "DevBox.start"), (executor, "StartDevBox")):
        await eventually(lambda process=process: has(process, "find-me", "NOT_FOUND"))
        mine = [line["msg"] for line in lines(process) if line.get("request") == "find-me"]
        assert said in mine[0]
        assert "NOT_FOUND" in mine[-1]
    await eventually(lambda: has(executor, "another", "ListDevBoxes"))
    assert "request" not in next(line for line in lines(gateway) if line["msg"].startswith("Dialing"))


def test_a_traceback_cannot_steer_the_terminal_either() -> None:
    """It may quote what a peer sent."""
    try:
        raise ValueError("\x1b[2Jgone")  # noqa: TRY301 - the very thing
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "a.py", 1, "a defect", None, sys.exc_info())
    text = ForPeople("gateway", colours=False).format(record)

    assert "\x1b" not in text
    assert "\nValueError: \\x1b[2Jgone" in text


async def test_what_is_no_terminal_gets_one_json_object_a_line(talked: tuple[Peer, Process, Process]) -> None:
    """With time, level, msg and the process; names of levels are those of Go's slog."""
    for process in talked[1:]:
        for line in lines(process):
            assert RFC3339.fullmatch(line["time"])
            assert line["level"] in ("DEBUG", "INFO", "WARN", "ERROR")
            assert line["msg"]
            assert line["process"] == process.name


async def test_a_person_at_a_terminal_gets_plain_lines(directory: Path) -> None:
    """No JSON, and nothing that a peer sends steers the terminal."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    shown = b""

    def says(text: bytes) -> bool:
        nonlocal shown
        with suppress(BlockingIOError):
            shown += os.read(ours, 65536)
        return text in shown

    async with orchestrator(directory) as cloud:
        gateway = gateway_process(directory, cloud.worker_url, cloud.token_file)
        gateway.log = Path(f"/dev/fd/{theirs}")
        await gateway.start()
        try:
            peer, _ = await cloud.peer()
            await peer.close(1013, "wait \x1b[31m a little")
            await eventually(lambda: says(b"Dialing again"))
        finally:
            await gateway.stop()
            os.close(ours)
            os.close(theirs)

    ended = next(line for line in shown.decode().splitlines() if "The connection ended" in line)
    assert re.match(r"\d\d:\d\d:\d\d gateway +\x1b\[33mWARN \x1b\[0m The connection ended", ended)
    assert "wait \\x1b[31m a little" in ended
