"""The egress process: Squid, and for each DevBox a bridge that carries its connections there. The only way out.

It is the third part of the worker and runs under a user of its own where it is started as root. It works in
``DATA_DIR/egress`` and reaches nothing else of the data directory. What a DevBox may reach stands in ``policy/``
(`executor.egress_files`), written by the executor; Squid asks us for each connection, we read the file. The executor
connects to ``run/control.sock``: one JSON object a line, see `_Control`.

Whatever is missing or dies, the way is closed, and what died is started again.
"""

import asyncio
import ctypes
import json
import logging
import os
import pwd
import secrets
import signal
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psutil

from executor.egress_bridge import BACKOFF_S, Bridge
from executor.egress_files import EgressFiles, is_address
from executor.egress_programs import dies_with_us, each_line, end, free_port, log_pipe, program
from executor.egress_rules import PORTS, reaches
from executor.egress_squid import squid_conf
from executor.owner import as_owner_of, group_of
from protos.errors import FailedPrecondition

log = logging.getLogger(__name__)

_USERS = ("proxy", "nobody")
"""Under which user, if we are root: Debian's for proxies, else the one that has nothing."""
_UNUSABLE = 4
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG = 1, 2
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Squid has it
_LOOK_AGAIN_S = 5.0
_ADDRESSES_AGAIN_S = 30.0
_HEALTHY_S = 30.0
_MAX_LINE_BYTES = 64 * 1024
_MAX_UNREAD_BYTES = 64 * 1024


async def run(data_dir: Path) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code, 4 where the data directory cannot be used."""
    try:
        executor_uid = _settle(EgressFiles(data_dir))
    except FailedPrecondition as refusal:
        log.error("%s", refusal.message)  # noqa: TRY400 - a sentence, not a traceback
        return _UNUSABLE
    except OSError as error:
        log.error("%s cannot be used: %s.", data_dir / "egress", error.strerror)  # noqa: TRY400 - as above
        return _UNUSABLE
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        egress = _Egress(tasks, executor_uid)
        serving = tasks.create_task(egress.run(), name="egress")
        await stop.wait()
        serving.cancel()
        egress.close()
    return 0


def _settle(files: EgressFiles) -> int | None:
    """Go to the working directory, and drop root for good: what is needed is reached from there, or is everybody's.

    Returns the executor's user, who alone may give orders then; None: we are that user, and closed to others.
    """
    if os.geteuid() != 0:
        executor = files.owner()
        if executor in (None, os.geteuid()):
            files.make()
            executor = None
        else:  # nothing in it is ours to make
            files.check_shared()
        os.chdir(files.root)
        return executor
    for name in _USERS:
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            break
    else:
        raise FailedPrecondition(f"There is no user {' or '.join(_USERS)} to run Squid under: create the user proxy.")
    data_dir = files.root.parent
    with _ends_with_parent():
        with as_owner_of(data_dir):
            files.make()
        executor = data_dir.stat().st_uid
        files.share(user.pw_uid, user.pw_gid, group_of(data_dir))
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    log.info("egress runs as user %s", user.pw_name)
    return executor


@contextmanager
def _ends_with_parent() -> Iterator[None]:
    """Keep what a supervisor asked for, a signal at its own death: the kernel forgets it when the user changes."""
    libc, wanted = ctypes.CDLL(None), ctypes.c_int()
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(wanted))
    parent = os.getppid()
    yield
    libc.prctl(_PR_SET_PDEATHSIG, wanted)
    if wanted.value and os.getppid() != parent:  # it died in between
        os.kill(os.getpid(), wanted.value)


def _own_addresses() -> frozenset[str]:
    """Return this machine's own addresses: no name may lead back to it."""
    return frozenset(
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    )


def _service_name() -> str:
    """Return the name of our Squid's shared memory, all of which lies in one place of the machine.

    No other Squid has it, nobody can guess it and be first, and after a crash it is the same, so nothing piles up.
    """
    path = Path("run/squid.name")
    with suppress(FileNotFoundError):
        if name := path.read_text():
            return name
    name = f"clustercode{secrets.token_hex(8)}"
    path.write_text(name)
    return name


def _forget_shared_memory() -> None:
    """Remove what a Squid leaves that was killed."""
    for path in _SHARED_MEMORY.glob(f"{_service_name()}-*.shm"):
        with suppress(OSError):
            path.unlink()


class _Egress:
    """Squid, the bridges, and the two sockets: Squid's questions and the executor's wishes."""

    def __init__(self, tasks: asyncio.TaskGroup, executor_uid: int | None) -> None:
        self._tasks = tasks
        self._executor_uid = executor_uid
        self._bridges: dict[str, Bridge] = {}
        self._controls: set[_Control] = set()
        self.port = 0
        self.reason = "Squid is starting."
        """Why there is no way out; empty: there is one."""
        self._lists: dict[str, tuple[tuple[int, int, int], frozenset[str]]] = {}

    async def run(self) -> None:
        """Serve until cancelled."""
        async with (
            _unix_server("run/acl.sock", self._answer_squid, 0o177),
            _unix_server("run/control.sock", self._serve_executor, 0o117),
        ):
            await self._keep_squid()

    def close(self) -> None:
        """End all bridges and connections."""
        for bridge in self._bridges.values():
            bridge.close()
        for control in self._controls:
            control.close()

    # --- what the executor wants ------------------------------------------------------------------------------

    async def open(self, address: str) -> None:
        """Have a bridge for an address; raises `OSError` with the reason where there is none."""
        if self.reason:
            raise OSError(self.reason)
        if address not in self._bridges:
            self._bridges[address] = Bridge(self._tasks, address, lambda: self.port)
        await self._bridges[address].opened()

    async def cut(self, address: str) -> None:
        """End all connections of an address; new ones are asked for again."""
        if address in self._bridges:
            self._bridges[address].cut()
            await self._bridges[address].opened()

    async def close_bridge(self, address: str) -> None:
        """End an address's bridge with all its connections."""
        if bridge := self._bridges.pop(address, None):
            bridge.close()
            await bridge.closed()
        self._lists.pop(address, None)

    async def _serve_executor(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Its group may be the gateway's too. We ourselves ask for our health.
        if self._executor_uid is not None and _peer(writer) not in (0, self._executor_uid, os.geteuid()):
            log.warning("user %d may not give egress orders", _peer(writer))
            return
        control = _Control(self, reader, writer)
        self._controls.add(control)
        try:
            await control.run()
        finally:
            self._controls.discard(control)

    # --- what Squid asks and tells ----------------------------------------------------------------------------

    async def _answer_squid(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say for each ``CHANNEL ADDRESS HOST`` whether that address may reach that host."""
        while line := await reader.readline():
            channel, _, asked = line.decode(errors="replace").partition(" ")
            address, _, host = asked.partition(" ")
            may = reaches(self._list(address), host.split(" ", maxsplit=1)[0].strip().lower())
            writer.write(f"{channel} {'OK' if may else 'ERR'}\n".encode())
            await writer.drain()

    def _list(self, address: str) -> frozenset[str]:
        """Return what an address may reach, as its file says now; nothing where that cannot be read."""
        if address not in self._bridges:
            return frozenset()
        try:
            with (Path("policy") / address).open() as file:
                found = os.fstat(file.fileno())
                version = (found.st_mtime_ns, found.st_ino, found.st_size)
                if self._lists.get(address, (None,))[0] != version:
                    self._lists[address] = (version, frozenset(file.read().split()))
        except OSError:
            return frozenset()
        return self._lists[address][1]

    def _refused(self, line: str) -> None:
        """Tell the executor of a connection that Squid denied: ``ADDRESS HOST PORT STATUS``."""
        address, host, port, status = (*line.split(" "), "", "", "", "")[:4]
        if status.strip() != "TCP_DENIED" or address not in self._bridges:
            return
        number = int(port) if port.isdecimal() else 0
        why = "address"
        if number not in PORTS:
            why = "port"
        elif not reaches(self._list(address), host.lower()):
            why = "name"
        for control in self._controls:
            control.tell({"denied": address, "host": host[:255], "port": number, "why": why})

    # --- Squid ------------------------------------------------------------------------------------------------

    async def _keep_squid(self) -> None:
        failures = 0
        while True:
            squid, socat = program("squid"), program("socat")
            if squid is None or socat is None:
                missing = " and ".join(name for name, path in (("squid", squid), ("socat", socat)) if path is None)
                self._set(f"The machine has no {missing}: install it (Debian: apt-get install squid socat).")
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            started = asyncio.get_running_loop().time()
            await self._run_squid(squid, socat)
            lived_s = asyncio.get_running_loop().time() - started
            failures = 0 if lived_s > _HEALTHY_S else min(failures + 1, len(BACKOFF_S) - 1)
            await asyncio.sleep(BACKOFF_S[failures])

    async def _run_squid(self, squid: str, socat: str) -> None:
        """Run Squid until it ends."""
        if self.port == 0:
            self.port = free_port()
        addresses = _own_addresses()
        self._write_conf(socat, addresses)
        refusals, writing = await log_pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *dies_with_us(), squid, "-N", "-n", _service_name(), "-d1", "-f", "run/squid.conf",
                stdin=asyncio.subprocess.DEVNULL, stdout=writing, stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(writing)
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [
                    group.create_task(self._announce(), name="squid-start"),
                    group.create_task(self._follow_addresses(process, socat, addresses), name="squid-addresses"),
                    group.create_task(each_line(refusals, self._refused), name="squid-log"),
                    group.create_task(each_line(process.stderr, _say_if_bad), name="squid-messages"),
                ]
                code = await process.wait()
                for task in helpers[:2]:
                    task.cancel()
            log.warning("Squid ended with exit code %d and is started again", code)
            if self.reason:  # it never served: somebody else may have its port
                self._change_port()
            self._set("Squid has ended and is being started again.")
        finally:
            await end(process)
            _forget_shared_memory()

    def _write_conf(self, socat: str, addresses: frozenset[str]) -> None:
        conf = Path("run/squid.conf")
        conf.write_text(squid_conf(port=self.port, socat=socat, own_addresses=addresses))

    def _change_port(self) -> None:
        self.port = 0
        for bridge in self._bridges.values():
            bridge.cut()

    async def _announce(self) -> None:
        """Wait until Squid takes connections, then say so, and have a bridge for every list there is."""
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                break
            await asyncio.sleep(0.05)
        self._set("")
        for address in os.listdir("policy"):  # noqa: PTH208 - short, and of our own disk
            if address.startswith("127."):
                with suppress(OSError):
                    await self.open(address)
        log.info("egress is open for %d DevBoxes", len(self._bridges))

    async def _follow_addresses(self, process: asyncio.subprocess.Process, socat: str, known: frozenset[str]) -> None:
        """Tell Squid when this machine got other addresses; let go of bridges whose list is gone."""
        while True:
            await asyncio.sleep(_ADDRESSES_AGAIN_S)
            for address in [address for address in self._bridges if not (Path("policy") / address).exists()]:
                await self.close_bridge(address)
            now = _own_addresses()
            if now != known:
                known = now
                self._write_conf(socat, now)
                process.send_signal(signal.SIGHUP)

    def _set(self, reason: str) -> None:
        if reason != self.reason:
            self.reason = reason
            if reason:
                log.warning("egress is closed: %s", reason)
            for control in self._controls:
                control.say({"state": reason})


class _Control:
    """One connection of an executor.

    ========================================  ================================================================
    ``{"id", "do", "address"}``               a wish, ``do`` one of ``open``, ``cut``, ``close``
    ``{"id", "error"}``                       its answer; the error is empty when it was done
    ``{"state"}``                             why there is no way out, empty when there is; first and at each change
    ``{"denied", "host", "port", "why"}``     a connection from the address ``denied`` was refused
    ========================================  ================================================================
    """

    def __init__(self, egress: _Egress, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._egress = egress
        self._reader = reader
        self._writer = writer

    async def run(self) -> None:
        """Do what is asked, one by one, until the executor goes."""
        self.say({"state": self._egress.reason})
        while line := await self._reader.readline():
            wish = json.loads(line)
            if not isinstance(wish, dict) or not is_address(str(wish.get("address"))):
                log.warning("the executor's order names no address of a DevBox: its line is closed")
                return
            act = {"open": self._egress.open, "cut": self._egress.cut, "close": self._egress.close_bridge}[wish["do"]]
            error = ""
            try:
                await act(wish["address"])
            except OSError as reason:
                error = str(reason)
            self.say({"id": wish["id"], "error": error})
            await self._writer.drain()

    def say(self, message: dict[str, object]) -> None:
        """Send a message."""
        self._writer.write(json.dumps(message).encode() + b"\n")

    def tell(self, message: dict[str, object]) -> None:
        """Send a message that is dropped where too many are unread."""
        if self._writer.transport.get_write_buffer_size() < _MAX_UNREAD_BYTES:
            self.say(message)

    def close(self) -> None:
        """Let the executor go."""
        self._writer.close()


@asynccontextmanager
async def _unix_server(
    path: str, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], umask: int
) -> AsyncIterator[None]:
    """Listen while the block runs, closed by umask to whom it does not concern."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, ValueError, KeyError) as error:
            log.debug("%s: %s", path, error)
        except asyncio.CancelledError:  # at the process's end; nobody waits for this task
            pass
        finally:
            writer.close()

    _unlink(path)
    before = os.umask(umask)
    try:
        server = await asyncio.start_unix_server(on_connection, path, limit=_MAX_LINE_BYTES)
    finally:
        os.umask(before)
    try:
        yield
    finally:
        server.close()
        _unlink(path)


def _peer(writer: asyncio.StreamWriter) -> int:
    """Return which user is at the other end of a Unix socket."""
    credentials = struct.Struct("3i")
    found = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(found)[1])


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        Path(path).unlink()


def _say_if_bad(line: str) -> None:
    if "FATAL" in line or "ERROR" in line:
        log.warning("Squid: %s", line[:500])
    else:
        log.debug("Squid: %s", line[:500])
