"""Kill what an exec left running in a box.

Engines have no way to kill an exec, and closing its stream ends nothing (moby/moby#9994, containers/podman#15377).
So every exec of ours carries ``CLUSTERCODE_EXEC=<marker>`` in its environment, which its children inherit, and is a
session leader with parent 0 in the box's pid namespace (both engines make it so). Killing is another exec, **as the
same user** (root without capabilities cannot signal other users), that looks for these and repeats until none is left.
"""

import asyncio
import logging
import secrets
import time
from typing import Literal

from executor.engine import Engine
from executor.exec_stream import READ_BYTES
from protos.errors import NotFound, Refusal, Unavailable

log = logging.getLogger(__name__)

MARKER_VARIABLE = "CLUSTERCODE_EXEC"

Kind = Literal["exec", "terminal", "display", "viewer"]
Scope = Literal["tree", "session"]

KILL_TIMEOUT_S = 15.0
_LOST_S = 60.0
_LOST_PAUSE_S = 1.0
_RUNNING = ("running", "paused", "stopping")
_ENDING_S = 1.0
_ENDING_PAUSE_S = 0.1

# scope "tree": all that carry the marker, and all of the sessions these are in: a command that took too long.
# scope "session": the leaders' sessions only, as when a terminal's window is closed: what made itself a session of
# its own (tmux, a daemon) was meant to outlive the terminal.
_SCRIPT = r"""
marker=$1 scope=$2 grace=$3 spare=$4 sessions=' '
stat_of() { { read -r line <"$1/stat"; } 2>/dev/null || return 1; set -- ${line##*) }; parent=$2 session=$4; }
marked() {
  { env=$(cat "$1/environ"); } 2>/dev/null
  case $env in *CLUSTERCODE_EXEC="$spare"*) return 1 ;; *CLUSTERCODE_EXEC="$marker"*) return 0 ;; *) return 1 ;; esac
}
scan() {
  pids=
  for p in /proc/[0-9]*; do
    stat_of "$p" || continue
    case $sessions in *" $session "*) ;; *) [ "$scope" = tree ] && marked "$p" || continue ;; esac
    { [ -n "$(cat "$p/cmdline")" ]; } 2>/dev/null || continue
    pids="$pids ${p#/proc/}"
  done
}
for p in /proc/[0-9]*; do
  stat_of "$p" && marked "$p" || continue
  [ "$scope" = tree ] || [ "$parent" = 0 ] && sessions="$sessions$session "
done
scan
[ -z "$pids" ] && exit 0
kill -s HUP $pids 2>/dev/null; kill -s TERM $pids 2>/dev/null; kill -s CONT $pids 2>/dev/null
while [ "$grace" -gt 0 ]; do
  sleep 0.1; scan; [ -z "$pids" ] && exit 0; grace=$((grace - 1))
done
tries=50
while [ "$tries" -gt 0 ]; do
  kill -s KILL $pids 2>/dev/null; sleep 0.05; scan; [ -z "$pids" ] && exit 0; tries=$((tries - 1))
done
exit 1
"""


_RUN = secrets.token_hex(4)
"""Names this executor's run: what carries another name was left by an earlier one."""


def new_marker(kind: Kind) -> str:
    """Return a marker no other exec carries."""
    return f"{kind}-{_RUN}-{secrets.token_hex(8)}"


async def kill_marked(
    engine: Engine,
    container: str,
    marker: str,
    *,
    scope: Scope,
    user: str = "",
    grace_s: float = 1.0,
    spare: str = "-",
) -> None:
    """Kill the processes of an exec (or of all whose marker starts so): HUP and TERM first, KILL after ``grace_s``.

    Those whose marker starts with ``spare`` are left alone.

    Returns when none is left, also because the box itself has ended meanwhile. Raises `Unavailable` when some are, or
    when the box cannot even start the killer (a fork bomb): the box must be stopped then. A box without ``sh`` raises
    too.
    """
    try:
        await _kill(engine, container, [marker, scope, str(round(grace_s * 10)), spare], user, grace_s)
    except Refusal:
        if not await has_ended(engine, container):
            raise


async def has_ended(engine: Engine, container: str) -> bool:
    """Say whether a box has ended and all in it with it, or is gone; one that the engine is just ending is waited for.

    For when something in it was not as it should be: what is killed with its box ends a moment before the box does.
    """
    began = time.monotonic()
    try:
        async with asyncio.timeout(KILL_TIMEOUT_S):
            while (status := str((await engine.inspect(container))["State"]["Status"])) in _RUNNING:
                if status != "stopping" and time.monotonic() - began > _ENDING_S:
                    return False
                await asyncio.sleep(_ENDING_PAUSE_S)
    except NotFound:
        return True
    except (Refusal, TimeoutError):
        return False
    return True


async def _kill(engine: Engine, container: str, arguments: list[str], user: str, grace_s: float) -> None:
    try:
        async with asyncio.timeout(KILL_TIMEOUT_S + grace_s):
            code = await _run(engine, container, ["/bin/sh", "-c", _SCRIPT, "sh", *arguments], user)
    except TimeoutError:
        raise Unavailable("Processes in the DevBox could not be killed in time: stop the DevBox.") from None
    if code == -1:
        raise Unavailable("The engine lost what kills processes in the DevBox: they may still run.")
    if code != 0:
        raise Unavailable(
            f"Processes in the DevBox could not be killed (exit code {code}): stop the DevBox. "
            "An image without /bin/sh has no way to kill a command."
        )


async def kill_lost(engine: Engine, container: str, marker: str, *, scope: Scope, user: str = "") -> None:
    """Kill what an exec left whose stream the engine lost, again and again until it is gone: the engine may be away.

    Gives up after a minute, which is logged.
    """
    try:
        async with asyncio.timeout(_LOST_S):
            while not await _is_gone(engine, container, marker, scope, user):
                await asyncio.sleep(_LOST_PAUSE_S)
    except TimeoutError:
        log.warning("%s: the engine lost a command, and it may still run", container)


async def _is_gone(engine: Engine, container: str, marker: str, scope: Scope, user: str) -> bool:
    """Try once to kill; says whether there is nothing left to kill."""
    try:
        await kill_marked(engine, container, marker, scope=scope, user=user)
    except Refusal as refusal:
        log.debug("%s: %s", container, refusal.message)
        return False
    return True


_LEFTOVERS: tuple[tuple[Kind, Scope], ...] = (("exec", "tree"), ("terminal", "session"), ("viewer", "tree"))


async def reap_leftovers(engine: Engine, container: str) -> None:
    """Kill what an earlier executor left behind in a box: nothing can reach those execs any more.

    What this one has begun meanwhile is spared.
    """
    for user in ("", "0"):
        for kind, scope in _LEFTOVERS:
            try:
                await kill_marked(engine, container, f"{kind}-", scope=scope, user=user, spare=f"{kind}-{_RUN}-")
            except Refusal as refusal:
                log.warning("%s: leftovers of an earlier executor: %s", container, refusal.message)
                return


class _Sink:
    """Takes no output: the killer says nothing of interest."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    def room(self) -> int:
        return READ_BYTES

    def output(self, data: memoryview) -> None:
        pass

    def input_taken(self) -> None:
        pass

    def ended(self) -> None:
        self.end.set()


async def _run(engine: Engine, container: str, argv: list[str], user: str) -> int:
    exec_id = await engine.create_exec(container, argv, env={}, user=user)
    sink = _Sink()
    stream = await engine.start_exec(exec_id, sink, tty=False)
    try:
        await sink.end.wait()
    finally:
        stream.close()
    return await exit_code(engine, exec_id)


async def exit_code(engine: Engine, exec_id: str, timeout_s: float = 5.0) -> int:
    """Return an exec's exit code once its stream has ended; -1 when the engine lost it.

    The engine may still say "running" for a moment after it closed the stream (containers/podman#28957).
    """
    try:
        async with asyncio.timeout(timeout_s):
            while (code := await engine.exec_exit_code(exec_id)) is None:
                await asyncio.sleep(0.01)
    except (TimeoutError, Refusal):
        return -1
    return code
