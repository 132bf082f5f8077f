"""Heartbeats: a change of the status is told at once, not with the next one that is due."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway import heartbeat
from gateway.config import GatewayConfig
from gateway.executor_client import ExecutorClient
from gateway.executor_socket import ExecutorSocket
from gateway.machine import Machine
from protos import executor_pb2 as pb
from protos import wire
from protos.errors import Unavailable

CONFIG = GatewayConfig(
    orchestrator_url="wss://example.com/ws/worker",
    token_file=Path("/nonexistent/token"),
    worker_id="w-1",
    tenant_id="local",
    worker_name="w",
    hostname="h",
    agent_version="1",
    executor_socket=Path("/nonexistent/executor.sock"),
)


class Executor(ExecutorClient):
    """Answers as it is told to; away while there is nothing to answer."""

    answer: pb.GetStatusResponse | None = pb.GetStatusResponse()
    sessions: Sequence[pb.Session] | None = ()

    async def get_status(
        self,
        timeout_s: float = 1.5,  # noqa: ARG002
        *,
        wait: bool = False,  # noqa: ARG002
        brief: bool = False,  # noqa: ARG002
    ) -> pb.GetStatusResponse:
        if self.answer is None:
            raise Unavailable("It is away.")
        return self.answer

    async def list_sessions(self) -> Sequence[pb.Session]:
        if self.sessions is None:
            raise Unavailable("It is away.")
        return self.sessions


async def test_a_change_of_the_status_is_told_before_the_next_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change once, though the next heartbeat is due in a day."""
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 86400.0)
    monkeypatch.setattr(heartbeat, "LOOK_S", 0.001)
    executor = Executor(ExecutorSocket(CONFIG.executor_socket, None))
    told: asyncio.Queue[wire.Heartbeat] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(heartbeat.beat(heartbeat.Status(executor, CONFIG, Machine()), told.put))
        seen = [(await told.get()).gateway_status]
        for answer in (
            pb.GetStatusResponse(draining=True),
            pb.GetStatusResponse(draining=True, engine_error="It hangs."),
            None,
            pb.GetStatusResponse(),
        ):
            executor.answer = answer
            seen.append((await told.get()).gateway_status)
        beating.cancel()

    assert seen == ["connected", "draining", "engine-unavailable", "executor-unavailable", "connected"]
    assert told.empty()


async def test_who_cannot_say_which_sessions_there_are_names_no_engine() -> None:
    """An executor that is lost between two questions too: with engines no sessions would mean that all have ended."""
    executor = Executor(ExecutorSocket(CONFIG.executor_socket, None))
    executor.answer = pb.GetStatusResponse(container_engines=["podman"])
    status = heartbeat.Status(executor, CONFIG, Machine())
    told = []
    for sessions in ([pb.Session(session_id="s", tenant_id="t", devbox_id="d")], None):
        await status.refresh()
        executor.sessions = sessions
        register = status.register(await status.sessions(), ())
        told.append((register.container_engines, [session.session_id for session in register.sessions]))

    assert told == [(["podman"], ["s"]), ([], [])]
    assert status.heartbeat().gateway_status == "executor-unavailable"
