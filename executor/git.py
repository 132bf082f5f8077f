"""Git as a setup uses it, without running it: addresses, environment, arguments, progress and errors. Pure.

A credential goes to git's standard input only; a one-line shell keeps it in its own environment, where the credential
helper on git's command line finds it by its variable's name. So it is in no argument, no configuration, no remote's
address, and in nothing the engine stores about an exec. The helper answers for the repository's own server alone: a
submodule elsewhere gets nothing.
"""

import re
import shlex
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit

from protos.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Refusal,
    ResourceExhausted,
    Unavailable,
)

CREDENTIAL_VARIABLE = "CLUSTERCODE_GIT_CREDENTIAL"
DEFAULT_USER = "x-access-token"
"""For a credential whose address names no user: what GitHub asks for and the others do not look at."""

Kind = Literal["http", "ssh", "path"]

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.+%~-]*"
_URL = re.compile(rf"(https?|ssh|git)://(?:({_USER})@)?({_HOST})(:[0-9]{{1,5}})?(/[^\s?#\\]*)")
_SCP = re.compile(rf"(?:{_USER}@)?({_HOST}):([^\s:\\-][^\s\\]*)")
_LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|\[::1\]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_PERCENT = re.compile(r"(?:remote: )?([A-Z][A-Za-z ]{2,40}):\s+([0-9]{1,3})% \(([0-9]+)/([0-9]+)\)(.*)")
_MAX_LINE_BYTES = 4096
_MAX_SHOWN = 300


@dataclass(frozen=True)
class Remote:
    """Where a repository is, as checked: it cannot be taken for an option and holds no password."""

    url: str
    kind: Kind
    site: str
    """Scheme, host and port, as git compares credentials; empty but for ``http``."""
    host: str
    user: str

    @classmethod
    def of(cls, url: str) -> "Remote":
        """Read an address; raises `InvalidArgument`, which never repeats it: it may hold a secret."""
        if _UNPRINTABLE.search(url):
            raise InvalidArgument("repository.url: control characters are not part of an address.")
        if url.startswith(("/", "file:///")):
            path = url.removeprefix("file://")
            if ".." in path.split("/"):
                raise InvalidArgument("repository.url: write the path in the DevBox without '..'.")
            return cls(path, "path", "", "", "")
        if found := _URL.fullmatch(url):
            scheme, user, host, port, _ = found.groups()
            site = f"{scheme}://{host}{port or ''}"
            is_http = scheme in ("http", "https")
            return cls(url, "http" if is_http else "ssh", site if is_http else "", host, user or "")
        if "://" not in url and (found := _SCP.fullmatch(url)):
            return cls(url, "ssh", "", found[1], "")
        if _has_password(url):
            raise InvalidArgument(
                "repository.url: leave the password out of the address and send it as repository.credential."
            )
        raise InvalidArgument(
            "repository.url: give an https or ssh address, or an absolute path in the DevBox, without query or spaces."
        )

    @property
    def folder(self) -> str:
        """Name of the folder that a clone goes to by itself."""
        last = re.split(r"[/:]", self.url.rstrip("/"))[-1].removesuffix(".git")
        return re.sub(r"[^A-Za-z0-9._-]", "-", last).strip(".-") or "repository"

    def check_credential(self) -> None:
        """Raise `InvalidArgument` where a credential has no use or could be read on its way."""
        if self.kind != "http":
            raise InvalidArgument(
                "repository.credential is for https addresses: ssh takes a key in the DevBox, a path needs none."
            )
        if self.site.startswith("http:") and not _LOOPBACK.fullmatch(self.host):
            raise InvalidArgument("repository.credential would cross the network in the clear: use an https address.")

    def is_same(self, url: str) -> bool:
        """Whether another address, as git keeps it, means this repository."""
        return _normal(self.url) == _normal(url)


def _has_password(url: str) -> bool:
    authority = url.partition("://")[2].partition("/")[0]
    return ":" in authority.rpartition("@")[0]


def _normal(url: str) -> str:
    """Return an address without what makes no difference: user, file://, a last slash, .git."""
    url = url.removeprefix("file://")
    try:
        parts = urlsplit(url)
        if parts.scheme and parts.netloc:
            url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}{parts.path}"
    except ValueError:  # what a box has in its configuration may be anything
        return url
    return url.rstrip("/").removesuffix(".git").rstrip("/")


def environment(remote: Remote) -> dict[str, str]:
    """Return the environment of every git command: no questions, no traces, English, known transports only.

    ``ext::`` runs commands and is never allowed; ``file`` only for a repository that is in the box itself, so that no
    submodule of a remote one reads the box's files.
    """
    return {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git" + (":file" if remote.kind == "path" else ""),
        "GIT_TRACE_REDACT": "1",
        **dict.fromkeys(("GIT_TRACE", "GIT_TRACE_CURL", "GIT_TRACE2", "GIT_TRACE2_EVENT", "GIT_TRACE2_PERF"), "0"),
    }


_QUIET = (
    # Nothing of the box's own runs beside git while it holds a credential, and nothing lingers after it.
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
)


def command(*arguments: str) -> list[str]:
    """Return the command line of a git command that needs no credential."""
    return ["git", *_configured(_QUIET), *arguments]


def command_with_credential(remote: Remote, *arguments: str) -> list[str]:
    """Return the command line of a git command that reads a credential, one line, from its standard input."""
    user = "" if remote.user else f"echo username={shlex.quote(DEFAULT_USER)}; "
    helper = f"""!f() {{ [ "$1" != get ] || {{ {user}printf 'password=%s\\n' "${CREDENTIAL_VARIABLE}"; }}; }}; f"""
    settings = (*_QUIET, "credential.helper=", f"credential.{remote.site}.helper={helper}")
    shell = f'IFS= read -r {CREDENTIAL_VARIABLE}; export {CREDENTIAL_VARIABLE}; exec "$@"'
    return ["/bin/sh", "-c", shell, "sh", "git", *_configured(settings), *arguments]


def _configured(settings: tuple[str, ...]) -> list[str]:
    return [part for setting in settings for part in ("-c", setting)]


def redacted(text: str, credential: str) -> str:
    """Return text without a credential, however git may have written it."""
    for form in {credential, quote(credential, safe="")} - {""}:
        text = text.replace(form, "***")
    return text


class ProgressLines:
    """Reads git's progress off its standard error, whose lines end in CR while they count."""

    def __init__(self, credential: str) -> None:
        self._credential = credential
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[str, float | None]]:
        """Return the (sentence, fraction of this step) of each complete line that tells of progress."""
        *lines, rest = re.split(rb"[\r\n]", self._rest + data)
        self._rest = rest[-_MAX_LINE_BYTES:]
        steps: list[tuple[str, float | None]] = []
        for line in lines:
            text = redacted(plain(line), self._credential)
            if found := _PERCENT.fullmatch(text):
                name, percent, done, total, more = found.groups()
                more = more.removesuffix(", done.")
                steps.append((f"{name}: {done} of {total}{more}"[:_MAX_SHOWN], min(int(percent), 100) / 100))
            elif text.startswith("Submodule "):
                steps.append((text[:_MAX_SHOWN], None))
        return steps


def plain(data: bytes) -> str:
    """Return what a box or a server wrote as text that is safe to show in a line."""
    return _UNPRINTABLE.sub(" ", data.decode(errors="replace")).strip()


_REASONS: tuple[tuple[str, type[Refusal], str], ...] = (
    (r"Remote branch .* not found|couldn't find remote ref", NotFound, "The repository has no such branch"),
    (r"not our ref|unadvertised object", NotFound, "The repository does not give that commit"),
    (
        r"could not read (Username|Password)|terminal prompts disabled",
        PermissionDenied,
        "The repository asks for a credential: send it as repository.credential",
    ),
    (
        r"Authentication failed|error: 40[13]|HTTP 40[13]",
        PermissionDenied,
        "The repository's server does not accept this credential for it",
    ),
    (
        r"Permission denied \(|Host key verification failed",
        PermissionDenied,
        "ssh does not get in: the DevBox needs a key that the server knows, and the server in its known_hosts",
    ),
    (
        r"repository .* not found|does not exist|does not appear to be a git repository|error: 404",
        NotFound,
        "There is no repository at this address",
    ),
    (r"No space left on device|Disk quota exceeded", ResourceExhausted, "The DevBox's disk is full"),
    (
        (
            r"Could not resolve|Couldn't connect|Failed to connect|unable to access|Network is unreachable|early EOF|"
            r"Connection (refused|timed out|reset)|unexpected disconnect|Could not read from remote"
        ),
        Unavailable,
        "The DevBox does not reach the repository; one without a network takes a repository by its path in the DevBox",
    ),
    (
        r"would be overwritten|Please commit your changes",
        FailedPrecondition,
        "Files in the DevBox are in the way of the repository's: move or commit them",
    ),
    (
        r"dubious ownership",
        FailedPrecondition,
        "The repository belongs to another user of the DevBox: give it to the user that setup runs as",
    ),
    (
        r"could not create|Permission denied|Read-only file system",
        FailedPrecondition,
        "The DevBox's user may not write there: choose a workdir in /workspace",
    ),
    (r"transport '.*' not allowed", InvalidArgument, "The repository uses a transport that is not allowed"),
)
"""What git says, what it means to the caller, and what to do. The first that is found counts."""


def refusal_of(stderr: bytes, credential: str, *, doing: str) -> Refusal:
    """Return the refusal that says why a git command failed, in git's own words after ours."""
    lines = [redacted(plain(line), credential) for line in re.split(rb"[\r\n]", stderr)]
    told = [line for line in lines if re.match(r"(fatal|error|remote: (error|fatal)|ERROR):? ", line)]
    words = " ".join(told or [line for line in lines if line and not _PERCENT.fullmatch(line)][-3:])[:_MAX_SHOWN]
    text = " ".join(lines)
    for pattern, kind, sentence in _REASONS:
        if re.search(pattern, text):
            return kind(f"{sentence}. (git: {words})")
    return FailedPrecondition(f"{doing} failed. (git: {words or 'no reason given'})")
