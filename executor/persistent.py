"""Persistent shells: a terminal's program inside tmux in the box, so that it outlives the terminal and the executor.

Each has a tmux server of its own, named for it, on that user's socket in the box. tmux is set up not to be noticed: no
status line, no keys of its own, no mouse, and output that scrolls into the viewer's own scrollback.

tmux keeps the last 50,000 lines, and shows whoever attaches the screen alone. So those that have left the screen come
before it: what the program wrote while nobody looked, or no executor ran, is not missing. They are fetched by a command
of their own, for tmux throws away what its terminal has not taken when it attaches. Lines that leave the screen between
the two are missing until the shell is opened again.
"""

from executor.devbox import DevBox
from executor.engine import Engine
from executor.exec_command import ExecResult, run_command
from executor.processes import has_ended
from executor.requests import ExecDevBox, OpenTerminal
from protos.errors import FailedPrecondition, Refusal

_TIMEOUT_MS = 15_000

# A failing `set` would end tmux's list of commands: -q, for options that this tmux does not know.
_SCRIPT = r"""
name=$1 last=$2 terminal=screen-256color
shift 2
for d in /usr/share/terminfo /lib/terminfo /etc/terminfo; do
  [ -e "$d/t/tmux-256color" ] && terminal=tmux-256color
done
if tmux -L "$name" has-session -t main 2>/dev/null; then
  exec tmux -u -L "$name" new-session -A -D -s main -- /bin/sh -c "$last" sh "$@"
fi
exec tmux -u -L "$name" -f /dev/null start-server \; \
  set -gq status off \; set -gq mouse off \; set -gq prefix None \; set -gq prefix2 None \; \
  unbind-key -a \; unbind-key -a -T root \; set -sq escape-time 0 \; set -gq history-limit 50000 \; \
  set -gq default-terminal "$terminal" \; set -sq terminal-overrides '*:Tc:smcup@:rmcup@:indn@' \; \
  set -gq focus-events on \; set -gq allow-passthrough on \; set -sq set-clipboard on \; \
  set -gq set-titles on \; set -gq set-titles-string '#T' \; \
  new-session -A -D -s main -- /bin/sh -c "$last" sh "$@"
"""

# Without a history, tmux would give the first line of the screen.
_HISTORY = r"""
tmux -L "$1" has-session -t main 2>/dev/null || exit 0
tmux -u -L "$1" display-message -p -t main '#{history_size}' \; capture-pane -peJ -t main -S - -E -1 | {
  read -r size
  [ "$size" = 0 ] || tail -c "$2"
}
"""
_HISTORY_BYTES = 1_000_000
"""Less than a command may print."""

# tmux drops what a program wrote last if the program ends before tmux has painted it. So the end waits until the
# server has answered, by which time it has read that, and a moment more for the painting.
_LAST = '"$@"; code=$?; tmux display-message -p . >/dev/null 2>&1; sleep 0.2; exit "$code"'


def command(name: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command that opens the shell of this name, or attaches to it, taking it from another terminal."""
    # tmux reads a semicolon at an argument's end as the end of its own command.
    words = (f"{word[:-1]}\\;" if word.endswith(";") else word for word in argv)
    return ("/bin/sh", "-c", _SCRIPT, "sh", _server(name), _LAST, *words)


async def check(engine: Engine, box: DevBox, request: OpenTerminal) -> None:
    """Raise `FailedPrecondition` where the box has no tmux."""
    result = await _run(engine, box.container, request, ("/bin/sh", "-c", "command -v tmux"))
    if result.exit_code != 0:
        raise FailedPrecondition(
            f"{box.name} has no tmux, which persistent shells need: leave persistent out, or use an image that has it, "
            "for example localhost/devbox:latest."
        )


async def history(engine: Engine, box: DevBox, request: OpenTerminal) -> bytes:
    """Return what left the screen of a shell that is there, and what it takes to empty the new terminal's."""
    script = ("/bin/sh", "-c", _HISTORY, "sh", _server(request.persistent), str(_HISTORY_BYTES))
    lines = (await _run(engine, box.container, request, script)).stdout
    if len(lines) >= _HISTORY_BYTES:
        lines = lines.partition(b"\n")[2]
    return (lines + b"\x1b[0m" + b"\n" * (request.rows - 1)).replace(b"\n", b"\r\n") if lines else b""


async def end(engine: Engine, container: str, request: OpenTerminal) -> None:
    """End a shell with what runs in it. Safe to repeat, and where the box itself has ended meanwhile."""
    try:
        await _run(engine, container, request, ("tmux", "-L", _server(request.persistent), "kill-server"))
    except Refusal:
        if not await has_ended(engine, container):
            raise


def _server(name: str) -> str:
    return f"clustercode-{name}"


async def _run(engine: Engine, container: str, request: OpenTerminal, argv: tuple[str, ...]) -> ExecResult:
    asked = ExecDevBox(
        tenant=request.tenant, devbox_id=request.devbox_id, argv=argv, user=request.user, timeout_ms=_TIMEOUT_MS
    )
    return await run_command(engine, container, asked, {}, None)
