"""Background commands: they outlive connections, gateway and executor, because all of them is in the box.

What one is lies in ``/var/lib/clustercode/<id>``, in the DevBox's second volume; a small shell there keeps its log
and its exit code (``background_run.sh``). To the executor all that is hostile input: it looks by a command in the box
with a deadline, never at the volume's files, and bounds and checks what it is told. Who lies there fools only their
own tenant.

One runs while the shell that keeps its log is there, known by its pid and its start. The log ends, and the exit code
counts, when all that the command started has closed its output.
"""

import asyncio
import hashlib
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakValueDictionary

from executor.background_start import Launch, Launched, launch
from executor.config import TenantPolicy
from executor.devbox import STATE, DevBox
from executor.devboxes import DevBoxes
from executor.engine import Engine
from executor.exec_command import ExecResult, run_command
from executor.quotas import check_count
from executor.requests import USER_PATTERN, CaptureBackground, ExecDevBox, KillBackground, StartBackground
from executor.secret_env import SecretEnv
from protos.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Refusal,
    ResourceExhausted,
    Unavailable,
)
from protos.limits import MAX_STRING_BYTES

log = logging.getLogger(__name__)

_READ, _LIST, _KILL = (
    (Path(__file__).parent / f"background_{name}.sh").read_text(encoding="utf-8") for name in ("read", "list", "kill")
)
_NO_SUCH = 72
_ID = re.compile(r"b-[0-9a-f]{24}")
_COMMAND_CHARS = 200
_READ_TIMEOUT_S = 15.0
_KILL_MARGIN_S = 15.0
_HEADER_BYTES = 512
_WAITING_PER_BOX = 16
"""Captures that wait in one box at a time, each a process in it; more wait here for their turn."""

_LOOK_TIMEOUT_S = 5.0
_LIST_TIMEOUT_S = 2.0
"""What a list waits for all boxes together: one that hangs is listed without its commands."""
_LOOKS_AT_ONCE = 8
_MAX_LIST_BYTES = 256 * 1024
_REMEMBERED = 4096


@dataclass(frozen=True)
class BackgroundCommand:
    """A background command as a list shows it; ``exit_code`` is None while it runs and where it is not known."""

    id: str
    command: str
    running: bool
    exit_code: int | None
    started_at: str
    output_bytes: int


@dataclass(frozen=True)
class Captured:
    """A piece of a command's output and how the command was when it was read; ``offset`` is of its first byte."""

    data: bytes
    offset: int
    running: bool
    exit_code: int | None


@dataclass(frozen=True)
class _State:
    """What `background_read.sh` said, checked."""

    running: bool
    exit_code: int | None
    oldest: int
    end: int
    offset: int
    broken: bool
    user: str
    data: bytes


class Backgrounds:
    """The background commands of all DevBoxes. Holds no truth about them, only what spares looking in vain."""

    def __init__(
        self,
        engine: Engine,
        devboxes: DevBoxes,
        secret_env: SecretEnv,
        tasks: asyncio.TaskGroup,
        *,
        install: str,
        tenants: Mapping[str, TenantPolicy],
    ) -> None:
        self._engine = engine
        self._devboxes = devboxes
        self._secret_env = secret_env
        self._install = install
        self._policies = tenants
        self._tasks = tasks
        self._waiting: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._places = asyncio.Semaphore(_LOOKS_AT_ONCE)
        self._looks: dict[str, asyncio.Task[list[BackgroundCommand] | None]] = {}
        # Lists in which nothing runs stay true until something is started, which only happens here: by DevBox id, with
        # the DevBox's own start.
        self._settled: OrderedDict[str, tuple[str, list[BackgroundCommand]]] = OrderedDict()
        self._starts = 0

    async def start(self, request: StartBackground) -> str:
        """Start a command; returns its id. The same request, even to another executor, starts it once."""
        box = await self._box(request.tenant, request.devbox_id)
        background_id = self._id_of(request)
        await self._check_quota(request.tenant, background_id)
        asked = Launch(
            background_id=background_id,
            argv=(*await self._secret_env.prefix(box, request.env), *request.argv),
            user=request.user,
            workdir=request.workdir,
            env=dict(request.env),
            log_bytes=request.log_bytes,
            about=(
                request.fingerprint(),
                request.user,
                datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                shortened(request.argv),
            ),
        )
        launched = await launch(self._engine, box.container, asked)
        if launched is Launched.CLOSED:
            # The engine gives the volume to root or to the image's user; whoever has it lets the others in.
            for user in ("", "0"):
                await self._run(box, f"chmod 1777 {STATE}", user=user, timeout_s=_READ_TIMEOUT_S)
            launched = await launch(self._engine, box.container, asked)
        if launched is Launched.CLOSED:
            raise FailedPrecondition(
                f"{request.user or 'The user'} can write nothing to {STATE} in the DevBox: "
                "its disk is full, or somebody in it has closed that folder."
            )
        self._starts += 1
        self._settled.pop(box.id, None)
        log.info("background command %s in DevBox %s: %s", background_id, box.id, launched.value)
        return background_id

    async def capture(self, request: CaptureBackground) -> Captured:
        """Return output from an offset, or from the oldest byte kept where that is gone."""
        box = await self._box(request.tenant, request.devbox_id)
        now = asyncio.get_running_loop().time
        until = now() + request.wait_ms / 1000
        waiting = self._waiting.setdefault(box.id, asyncio.Semaphore(_WAITING_PER_BOX))
        try:
            async with asyncio.timeout_at(max(until, now() + 0.01)):
                await waiting.acquire()
        except TimeoutError:
            raise ResourceExhausted(
                f"{_WAITING_PER_BOX} captures wait in this DevBox: wait for some, or ask without waitMs."
            ) from None
        try:
            left_s = max(0.0, until - now())
            state = await self._read(
                box, request.background_id, offset=request.offset, max_bytes=request.max_bytes, wait_s=left_s
            )
        finally:
            waiting.release()
        if request.offset is not None and request.offset > state.end:
            raise InvalidArgument(f"offset {request.offset} is beyond the {state.end} bytes written so far.")
        if state.broken and not state.data and state.offset >= state.end:
            raise ResourceExhausted(
                f"The disk was full: the log ends at {state.end}, the command went on without it. "
                "DevBox.list says how it ended."
            )
        return Captured(state.data, state.offset, state.running, state.exit_code)

    async def kill(self, request: KillBackground) -> int | None:
        """End a command with all it started; returns its exit code where that is known. Safe to repeat."""
        box = await self._box(request.tenant, request.devbox_id)
        state = await self._read(box, request.background_id)
        grace = str(round(request.grace_s * 10))
        try:
            result = await self._run(
                box, _KILL, request.background_id, request.signal, grace, user=state.user,
                timeout_s=request.grace_s + _KILL_MARGIN_S,
            )  # fmt: skip
        except DeadlineExceeded:
            raise Unavailable("The command could not be killed in time: stop the DevBox.") from None
        if result.exit_code != 0:
            raise Unavailable("The command cannot be killed: stop the DevBox.")
        return (await self._read(box, request.background_id)).exit_code

    async def of(self, boxes: Iterable[DevBox]) -> dict[str, list[BackgroundCommand]]:
        """Return the commands of those DevBoxes that run, by DevBox id. One that does not answer soon is left out."""
        found: dict[str, list[BackgroundCommand]] = {}
        looks: dict[str, asyncio.Task[list[BackgroundCommand] | None]] = {}
        for box in boxes:
            if box.state != "running" or not box.has_state:
                continue
            settled = self._settled.get(box.id)
            if settled is not None and settled[0] == box.started_at:
                found[box.id] = settled[1]
                continue
            if box.id not in self._looks:  # a look that is under way will do
                look = self._tasks.create_task(self._look(box), name=f"background commands of {box.id}")
                self._looks[box.id] = look
            looks[box.id] = self._looks[box.id]
        if looks:
            await asyncio.wait(looks.values(), timeout=_LIST_TIMEOUT_S)
        for devbox_id, look in looks.items():
            if look.done() and not look.cancelled() and (commands := look.result()) is not None:
                found[devbox_id] = commands
        return found

    async def _check_quota(self, tenant: str, background_id: str) -> None:
        """Raise `ResourceExhausted` where the tenant has as many that run as it may; what was started is no news."""
        quota = self._policies[tenant].quotas.backgrounds
        if quota is None:
            return
        boxes = await self._devboxes.list_boxes(tenant)
        commands = [command for box in (await self.of(boxes)).values() for command in box]
        if background_id not in {command.id for command in commands}:
            check_count("background commands", quota, sum(command.running for command in commands))

    def close(self) -> None:
        """Stop looking: nobody is told any more."""
        for look in self._looks.values():
            look.cancel()

    # --- ours -----------------------------------------------------------------------------------------------

    async def _box(self, tenant: str, devbox_id: str) -> DevBox:
        box = await self._devboxes.get_running(tenant, devbox_id)
        if not box.has_state:
            raise FailedPrecondition(
                f"{box.name} was created by an earlier version of the worker and has no place for background commands: "
                "create it anew."
            )
        return box

    def _id_of(self, request: StartBackground) -> str:
        if not request.request_id:
            return f"b-{secrets.token_hex(12)}"
        # Out of what nobody in the box knows, so that nobody there can be first.
        asked = f"{self._install} {request.tenant} {request.devbox_id} {request.request_id}"
        return f"b-{hashlib.sha256(asked.encode()).hexdigest()[:24]}"

    async def _run(
        self, box: DevBox, script: str, *arguments: str, user: str, timeout_s: float, max_output_bytes: int = 4096
    ) -> ExecResult:
        request = ExecDevBox(
            tenant=box.tenant,
            devbox_id=box.id,
            argv=("/bin/sh", "-c", script, "sh", *arguments),
            user=user,
            max_output_bytes=max_output_bytes,
            timeout_ms=round(timeout_s * 1000),
        )
        return await run_command(self._engine, box.container, request, {}, None)

    async def _read(
        self, box: DevBox, background_id: str, *, offset: int | None = None, max_bytes: int = 0, wait_s: float = 0.0
    ) -> _State:
        refusal = NotFound(f"There is no background command {background_id}; DevBox.list shows those there are.")
        if not _ID.fullmatch(background_id):
            raise refusal
        result = await self._run(
            box, _READ, background_id, "-" if offset is None else str(offset), str(max_bytes), str(int(wait_s * 10)),
            user="", timeout_s=wait_s + _READ_TIMEOUT_S, max_output_bytes=max_bytes + _HEADER_BYTES,
        )  # fmt: skip
        if result.exit_code == _NO_SUCH:
            raise refusal
        state = _parsed(result.stdout, max_bytes)
        if state is None:
            raise Unavailable("The DevBox does not tell how the command is: its volume is damaged, or its disk full.")
        if not state.running and state.exit_code is None:
            # Whoever keeps the log was killed, or the box was stopped. Does the command itself go on?
            look = await self._run(box, _KILL, background_id, "look", "0", user=state.user, timeout_s=_READ_TIMEOUT_S)
            if look.exit_code == 1:
                return _State(**{**vars(state), "running": True})
        return state

    async def _look(self, box: DevBox) -> list[BackgroundCommand] | None:
        starts = self._starts
        try:
            async with self._places:
                result = await self._run(
                    box, _LIST, user="", timeout_s=_LOOK_TIMEOUT_S, max_output_bytes=_MAX_LIST_BYTES
                )
        except Refusal as refusal:
            log.info("DevBox %s is listed without its background commands: %s", box.id, refusal.message)
            return None
        except asyncio.CancelledError:  # the executor's end
            return None
        finally:
            del self._looks[box.id]
        commands = _listed(result.stdout)
        if starts == self._starts and not any(command.running for command in commands):
            self._settled[box.id] = (box.started_at, commands)
            while len(self._settled) > _REMEMBERED:
                self._settled.popitem(last=False)
        return commands


def shortened(argv: tuple[str, ...]) -> str:
    """Return a command as a line for people: what the shell runs, or the words."""
    text = argv[2] if argv[:2] == ("/bin/sh", "-c") and len(argv) == 3 else " ".join(argv)
    text = "".join(char if char.isprintable() else " " for char in text[: 2 * _COMMAND_CHARS]).strip()
    return text if len(text) <= _COMMAND_CHARS else f"{text[: _COMMAND_CHARS - 1]}…"


_HEADER = re.compile(rb"(running|ended) (-|-?\d{1,5}) (\d{1,18}) (\d{1,18}) (\d{1,18}) (-|broken) ?([^\n]{0,130})")


def _parsed(output: bytes, max_bytes: int) -> _State | None:
    """Read what `background_read.sh` printed; None for what it would never print."""
    head, _, data = output.partition(b"\n")
    found = _HEADER.fullmatch(head)
    if found is None or len(data) > max_bytes:
        return None
    state, code, oldest, end, offset, broken, user = (field.decode(errors="replace") for field in found.groups())
    return _State(
        running=state == "running",
        exit_code=None if code == "-" else int(code),
        oldest=int(oldest),
        end=int(end),
        offset=int(offset),
        broken=broken == "broken",
        user=user if re.fullmatch(USER_PATTERN, user) else "",
        data=data,
    )


def _listed(output: bytes) -> list[BackgroundCommand]:
    """Read what `background_list.sh` printed, leaving out what it would never print."""
    commands = []
    for line in output.decode(errors="replace").split("\n"):
        fields = line.split("\t", 5)
        if len(fields) != 6 or not _ID.fullmatch(fields[0]) or not re.fullmatch(r"\d{1,18}", fields[3]):
            continue
        background_id, state, code, size, started_at, command = fields
        commands.append(
            BackgroundCommand(
                id=background_id,
                command="".join(char for char in command if char.isprintable())[:MAX_STRING_BYTES],
                running=state == "running",
                exit_code=int(code) if re.fullmatch(r"-?\d{1,5}", code) else None,
                started_at=started_at if re.fullmatch(r"[0-9TZ:+.-]{1,40}", started_at) else "",
                output_bytes=int(size),
            )
        )
    return sorted(commands, key=lambda command: command.started_at)
