"""The program: stay connected, serve, stop in order."""

import asyncio
import contextlib
import itertools
import logging
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from websockets.exceptions import ConnectionClosed

from gateway import heartbeat, liveness, metrics_server
from gateway.backoff import Backoff, Ending
from gateway.clock import Clock, LoopClock
from gateway.commands import Commands
from gateway.config import GatewayConfig
from gateway.connection import CLOSE_GOING_AWAY, Connection, DialError, Traffic, dial, ending_of
from gateway.credentials import Token
from gateway.dispatch import Dispatch
from gateway.displays import Displays
from gateway.errors import ExecutorUntrusted, ExitCode, GatewayError, Misconfigured, Replaced, TokenRefused
from gateway.events import Events
from gateway.executor_client import STATUS_TIMEOUT_S, ExecutorClient
from gateway.executor_socket import ExecutorSocket
from gateway.faults import report
from gateway.in_flight import InFlight
from gateway.machine import Machine
from gateway.metrics import Figure, Metrics
from gateway.open_sessions import OpenSessions
from gateway.outbox import Outbox
from gateway.self_report import SelfReport
from gateway.session import SessionMemory
from gateway.session_streams import SessionStreams
from gateway.terminals import Terminals
from gateway.uplink import Uplink
from protos import executor_pb2 as pb
from protos import messages, wire
from protos.errors import Internal, Refusal

log = logging.getLogger(__name__)

EXECUTOR_START_S = 3.0
"""How long the first dial waits for an executor that starts beside us, and then for its engine, to register with it."""

REGISTERED_WAIT_S = 2.0
"""An orchestrator that has not answered `worker.register` by then acknowledges nothing."""

READ_BURST = 16
"""Messages handled without a pause, however many lie there."""

FINISH_S = 2.0
"""For closing what is left after the drain."""


async def run(config: GatewayConfig, clock: Clock | None = None, ready: Callable[[], None] = lambda: None) -> int:
    """Run the gateway until a signal or until it cannot go on; returns an `ExitCode`.

    ``ready`` is called when it begins to dial: an orchestrator that is away is no failed start.
    """
    error: BaseException
    try:
        return await _run(config, clock or LoopClock(), ready)
    except (GatewayError, ExecutorUntrusted) as alone:
        error = alone
    except BaseExceptionGroup as group:
        ours = group.subgroup((GatewayError, ExecutorUntrusted))
        if ours is None:
            raise
        error = ours
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    log.critical("%s", error)
    match error:
        case TokenRefused():
            return ExitCode.TOKEN_REFUSED
        case Replaced():
            return ExitCode.REPLACED
        case _:
            return ExitCode.MISCONFIGURED


async def _run(config: GatewayConfig, clock: Clock, ready: Callable[[], None]) -> ExitCode:
    token = Token(config.token_file)
    socket = ExecutorSocket(config.executor_socket, config.executor_uid)
    code = ExitCode.CLEAN
    metrics = Metrics(clock.now)
    async with (
        ExecutorClient(socket) as executor,
        metrics_server.serving(config, metrics, executor),
    ):
        try:
            async with asyncio.TaskGroup() as tasks:
                gateway = Gateway(config, token, socket, executor, tasks, clock, metrics)
                if config.metrics is not None:
                    metrics.enable(gateway.figures)
                serving = tasks.create_task(gateway.stay_connected(ready), name="connection")
                tasks.create_task(gateway.tell_of_itself(), name="self report")
                with _signals() as (stop, stop_now):
                    await stop.wait()
                    log.info("Stopping: %d commands under way", gateway.dispatch.running)
                    gateway.dispatch.stop_intake()
                    hurry = tasks.create_task(stop_now.wait(), name="second signal")
                    drained = tasks.create_task(gateway.drain(), name="drain")
                    await asyncio.wait(
                        (drained, hurry), timeout=config.drain_timeout_s, return_when=asyncio.FIRST_COMPLETED
                    )
                    if gateway.dispatch.running:
                        code = ExitCode.CUT_SHORT
                        log.warning("Stopped with %d commands under way", gateway.dispatch.running)
                    serving.cancel()  # Closes with 1001; its sessions wait in the executor.
                    await asyncio.wait((serving, hurry), timeout=FINISH_S, return_when=asyncio.FIRST_COMPLETED)
                    raise _StoppedError  # noqa: TRY301 - how a task group is left with its tasks cancelled
        except* _StoppedError:
            pass
    log.info("Stopped")
    return code


class _StoppedError(Exception):
    """Ends the task group: everything that is left is cancelled."""


@contextlib.contextmanager
def _signals() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Turn the first SIGTERM or SIGINT into the first event, the next into the second."""
    stop, stop_now = asyncio.Event(), asyncio.Event()

    def heard() -> None:
        (stop_now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as installed:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not in the main thread
                loop.add_signal_handler(number, heard)
                installed.callback(loop.remove_signal_handler, number)
        yield stop, stop_now


class Gateway:
    """One process's worth of state; what belongs to one connection lives in `_serve`."""

    def __init__(
        self,
        config: GatewayConfig,
        token: Token,
        socket: ExecutorSocket,
        executor: ExecutorClient,
        tasks: asyncio.TaskGroup,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._config = config
        self._token = token
        self._socket = socket
        self._executor = executor
        self._streams = SessionStreams(socket)
        self._status = heartbeat.Status(executor, config, Machine())
        self._uplink = Uplink(Outbox())
        self._self_report = SelfReport(config, self._uplink)
        self._memory = SessionMemory()
        self._in_flight = InFlight()
        self._traffic = Traffic()
        self._metrics = metrics
        self._connections = 0
        self.dispatch = Dispatch(
            tasks, Commands(executor), self._uplink, self._in_flight, config.tenant_id, metrics=metrics
        )

    def figures(self) -> Iterator[Figure]:
        """Give what is known at any time, for `metrics`."""
        waiting, waiting_bytes = self._uplink.waiting
        yield Figure("connected", "Whether a connection is registered", float(self._uplink.connected))
        yield Figure("connections_total", "Connections that were registered", self._connections)
        yield Figure("sent_bytes_total", "Bytes of messages sent to the orchestrator", self._traffic.sent)
        yield Figure("received_bytes_total", "Bytes of messages received", self._traffic.received)
        yield Figure("commands_in_flight", "Commands under way", len(self._in_flight))
        yield Figure("answers_waiting", "Answers that wait for a connection", waiting)
        yield Figure("answers_waiting_bytes", "Bytes of these", waiting_bytes)
        yield Figure("executor_up", "Whether the executor answered last", float(self._status.executor_answers))

    async def stay_connected(self, ready: Callable[[], None]) -> None:
        """Dial, serve, wait, again. Returns only by cancellation.

        Raises `TokenRefused`, `Replaced` and `ExecutorUntrusted`.
        """
        self._socket.check()
        await self._status.refresh(EXECUTOR_START_S)
        if self._status.executor_answers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EXECUTOR_START_S):
                    await self._status.engine_found()
        ready()
        backoff = Backoff()
        while True:
            ending = await self._attempt()
            self._self_report.waiting()
            delay_s = backoff.delay_s(ending, random=random.random())  # noqa: S311 - spreads load, guards nothing
            self._metrics.redial(ending.reason)
            log.info("Dialing again in %.1f s", delay_s)
            await self._clock.sleep(delay_s)

    async def drain(self) -> None:
        """Tell the orchestrator that nothing new is taken, where one is connected, and finish what is under way."""
        self._status.stopping = True
        await self._uplink.tell(messages.to_json("worker.heartbeat", self._status.heartbeat()))
        await self.dispatch.wait_idle()

    async def tell_of_itself(self) -> None:
        """Tell the executor how the connection is. Never returns."""
        await self._self_report.tell(self._executor)

    async def _attempt(self) -> Ending:
        self._self_report.dialing()
        log.info("Dialing %s", self._config.orchestrator)
        try:
            connection = await dial(self._config, self._token.read(), self._traffic)
        except Misconfigured as error:  # The token file was there at the start: perhaps it is being replaced.
            self._self_report.failed(str(error))
            log.warning("%s", error)
            return Ending()
        except DialError as error:
            self._self_report.failed(str(error))
            log.warning("No connection to the orchestrator: %s", error)
            return error.ending
        try:
            return await self._serve(connection)
        finally:
            self._uplink.close()
            await connection.close(CLOSE_GOING_AWAY)

    async def _serve(self, connection: Connection) -> Ending:
        registered_at: float | None = None
        ending = Ending()
        channels = itertools.count(1)
        displays: Displays | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                terminals = Terminals(
                    connection,
                    tasks,
                    executor=self._executor,
                    streams=self._streams,
                    uplink=self._uplink,
                    memory=self._memory,
                    in_flight=self._in_flight,
                    metrics=self._metrics,
                    channels=channels,
                    window_bytes=self._config.window_bytes,
                )
                displays = Displays(
                    connection,
                    tasks,
                    streams=self._streams,
                    uplink=self._uplink,
                    in_flight=self._in_flight,
                    metrics=self._metrics,
                    channels=channels,
                    window_bytes=self._config.window_bytes,
                )
                sessions = OpenSessions(connection, terminals, displays)
                events = Events(self._executor, connection)
                is_whole = await self._register(connection)
                registered_at = self._clock.now()
                self._connections += 1
                self._self_report.connected()
                await self._uplink.open(connection)
                answered = asyncio.Event()
                tasks.create_task(heartbeat.beat(self._status, partial(self._beat, connection)), name="heartbeat")
                if not is_whole:
                    tasks.create_task(self._register_again(connection), name="register again")
                tasks.create_task(events.forward(), name="events")
                tasks.create_task(events.acknowledge(), name="event acknowledgements")
                tasks.create_task(terminals.acknowledge_input(), name="input acknowledgements")
                tasks.create_task(liveness.keep_alive(connection), name="keep alive")
                tasks.create_task(liveness.probe_after_sleep(connection), name="sleep check")
                tasks.create_task(_resume(connection, terminals, answered), name="resume")
                await self._read(connection, sessions, answered)
        except* ConnectionClosed as closed:
            first = closed.exceptions[0]
            if isinstance(first, ConnectionClosed):  # always: these are no nested groups
                self._self_report.failed(f"the connection ended: {first}")
                log.warning("The connection ended: %s", first)
                registered_s = self._clock.now() - registered_at if registered_at is not None else 0.0
                ending = ending_of(first, registered_s)
        if displays is not None:
            await displays.tell_lost()
        return ending

    async def _register(self, connection: Connection) -> bool:
        """Say what this worker is; return whether that was all, or its executor's part is still to be said."""
        await self._status.refresh()
        sessions = await self._status.sessions()
        devboxes: Sequence[pb.DevBox] = ()
        if sessions is not None:
            with contextlib.suppress(Refusal, TimeoutError):
                async with asyncio.timeout(STATUS_TIMEOUT_S):  # the engine may hang
                    devboxes = await self._executor.list(pb.ListDevBoxesRequest())
        register = self._status.register(sessions, devboxes)
        await connection.send(messages.to_json("worker.register", register))
        log.info(
            "Connected and registered as %s (%s)",
            self._config.worker_id,
            wire.SUBPROTOCOL_BINARY if connection.binary else wire.SUBPROTOCOL_JSON,
        )
        return bool(register.container_engines)

    async def _register_again(self, connection: Connection) -> None:
        """End a connection that was registered without an engine once there is one.

        Only a register carries the engines, and it is the first message of a connection. Nothing is lost: without an
        executor nothing was open on this one.
        """
        await self._status.engine_found()
        await connection.close(1000, "registering again: the executor is there now")

    async def _beat(self, connection: Connection, payload: wire.Heartbeat) -> None:
        await connection.send(messages.to_json("worker.heartbeat", payload))
        await connection.flush_marks()

    async def _read(self, connection: Connection, sessions: OpenSessions, answered: asyncio.Event) -> None:
        """Read until the connection closes, in order; raises `ConnectionClosed`."""
        for count in itertools.count(1):
            message = await connection.receive()
            if count % READ_BURST == 0:
                await asyncio.sleep(0)  # One read of the socket may hold thousands of messages: let others run.
            try:
                if isinstance(message, bytes):
                    await sessions.frame(message)
                    continue
                registered = await self.dispatch.receive(message, connection, sessions)
            except ConnectionClosed:
                raise
            except Exception as error:  # noqa: BLE001 - a defect in one message ends that message and nothing else
                report(log, f"A message of {len(message)} bytes", error)
                await connection.send(messages.error_json(Internal("The gateway failed at a message of yours.")))
                continue
            if registered is not None:
                if wire.CAPABILITY_ACK in registered.capabilities:
                    connection.promise_acks()
                answered.set()


async def _resume(connection: Connection, terminals: Terminals, answered: asyncio.Event) -> None:
    """Attach the last connection's sessions again, unless the orchestrator opens them itself."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REGISTERED_WAIT_S):
            await answered.wait()
    await terminals.resume(by_itself=not connection.acks)
