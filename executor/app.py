"""The executor process: wires its parts, serves until told to stop, drains, leaves DevBoxes running."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from executor import rpc_operator
from executor.audit import Audit
from executor.background import Backgrounds
from executor.build import TIDY_S, Builds
from executor.build_context import BuildContexts
from executor.config import ExecutorConfig
from executor.data_dir import DataDir
from executor.devbox import DevBox
from executor.devboxes import DevBoxes
from executor.disk_watch import DiskWatch
from executor.displays import Displays
from executor.egress import Egress
from executor.engine import Engine
from executor.engine_places import other_advice
from executor.engine_service import EngineService
from executor.events import Events
from executor.images import Images
from executor.ledger import Ledger
from executor.policy import check_floor
from executor.processes import reap_leftovers
from executor.quotas import check_count
from executor.redaction import redact_logs
from executor.rpc import Parts, RequestIds
from executor.rpc_audit import AuditInterceptor
from executor.secret_env import SecretEnv
from executor.service import ExecutorService
from executor.session_displays import DisplaySessions
from executor.session_sockets import SessionSockets
from executor.session_terminals import TerminalSessions
from executor.sessions import Sessions
from executor.setup import Setups
from protos import executor_pb2_grpc as pb_grpc
from protos.errors import FailedPrecondition, Refusal, Unavailable

log = logging.getLogger(__name__)

SERVICE_NAME = "clustercode.executor.v1.ExecutorService"
_MAX_RPC_BYTES = 4 * 1024 * 1024
_MAX_RPCS = 1000
_ENGINE_SOON_S = 3.0
_ADOPT_AGAIN_S = 5.0
_LEARN_AGAIN_S = 1.0
_STOP_S = 10


class ExitCode(IntEnum):
    """How the executor ended."""

    OK = 0
    UNUSABLE = 4
    """The data directory cannot be used, or another executor has it."""
    CUT_SHORT = 5
    """Asked to stop, and work was still running at the deadline."""


async def run(config: ExecutorConfig, ready: Callable[[], None] = lambda: None) -> ExitCode:
    """Serve until SIGTERM or SIGINT; a second one ends at once. ``ready`` is called when it serves."""
    redact_logs()
    try:
        data_dir = DataDir(config.data_dir)
        with data_dir.locked():
            return await _serve(config, data_dir, ready)
    except FailedPrecondition as refusal:
        log.error("%s", refusal.message)  # noqa: TRY400 - a sentence, not a traceback
        return ExitCode.UNUSABLE


async def _serve(config: ExecutorConfig, data_dir: DataDir, ready: Callable[[], None]) -> ExitCode:
    stop = _stop_on_signals()
    engine_service = EngineService(
        directory=data_dir.engine,
        runtime=config.runtime,
        fixed=config.engine_socket,
        podman_path=config.podman_path,
        starts=config.starts_engine,
    )
    engine = Engine(engine_service.locate)
    audit = Audit(data_dir.audit)
    egress = Egress(
        engine,
        data_dir.root,
        tenant_names={tenant: policy.allowed_domains for tenant, policy in config.tenants.items()},
        expected=config.expects_egress,
    )
    devboxes = DevBoxes(engine, data_dir, egress, config)
    server = grpc.aio.server(
        interceptors=(RequestIds(), AuditInterceptor(audit, "gateway")),
        maximum_concurrent_rpcs=_MAX_RPCS,
        options=[
            ("grpc.max_receive_message_length", _MAX_RPC_BYTES),
            ("grpc.max_send_message_length", 2 * _MAX_RPC_BYTES),
        ],
    )
    _bind(server, data_dir)
    async with asyncio.TaskGroup() as life:
        adopting = _adopt(devboxes, engine, engine_service, config, audit)
        jobs = {
            "engine-service": engine_service.run(),
            "learn-engine": _learn(engine, engine_service, config),
            "adopt": adopting,
        }
        living = [life.create_task(job, name=name) for name, job in {**jobs, "egress": egress.run()}.items()]
        # Work in flight has a group of its own: at the end it is drained before the engine is let go.
        async with asyncio.TaskGroup() as tasks:
            secret_env = SecretEnv(engine, data_dir)

            def check_sessions(tenant: str) -> None:
                disk.check(tenant)
                quota = config.tenants[tenant].quotas.sessions
                check_count("terminals and displays", quota, sessions.count(tenant) + displays.count(tenant))

            ledger = Ledger(tasks, asyncio.get_running_loop().time)
            sessions = Sessions(
                engine,
                devboxes,
                secret_env,
                ledger,
                tasks,
                tenants=tuple(config.tenants),
                limits=config.terminals,
                check_quota=check_sessions,
            )
            displays = Displays(engine, devboxes, secret_env, tasks, limits=config.displays, check_quota=check_sessions)
            setups = Setups(engine, devboxes, secret_env)
            events = Events(engine, devboxes, data_dir, config.events)
            disk = DiskWatch(engine, devboxes, config, audit, events.tell)
            backgrounds = Backgrounds(
                engine, devboxes, secret_env, tasks, install=data_dir.install, tenants=config.tenants
            )
            images = Images(engine, devboxes, data_dir.install)
            contexts = BuildContexts(data_dir.contexts, config.builds)
            builds = Builds(
                engine,
                images,
                contexts,
                tasks,
                install=data_dir.install,
                limits=config.builds,
                floor=config.security_floor,
                egress=egress,
                seccomp=data_dir.seccomp_option("podman"),
                accepted_missing_limits=config.accepted_missing_limits,
            )
            looking = {"events": events.run(), "disk": disk.run(), "housekeeping": _keep_house(builds, engine_service)}
            living += [life.create_task(job, name=name) for name, job in looking.items()]
            parts = Parts(
                config,
                engine,
                engine_service,
                data_dir,
                secret_env,
                devboxes,
                sessions,
                ledger,
                displays,
                setups,
                images,
                contexts,
                builds,
                backgrounds,
                events,
                disk,
            )
            service = ExecutorService(parts)
            healthy = _add_to(server, service)
            sockets = await SessionSockets.listening(
                data_dir, audit, life, (TerminalSessions(parts), DisplaySessions(parts))
            )
            await server.start()
            serving_owner = life.create_task(
                rpc_operator.serve(service, data_dir, AuditInterceptor(audit, "owner")), name="operator"
            )
            await _say(healthy, health_pb2.HealthCheckResponse.SERVING)
            ready()
            log.info("executor serves tenants %s, floor %s", ", ".join(config.tenants), config.security_floor.label)

            await stop.wait()
            log.info("stopping: no new work; DevBoxes go on")
            service.draining = sockets.draining = True
            await _say(healthy, health_pb2.HealthCheckResponse.NOT_SERVING)
            _let_go(parts)
            whole = await ledger.drain(config.drain_s)
        await sockets.stop()
        await server.stop(grace=1.0)
        for task in (serving_owner, *living):
            task.cancel()
    await engine.aclose()
    audit.close()
    return ExitCode.OK if whole else ExitCode.CUT_SHORT


def _let_go(parts: Parts) -> None:
    """Let those go who look on: terminals, displays, watchers."""
    parts.sessions.close_all()
    parts.displays.close_all()
    parts.backgrounds.close()
    parts.events.close()


def _add_to(server: grpc.aio.Server, service: ExecutorService) -> health.aio.HealthServicer:
    """Have the server serve all services, and return the one that says so."""
    healthy = health.aio.HealthServicer()
    pb_grpc.add_ExecutorServiceServicer_to_server(service, server)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    return healthy


def _bind(server: grpc.aio.Server, data_dir: DataDir) -> None:
    """Open the service's socket."""
    rpc_operator.check_directory(data_dir)
    with data_dir.binding("executor.sock") as path:
        server.add_insecure_port(f"unix:{path}")


async def _say(healthy: health.aio.HealthServicer, status: int) -> None:
    for name in ("", SERVICE_NAME):
        await healthy.set(name, status)


async def _learn(engine: Engine, engine_service: EngineService, config: ExecutorConfig) -> None:
    """Know which engine it is, as soon as there is one, and again after it was away.

    Says once where there is none soon after the start, and where it is another than the one that was asked for.
    """
    await engine_service.ready(_ENGINE_SOON_S)
    try:
        engine_service.locate()
    except Unavailable as refusal:
        log.warning("%s", refusal.message)
    told = False
    while True:
        with suppress(Refusal):
            found = await engine.learn()
            if not told and config.runtime and config.runtime != found.kind:
                told = True
                advice = other_advice(config.runtime, found.kind)
                log.warning("this engine is %s %s, not %s. %s.", found.kind, found.version, config.runtime, advice)
        await asyncio.sleep(_LEARN_AGAIN_S)


async def _adopt(
    devboxes: DevBoxes, engine: Engine, engine_service: EngineService, config: ExecutorConfig, audit: Audit
) -> None:
    """Take over what an earlier executor left: say what is there, kill execs that nothing can reach any more."""
    await engine_service.ready()
    while True:
        try:
            boxes = await devboxes.tidy()
            break
        except Refusal as refusal:
            log.warning("DevBoxes of earlier runs are looked for again in %.0f s: %s", _ADOPT_AGAIN_S, refusal.message)
            await asyncio.sleep(_ADOPT_AGAIN_S)
    for box in boxes:
        log.info("adopted DevBox %s (%s) of tenant %s", box.id, box.state, box.tenant)
        try:
            # As it is now: the ones before took their time, and commands are taken meanwhile.
            if await _may_run(devboxes, await devboxes.get_any(box.id), config, audit):
                await reap_leftovers(engine, box.container)
        except Refusal as refusal:
            log.warning("DevBox %s: %s", box.id, refusal.message)


async def _may_run(devboxes: DevBoxes, box: DevBox, config: ExecutorConfig, audit: Audit) -> bool:
    """Say whether a DevBox runs and may; one that runs with less than its profile promises is stopped."""
    try:
        check_floor(box.profile, config.security_floor)
    except Refusal:
        log.warning("DevBox %s has profile %s, below the floor of this worker", box.id, box.profile.label)
        if config.stop_below_floor:
            await _stop(devboxes, box, audit)
            return False
    if box.state != "running":
        return False
    try:
        devboxes.check_running(box)
    except Refusal as refusal:
        if (await devboxes.get_any(box.id)).pid != box.pid:
            return False  # it was stopped meanwhile, or started: then that was checked
        log.error("DevBox %s: %s", box.id, refusal.message)  # noqa: TRY400 - a sentence, not a traceback
        await _stop(devboxes, box, audit)
        return False
    return True


async def _stop(devboxes: DevBoxes, box: DevBox, audit: Audit) -> None:
    """Stop a DevBox that must not run here; one that cannot be stopped is logged."""
    if box.state not in ("running", "paused"):
        return
    try:
        await devboxes.stop_any(box.id, _STOP_S)
        log.warning("DevBox %s was stopped", box.id)
        audit.note(who="executor", tenant=box.tenant, rpc="StopDevBox", subject=box.id, verdict="OK")
    except Refusal as refusal:
        audit.note(who="executor", tenant=box.tenant, rpc="StopDevBox", subject=box.id, verdict=refusal.code.value)
        log.error("DevBox %s cannot be stopped: %s", box.id, refusal.message)  # noqa: TRY400 - a sentence


async def _keep_house(builds: Builds, engine_service: EngineService) -> None:
    """Remove what builds of an earlier executor left, then now and then what nobody needs any more."""
    await engine_service.ready()
    recovered = False
    while True:
        try:
            if not recovered:
                await builds.recover()
                recovered = True
            await builds.tidy()
        except Refusal as refusal:
            log.warning("leftovers of builds are looked for again later: %s", refusal.message)
        await asyncio.sleep(TIDY_S if recovered else _ADOPT_AGAIN_S)


def _stop_on_signals() -> asyncio.Event:
    """Return an event set by the first SIGTERM or SIGINT; the second ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop
