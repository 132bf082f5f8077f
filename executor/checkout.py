"""A repository's working copy in a box: looked at, cloned, updated by the box's own git.

What git in a box says is hostile input: bounded, never trusted beyond that box. A clone is made in a draft folder and
becomes the working copy by a rename, so that it is there whole or not at all. An update only ever moves forward, and
only where no work of the box's owner could be in its way.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from executor import git
from executor.engine import Engine
from executor.exec_command import ExecResult, run_command
from executor.requests import ExecDevBox
from protos.errors import DeadlineExceeded, FailedPrecondition, NotFound, Refusal

Place = Literal["absent", "empty", "repository", "other"]
OnProgress = Callable[[str, float | None], Awaitable[None]]
_T = TypeVar("_T")

LOCAL_STEP_S = 300.0
"""For a step that must not stop half-way; it moves no data over a network."""
_WHOLE_COMMIT = 40
_OUTPUT_BYTES = 1024**2
_TICK_S = 0.25
_DRAFT = ".clustercode-setup-"

# Prints what is at the path, then the nearest folder above it that is there. Drafts found are of executors that died.
_LOOK = r"""
w=$1 above=${1%/*}
command -v git >/dev/null || { echo no-git; exit; }
while [ -n "$above" ] && [ ! -d "$above" ]; do above=${above%/*}; done
rm -rf "$above/$2"* "$w/$2"*
if [ ! -e "$w" ]; then [ -L "$w" ] && echo other || echo absent
elif [ -e "$w/.git" ]; then echo repository
elif [ -d "$w" ] && [ -z "$(ls -A "$w")" ]; then echo empty
else echo other; fi
echo "$above"
"""
# A folder that is there may be a mount, which nothing can be renamed to: then all in the draft moves, .git at last.
_KEEP = r"""
draft=$1 w=$2
if [ ! -e "$w" ]; then mkdir -p "${w%/*}" && mv "$draft" "$w"; exit; fi
cd "$draft" || exit
for f in .[!.]* ..?* *; do
  [ "$f" = .git ] || { [ ! -e "$f" ] && [ ! -L "$f" ]; } || mv -- "$f" "$w/" || exit
done
mv .git "$w/" && cd / && rmdir "$draft"
"""
_SUBMODULE_WORK = r"""
[ -z "$(git status --porcelain --ignore-submodules=all)" ] || echo "uncommitted changes in $displaypath"
[ "$(git rev-parse HEAD)" = "$sha1" ] || [ -z "$(git rev-list -n 1 HEAD --not --remotes)" ] ||
  echo "unpushed commits in $displaypath"
"""


@dataclass(frozen=True)
class Wanted:
    """What is to be checked out. ``depth`` 0: all history; ``branch`` empty: the repository's default."""

    remote: git.Remote
    branch: str = ""
    commit: str = ""
    depth: int = 0


class Checkout:
    """Git commands on one working copy, within one deadline, with the credential where git talks to the server."""

    def __init__(
        self,
        engine: Engine,
        container: str,
        workdir: str,
        remote: git.Remote,
        *,
        credential: str,
        prefix: tuple[str, ...],
        timeout_s: float,
        on_progress: OnProgress,
    ) -> None:
        self._engine = engine
        self._container = container
        self.workdir = workdir
        self._remote = remote
        self._credential = credential
        self._prefix = prefix
        self._env = git.environment(remote)
        self._timeout_s = timeout_s
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._on_progress = on_progress
        self._ticked = float("-inf")

    # --- A new working copy -----------------------------------------------------------------------------------------

    async def look(self) -> tuple[Place, str]:
        """Return what is at the place, and the nearest folder above it; raises where the box has no git."""
        result = await self.sh(_LOOK, self.workdir, _DRAFT)
        place, _, above = result.stdout.decode(errors="replace").partition("\n")
        if place not in ("absent", "empty", "repository", "other"):
            raise FailedPrecondition(
                "This DevBox's image has no git: make the DevBox from one that has, as localhost/devbox:latest."
            )
        return place, above.rstrip("\n")  # type: ignore[return-value] # just looked

    async def clone(self, wanted: Wanted, place: Place, above: str, dress: Callable[[str], Awaitable[None]]) -> None:
        """Clone, let ``dress`` add what belongs into the new working copy, and put it in its place."""
        draft = f"{self.workdir if place == 'empty' else above}/{_DRAFT}{secrets.token_hex(4)}"
        try:
            await self._clone(wanted, draft)
            await dress(draft)
            await self.finish(self._keep(draft))
        except BaseException:
            with contextlib.suppress(Refusal):  # the first failure is what is told
                await self.sh('rm -rf -- "$1"', draft, timeout_s=LOCAL_STEP_S)
            raise

    async def _clone(self, wanted: Wanted, draft: str) -> None:
        options = [f"--branch={wanted.branch}"] if wanted.branch else []
        if wanted.depth:
            options += [f"--depth={wanted.depth}", *(["--no-local"] if self._remote.kind == "path" else [])]
        if wanted.commit:
            options += ["--no-checkout"]
        await self._on_progress(f"Cloning {self._remote.url}", None)
        arguments = ("clone", "--progress", "--origin=origin", *options, "--", self._remote.url, draft)
        await self.git_remote(*arguments, doing="Cloning")
        if wanted.branch and await self.branch(draft) != wanted.branch:
            raise NotFound("The repository has no such branch. A tag is set up by its commit.")
        if wanted.commit:
            commit = await self._find_commit(wanted, draft)
            await self._check_out(wanted.branch, commit, draft)
        await self.update_submodules(draft)

    async def _keep(self, draft: str) -> None:
        result = await self.sh(_KEEP, draft, self.workdir, timeout_s=LOCAL_STEP_S)
        if result.exit_code != 0:
            raise FailedPrecondition(
                f"The clone cannot be put at {self.workdir}: {git.plain(result.stderr)[:200]}. "
                "Choose a workdir that the DevBox's user may write, as in /workspace."
            )

    # --- One that is there ------------------------------------------------------------------------------------------

    async def check_is_of(self, remote: git.Remote) -> None:
        """Raise unless this is a working copy of that repository."""
        prefix = await self.ask("rev-parse", "--show-prefix")
        origin = await self.ask("config", "--get", "remote.origin.url")
        if prefix is None or prefix or origin is None or not remote.is_same(origin):
            holds = git.redacted(origin or "no repository that can be read", self._credential)[:200]
            raise FailedPrecondition(
                f"{self.workdir} holds another repository ({holds}): give another workdir, or move that one away."
            )

    async def changes(self) -> list[tuple[str, str]]:
        """Return (state, path) of every file that is changed or new, in git's two letters for states."""
        arguments = ("status", "--porcelain=v1", "-z", "--untracked-files=normal", "--ignore-submodules=all")
        listed = (await self.git(*arguments, doing="Looking for local changes")).decode(errors="surrogateescape")
        entries = iter(listed.split("\0"))
        changes = []
        for entry in entries:
            if entry:
                changes.append((entry[:2], entry[3:]))
                if entry[0] in "RC":
                    next(entries, None)  # where it was before
        return changes

    async def check_nothing_unpushed(self, branch: str) -> None:
        """Raise where commits, or work in submodules, exist in this box only."""
        tips = ["HEAD", *([f"refs/heads/{branch}"] if branch else [])]
        tips = [tip for tip in tips if await self.ask("rev-parse", "--verify", "--quiet", tip)]
        if tips:
            known = ("--not", "--remotes", "--glob=refs/clustercode/*")
            count = await self.git("rev-list", "--count", *tips, *known, doing="Looking for unpushed commits")
            if count.strip() != b"0":
                raise FailedPrecondition(
                    f"{self.workdir} has commits that are not pushed: push them first, or give another workdir."
                )
        arguments = ("submodule", "foreach", "--quiet", "--recursive", _SUBMODULE_WORK)
        if found := git.plain(await self.git(*arguments, doing="Looking into submodules")):
            raise FailedPrecondition(f"{self.workdir} has {found[:200]}: push that first, or give another workdir.")

    async def fetch(self, wanted: Wanted) -> tuple[str, str]:
        """Get what is new; return the branch to be on, empty for none, and what it is to be at, empty for nothing."""
        branch = wanted.branch or ("" if wanted.commit else await self._default_branch())
        await self._on_progress(f"Fetching {self._remote.url}", None)
        whole = (
            ["--unshallow"]
            if not wanted.depth and await self.ask("rev-parse", "--is-shallow-repository") == "true"
            else []
        )
        refs = [f"+refs/heads/{branch}:refs/remotes/origin/{branch}"] if branch else []
        await self.git_remote("-C", self.workdir, "fetch", "--progress", *whole, "origin", *refs, doing="Fetching")
        if wanted.commit:
            return wanted.branch, await self._find_commit(wanted, self.workdir)
        return branch, f"refs/remotes/origin/{branch}" if branch else ""

    async def advance(self, branch: str, target: str) -> None:
        """Check out a branch moved forward to its target, or without a branch the target by itself.

        Raises `FailedPrecondition`, with everything as it was, where that is not forward or a file is in the way.
        """
        is_new = bool(branch) and await self.ask("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}") is None
        ours = f"refs/heads/{branch}"
        if branch and not is_new and await self.ask("merge-base", "--is-ancestor", ours, target) is None:
            raise FailedPrecondition(
                f"The branch {branch} in {self.workdir} cannot be moved forward to what is asked for: it has gone "
                "another way or further. Merge there by hand, or give another workdir."
            )
        await self._check_out(branch, target, self.workdir)
        if is_new:
            for key, value in (("remote", "origin"), ("merge", f"refs/heads/{branch}")):
                await self.git("config", f"branch.{branch}.{key}", value, doing="Setting the branch up")

    async def _default_branch(self) -> str:
        listed = await self.git_remote("-C", self.workdir, "ls-remote", "--symref", "origin", "HEAD", doing="Asking")
        first = listed.decode(errors="replace").split("\n", 1)[0]
        return first.removeprefix("ref: refs/heads/").split("\t")[0] if first.startswith("ref: refs/heads/") else ""

    # --- Both -------------------------------------------------------------------------------------------------------

    async def _find_commit(self, wanted: Wanted, at: str) -> str:
        """Return the whole name of the commit wanted, fetching it where it is not there."""
        asked = ("rev-parse", "--verify", "--quiet", f"{wanted.commit}^{{commit}}")
        found = await self.ask(*asked, at=at)
        if found is None and len(wanted.commit) >= _WHOLE_COMMIT:
            depth = [f"--depth={wanted.depth}"] if wanted.depth else []
            arguments = ("-C", at, "fetch", "--progress", *depth, "origin", wanted.commit)
            await self.git_remote(*arguments, doing="Fetching a commit")
            found = await self.ask(*asked, at=at)
        if found is None or not found.startswith(wanted.commit.lower()):  # else a branch has such a name
            raise NotFound(f"The repository has no commit {wanted.commit}; of one on no branch give all 40 digits.")
        return found

    async def _check_out(self, branch: str, target: str, at: str) -> None:
        where = ["-B", branch, "--no-track"] if branch else ["--detach"]
        arguments = ("checkout", "--progress", "--no-overwrite-ignore", *where, target, "--")
        await self.git(*arguments, at=at, doing="Checking out", shows_progress=True)
        # A commit that came by its name alone is on no branch of the server's: remember that it is not the owner's.
        await self.git("update-ref", "refs/clustercode/setup", "HEAD", at=at, doing="Checking out")

    async def update_submodules(self, at: str) -> None:
        """Bring submodules to what the working copy says, where it has any."""
        if await self.ask("cat-file", "-e", "HEAD:.gitmodules", at=at) is None:
            return
        await self._on_progress("Updating submodules", None)
        arguments = ("-C", at, "submodule", "update", "--init", "--recursive", "--progress")
        await self.git_remote(*arguments, doing="Updating submodules")

    async def branch(self, at: str) -> str:
        """Return the branch checked out; empty for a commit by itself."""
        return await self.ask("symbolic-ref", "--quiet", "--short", "HEAD", at=at) or ""

    async def commit(self) -> str:
        """Return the commit checked out; empty in a repository that has none yet."""
        return await self.ask("rev-parse", "--verify", "--quiet", "HEAD") or ""

    # --- Running ----------------------------------------------------------------------------------------------------

    async def git(self, *arguments: str, at: str = "", doing: str, shows_progress: bool = False) -> bytes:
        """Run a local git command and return its output; raises what it says."""
        argv = git.command("-C", at or self.workdir, *arguments)
        return self._output(await self.run(argv, shows_progress=shows_progress), doing)

    async def run_git(self, at: str, *arguments: str) -> ExecResult:
        """Run a local git command, however it ends."""
        return await self.run(git.command("-C", at or self.workdir, *arguments))

    async def ask(self, *arguments: str, at: str = "") -> str | None:
        """Return the one line a git command prints; None where it says no by its exit code."""
        result = await self.run_git(at, *arguments)
        return git.plain(result.stdout) if result.exit_code == 0 else None

    async def git_remote(self, *arguments: str, doing: str) -> bytes:
        """Run a git command that talks to the server."""
        if self._credential:
            argv, stdin = git.command_with_credential(self._remote, *arguments), f"{self._credential}\n".encode()
        else:
            argv, stdin = git.command(*arguments), b""
        return self._output(await self.run(argv, stdin=stdin, shows_progress=True), doing)

    async def sh(self, script: str, *arguments: str, stdin: bytes = b"", timeout_s: float | None = None) -> ExecResult:
        """Run a script in the box."""
        return await self.run(["/bin/sh", "-c", script, "sh", *arguments], stdin=stdin, timeout_s=timeout_s)

    async def run(
        self, argv: list[str], *, stdin: bytes = b"", shows_progress: bool = False, timeout_s: float | None = None
    ) -> ExecResult:
        """Run a command within the setup's deadline, or within ``timeout_s`` where it must come to its end."""
        left_s = self._deadline - asyncio.get_running_loop().time() if timeout_s is None else timeout_s
        request = ExecDevBox(
            tenant="setup",
            devbox_id="setup",
            argv=tuple(argv),
            stdin=stdin,
            max_output_bytes=_OUTPUT_BYTES,
            timeout_ms=max(1, int(left_s * 1000)),
        )
        lines = git.ProgressLines(self._credential)

        async def on_chunk(is_stderr: bool, data: bytes) -> None:
            if is_stderr:
                for message, fraction in lines.feed(data):
                    await self._tell(message, fraction)

        try:
            return await run_command(
                self._engine,
                self._container,
                request,
                self._env,
                on_chunk if shows_progress else None,
                self._prefix,
                insist=True,
            )
        except DeadlineExceeded:
            raise DeadlineExceeded(
                f"The setup did not end within {self._timeout_s:g} s and was stopped: give it a longer timeoutMs."
            ) from None

    async def finish(self, step: Coroutine[None, None, _T]) -> _T:
        """Let a step that must not stop half-way come to its end, when the setup is cancelled or out of time too."""
        refusals: list[Refusal] = []
        deadline = self._deadline
        self._deadline = max(deadline, asyncio.get_running_loop().time() + LOCAL_STEP_S)

        async def guarded() -> _T | None:
            try:
                return await step
            except Refusal as refusal:  # not through the task group, which would wrap it
                refusals.append(refusal)
                return None

        async with asyncio.TaskGroup() as group:
            task = group.create_task(guarded(), name="setup step")
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])  # bounded by the step's own timeouts
                raise
        self._deadline = deadline
        if refusals:
            raise refusals[0]
        return cast("_T", task.result())

    async def _tell(self, message: str, fraction: float | None) -> None:
        now = asyncio.get_running_loop().time()
        if fraction == 1 or now - self._ticked >= _TICK_S:
            self._ticked = now
            await self._on_progress(message, fraction)

    def _output(self, result: ExecResult, doing: str) -> bytes:
        if result.exit_code != 0:
            raise git.refusal_of(result.stderr, self._credential, doing=doing)
        return result.stdout
