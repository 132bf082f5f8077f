"""Starting a background command: one exec whose stream is let go of as soon as the box has answered a line."""

import asyncio
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from executor.engine import Engine
from executor.exec_stream import Demultiplexer
from executor.processes import MARKER_VARIABLE, exit_code, kill_marked
from protos.errors import FailedPrecondition, InvalidArgument, Refusal, ResourceExhausted, Unavailable

KEEPER_VARIABLE = "CLUSTERCODE_KEEPER"
_SCRIPT_VARIABLE = "CLUSTERCODE_SCRIPT"
_SCRIPT = Path(__file__).with_name("background_run.sh").read_text(encoding="utf-8")
_START_TIMEOUT_S = 30.0
_ANSWER_BYTES = 8 * 1024
_BLOCK_BYTES = 64 * 1024
_TOO_MANY, _NOT_WRITTEN, _CLOSED = 73, 74, 77
_NO_SHELL = (126, 127)


class Launched(Enum):
    """What came of it."""

    STARTED = "started"
    THERE = "was started before"
    CLOSED = "not started: its user may not write to the volume"


@dataclass(frozen=True)
class Launch:
    """What to start. ``about`` is kept in the box, a line each; its first is the fingerprint of the request."""

    background_id: str
    argv: tuple[str, ...]
    user: str
    workdir: str
    env: dict[str, str]
    log_bytes: int
    about: tuple[str, ...]

    @property
    def piece_bytes(self) -> int:
        """How much of the log goes at a time when it is full: a sixteenth, at most 4 MiB, in blocks of `dd`."""
        blocks = self.log_bytes // 16 // _BLOCK_BYTES
        return max(1, min(64, blocks)) * _BLOCK_BYTES


async def launch(engine: Engine, container: str, asked: Launch) -> Launched:
    """Start a command unless it was started before.

    However it fails or is cancelled, nothing of it runs afterwards; an executor that is killed meanwhile has either
    started it or not, and a repeat finds out.
    """
    marker = f"background-{asked.background_id}"
    exec_id = await engine.create_exec(
        container,
        # The script comes by the environment, for the sake of whoever looks at the box's processes.
        ("/bin/sh", "-c", f'eval "${_SCRIPT_VARIABLE}"', "sh", asked.background_id, str(asked.log_bytes),
         str(asked.piece_bytes), *asked.about, "--", *asked.argv),
        env={
            **asked.env,
            MARKER_VARIABLE: marker,
            KEEPER_VARIABLE: asked.background_id,
            _SCRIPT_VARIABLE: _SCRIPT,
        },
        user=asked.user,
        workdir=asked.workdir,
    )  # fmt: skip
    answer = _Answer()
    stream = await engine.start_exec(exec_id, answer, tty=False)
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await answer.come.wait()
    except BaseException as error:
        await kill_marked(engine, container, marker, scope="tree", user=asked.user)
        if isinstance(error, TimeoutError):
            raise Unavailable("The DevBox did not start the command in time: look at what else it does.") from None
        raise
    finally:
        stream.close()
    said = bytes(answer.stdout).decode(errors="replace")
    if said.startswith("started\n"):
        return Launched.STARTED
    code = await exit_code(engine, exec_id)
    if said.startswith("there ") and code == 0:
        fingerprint = said.removeprefix("there ").strip()
        if fingerprint and fingerprint != asked.about[0]:
            raise InvalidArgument("This id was used for another command: give each command an id of its own.")
        return Launched.THERE
    if code == _CLOSED:
        return Launched.CLOSED
    if code == -1:
        raise Unavailable("The engine lost the command: it may run. Send it again with the same id to find out.")
    raise _refusal(code, bytes(answer.stderr).decode(errors="replace"))


def _refusal(code: int, stderr: str) -> Refusal:
    if code == _TOO_MANY:
        return ResourceExhausted("100 background commands run in this DevBox: kill some first.")
    if code == _NOT_WRITTEN:
        return ResourceExhausted("The DevBox's disk is full: make room, then send it again.")
    said = "".join(char if char.isprintable() else " " for char in stderr)[:300].strip()
    if code in _NO_SHELL:
        return FailedPrecondition(f"Background commands need an image that has /bin/sh. ({said})")
    return FailedPrecondition(
        f"The command was not started (exit code {code}): {said or 'the engine does not say why'}"
    )


class _Answer:
    """The first line of the runner, or all that came instead; bounded."""

    def __init__(self) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.come = asyncio.Event()
        self._demultiplexer = Demultiplexer()

    def room(self) -> int:
        return max(0, _ANSWER_BYTES - len(self.stdout) - len(self.stderr))

    def output(self, data: memoryview) -> None:
        for kind, piece in self._demultiplexer.feed(data):
            (self.stderr if kind == Demultiplexer.STDERR else self.stdout).extend(piece)
        if b"\n" in self.stdout or not self.room():
            self.come.set()

    def input_taken(self) -> None:
        pass

    def ended(self) -> None:
        self.come.set()
