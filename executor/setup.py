"""``DevBox.setup``: a repository cloned inside the box, or brought up to date there, and CLAUDE.md told of the work.

Safe to repeat: what is there moves forward only, and work that exists in the box alone is never touched; then the
refusal says what to do. CLAUDE.md's own section (`executor.claude_md`) counts as nobody's work.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from executor import claude_md
from executor.checkout import LOCAL_STEP_S, Checkout, OnProgress, Wanted
from executor.devbox import WORKSPACE
from executor.devboxes import DevBoxes
from executor.engine import Engine
from executor.git import Remote, environment, plain
from executor.redaction import SECRETS
from executor.requests import SetupDevBox
from executor.secret_env import SecretEnv
from protos.errors import FailedPrecondition, Refusal, ResourceExhausted

_FILE = "CLAUDE.md"
_MAX_FILE_BYTES = 512 * 1024

# Prints "file PATH" and the content, "absent PATH", or "outside" for a link that leads out of the repository. A link
# to a file inside is followed, as to AGENTS.md.
_READ = r"""
cd "$1" || exit
top=$(pwd -P) file=CLAUDE.md
if [ -L CLAUDE.md ]; then
  file=$(readlink -f CLAUDE.md) || file=
  case $file in *'
'*|"$top"/.git/*) file= ;; "$top"/*) file=${file#"$top"/} ;; *) file= ;; esac
  [ -n "$file" ] && [ -f "$file" ] || { echo outside; exit; }
fi
if [ -f "$file" ]; then echo "file $file"; cat "./$file"
elif [ -e "$file" ]; then echo outside
else echo "absent $file"; fi
"""
# Never through a link, never half a file. A file that is the worker's alone is kept out of `git status`.
_WRITE = r"""
cd "$1" || exit
file=./$2 draft=./$2.clustercode exclude=$3
trap 'rm -f "$draft"' EXIT
[ ! -e "$file" ] || cp -p "$file" "$draft" || exit
cat >"$draft" && mv -f "$draft" "$file" || exit
[ -n "$exclude" ] || exit 0
list=$(git rev-parse --git-path info/exclude) && mkdir -p "${list%/*}" || exit
grep -qxF "/$2" "$list" 2>/dev/null || echo "/$2" >>"$list"
"""


@dataclass(frozen=True)
class SetupResult:
    """What is there now; ``branch`` is empty for a commit by itself, ``claude_md`` where nothing was to be told."""

    workdir: str
    branch: str
    commit: str
    claude_md: str


@dataclass(frozen=True)
class _File:
    """CLAUDE.md as it is: the path it is at, its content, None where there is none; and the repository's, if any."""

    path: str
    content: bytes | None = None
    tracked: bytes | None = None
    trouble: Refusal | None = None
    """Why it cannot be written."""

    @property
    def is_ours(self) -> bool:
        """Whether all that it has beyond the repository's is our section."""
        return self.content is not None and claude_md.differs_only_in_section(self.content, self.tracked or b"")


class Setups:
    """Sets DevBoxes up, one at a time in each."""

    def __init__(self, engine: Engine, devboxes: DevBoxes, secret_env: SecretEnv) -> None:
        self._engine = engine
        self._devboxes = devboxes
        self._secret_env = secret_env
        self._busy: set[str] = set()

    async def set_up(self, request: SetupDevBox, on_progress: OnProgress) -> SetupResult:
        """Clone or update, and write CLAUDE.md; fails or is cancelled with the box as it was."""
        remote = Remote.of(request.url)
        if request.credential:
            remote.check_credential()
        wanted = Wanted(remote, request.branch, request.commit, request.depth)
        text = claude_md.section(
            claude_md.Ticket(request.ticket_id, request.ticket_title, request.ticket_body, request.ticket_url),
            request.instructions,
        )
        box = await self._devboxes.get_running(request.tenant, request.devbox_id)
        checkout = Checkout(
            self._engine,
            box.container,
            request.workdir or _workdir(remote),
            remote,
            credential=request.credential,
            prefix=await self._secret_env.prefix(box, environment(remote)),
            timeout_s=request.timeout_ms / 1000,
            on_progress=on_progress,
        )
        async with self._alone(box.id):
            with SECRETS.during(f"setup of {box.id}", request.credential):
                return await _set_up(checkout, wanted, text, on_progress)

    @contextlib.asynccontextmanager
    async def _alone(self, devbox_id: str) -> AsyncIterator[None]:
        if devbox_id in self._busy:
            raise FailedPrecondition("A setup of this DevBox is under way: wait for its end, or cancel it.")
        self._busy.add(devbox_id)
        try:
            yield
        finally:
            self._busy.discard(devbox_id)


def _workdir(remote: Remote) -> str:
    """Return where a repository goes by itself: a folder of its name, beside it where it is in the workspace."""
    workdir = f"{WORKSPACE}/{remote.folder}"
    return f"{workdir}-work" if remote.is_same(workdir) else workdir


async def _set_up(checkout: Checkout, wanted: Wanted, text: bytes, on_progress: OnProgress) -> SetupResult:
    await on_progress(f"Looking at {checkout.workdir}", None)
    place, above = await checkout.look()
    if place == "other":
        raise FailedPrecondition(
            f"{checkout.workdir} is there and is not a repository: give another workdir, or empty that one."
        )
    written = False
    if place == "repository":
        written = await _update(checkout, wanted, text)
    else:

        async def dress(draft: str) -> None:
            nonlocal written
            written = await _tell(checkout, draft, text)

        await checkout.clone(wanted, place, above, dress)
    workdir = checkout.workdir
    return SetupResult(
        workdir=workdir,
        branch=await checkout.branch(workdir),
        commit=await checkout.commit(),
        claude_md=f"{workdir}/{_FILE}" if written else "",
    )


async def _update(checkout: Checkout, wanted: Wanted, text: bytes) -> bool:
    """Move what is there forward; tells whether CLAUDE.md has our section now."""
    await checkout.check_is_of(wanted.remote)
    file = await _read(checkout, checkout.workdir)
    if text and file.trouble:
        raise file.trouble
    changed = [path for state, path in await checkout.changes() if not _is_of_ours(state, path, file)]
    if changed:
        listed = ", ".join(plain(path.encode(errors="replace"))[:100] for path in changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise FailedPrecondition(
            f"{checkout.workdir} has changes that are not committed ({listed}{more}): commit or stash them "
            "(git stash -u), or give another workdir."
        )
    await checkout.check_nothing_unpushed(wanted.branch)
    branch, target = await checkout.fetch(wanted)
    written = await checkout.finish(_advance(checkout, file, branch, target, text))
    await checkout.update_submodules(checkout.workdir)
    return written


def _is_of_ours(state: str, path: str, file: _File) -> bool:
    """Whether a change that git lists is only our section in CLAUDE.md."""
    return path == file.path and state in (" M", "M ", "MM") and file.is_ours


async def _advance(checkout: Checkout, file: _File, branch: str, target: str, text: bytes) -> bool:
    """Take our section out of git's way, move forward, and put the section back, new or as it was."""
    workdir = checkout.workdir
    lifted = file.is_ours and file.content != file.tracked
    if lifted and file.tracked is not None:
        await checkout.git("checkout", "HEAD", "--", file.path, doing="Taking the section out of CLAUDE.md")
    elif lifted:
        await checkout.sh('rm -f -- "$1/$2"', workdir, file.path)
    try:
        if target:
            await checkout.advance(branch, target)
    except BaseException:
        if lifted and file.content is not None:
            await _write(checkout, workdir, file.path, file.content, excluded=file.tracked is None)
        raise
    return await _tell(checkout, workdir, text or claude_md.section_in(file.content or b""))


async def _tell(checkout: Checkout, at: str, text: bytes) -> bool:
    """Put the section into CLAUDE.md; tells whether there is one to put."""
    if not text:
        return False
    file = await _read(checkout, at)
    if file.trouble:
        raise file.trouble
    content = claude_md.with_section(file.content or b"", text)
    if content != file.content:
        await _write(checkout, at, file.path, content, excluded=file.tracked is None)
    return True


async def _read(checkout: Checkout, at: str) -> _File:
    result = await checkout.sh(_READ, at, timeout_s=LOCAL_STEP_S)
    head, _, content = result.stdout.partition(b"\n")
    what, _, name = head.decode(errors="replace").partition(" ")
    if result.exit_code != 0 or what not in ("file", "absent") or "\ufffd" in name:
        return _File(_FILE, trouble=FailedPrecondition(
            f"{_FILE} of this repository is no file in it (a folder, or a link that leads out): it cannot be written. "
            "Leave ticket and instructions out, or change the repository."
        ))  # fmt: skip
    if len(content) > _MAX_FILE_BYTES or result.stdout_cut:
        size = f"{_MAX_FILE_BYTES // 1024} KiB"
        return _File(_FILE, trouble=ResourceExhausted(f"{_FILE} of this repository has more than {size}."))
    # As git would write it into the working copy, line ends and all.
    original = await checkout.run_git(at, "cat-file", "--filters", f"HEAD:{name}")
    return _File(
        path=name,
        content=content if what == "file" else None,
        tracked=original.stdout if original.exit_code == 0 else None,
    )


async def _write(checkout: Checkout, at: str, path: str, content: bytes, *, excluded: bool) -> None:
    flag = "exclude" if excluded else ""
    result = await checkout.sh(_WRITE, at, path, flag, stdin=content, timeout_s=LOCAL_STEP_S)
    if result.exit_code != 0:
        raise FailedPrecondition(f"{_FILE} cannot be written: {plain(result.stderr)[:200]}.")
