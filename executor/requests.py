"""What a caller may ask of the executor: each request validated and bounded before anything acts on it.

The executor trusts no caller, so these bounds do not lean on what the gateway checked before.
"""

import hashlib
import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from executor.image_reference import is_reference
from executor.policy import Profile
from protos import limits
from protos.errors import InvalidArgument


def _bounded(value: Any) -> Any:  # noqa: ANN401 - any container
    if len(value) > limits.MAX_LIST_ITEMS:
        raise ValueError(f"at most {limits.MAX_LIST_ITEMS} items")
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("no NUL bytes")
    return value


def _branch(value: str) -> str:
    """Take what git takes as a branch's name (git-check-ref-format), and so nothing that reads as an option."""
    parts = value.split("/")
    if value and (
        re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{", value)
        or value[0] == "-"
        or value == "@"
        or any(not part or part[0] == "." or part.endswith((".", ".lock")) for part in parts)
    ):
        raise ValueError("git takes no branch of such a name")
    return value


def _folder(value: str) -> str:
    """Take an absolute path of a folder, and return it in its shortest form."""
    if not value:
        return value
    if value[0] != "/" or ".." in value.split("/") or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("an absolute path in the DevBox, without '..'")
    clean = "/" + "/".join(part for part in value.split("/") if part not in ("", "."))
    if clean == "/":
        raise ValueError("a folder below the root")
    return clean


def _reference(value: str) -> str:
    if not is_reference(value):
        raise ValueError("a name with a tag or a digest, or an id")
    return value


def _small(value: dict[str, str]) -> dict[str, str]:
    """Bound what travels to the engine in the head of a request."""
    if sum(len(key) + len(text) for key, text in value.items()) > limits.MAX_STRING_BYTES:
        raise ValueError(f"at most {limits.MAX_STRING_BYTES} characters in all")
    return value


def _not_ours(value: dict[str, str]) -> dict[str, str]:
    if any(re.search(r"[\x00-\x1f\x7f]", key + text) for key, text in value.items()):
        raise ValueError("labels of images have no line breaks or other control characters")
    if any(key.startswith("io.clustercode.") for key in value):
        raise ValueError("labels that begin with io.clustercode. are the worker's own")
    return value


_Text = Annotated[str, StringConstraints(max_length=limits.MAX_STRING_BYTES), AfterValidator(_no_nul)]
_EnvName = Annotated[str, StringConstraints(pattern=limits.ENV_NAME_PATTERN)]
_Env = Annotated[dict[_EnvName, _Text], AfterValidator(_bounded)]
_Id = Annotated[str, StringConstraints(pattern=limits.ID_PATTERN)]
_RequestId = Annotated[str, StringConstraints(pattern=rf"^$|{limits.REQUEST_ID_PATTERN}")]
_Argv = Annotated[tuple[_Text, ...], Field(max_length=limits.MAX_LIST_ITEMS)]
USER_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_.-]{1,63})?$|^$"
_User = Annotated[str, StringConstraints(pattern=USER_PATTERN)]
_Workdir = Annotated[str, StringConstraints(pattern=r"^/.*$|^$", max_length=4096), AfterValidator(_no_nul)]
_Image = Annotated[str, AfterValidator(_reference)]
_Side = Annotated[int, Field(ge=1, le=limits.MAX_TERMINAL_SIDE)]
_OwnLabels = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=256)], _Text], AfterValidator(_bounded)
]


_MAX_SPEC_BYTES = 256 * 1024
"""All of a DevBox's specification: it lies in the engine's store and in our answers."""


class Request(BaseModel):
    """What every request says: for which tenant, and under which id, if any."""

    model_config = ConfigDict(frozen=True, strict=True, ser_json_bytes="base64")

    tenant: _Id
    request_id: _RequestId = ""

    def fingerprint(self) -> str:
        """Return a digest of all that is asked: two requests of one id must agree in it."""
        asked = self.model_dump_json(exclude={"request_id"})
        return hashlib.sha256(f"{type(self).__name__} {asked}".encode()).hexdigest()


class CreateDevBox(Request):
    """What to create. ``secret_env`` is no part of the spec: it may differ when a creation is repeated."""

    name: Annotated[str, StringConstraints(pattern=limits.NAME_PATTERN)]
    image: _Image
    profile: Profile = Profile.STANDARD
    privileged: bool = False
    env: _Env = {}
    secret_env: _Env = Field(default={}, repr=False)
    memory_bytes: Annotated[int, Field(ge=8 * 1024**2)] | None = None
    cpus: Annotated[float, Field(ge=0.01, le=4096)] | None = None
    pids: Annotated[int, Field(ge=1)] | None = None
    allowed_domains: Annotated[tuple[_Text, ...], Field(max_length=limits.MAX_LIST_ITEMS)] = ()
    writable_paths: Annotated[tuple[_Text, ...], Field(max_length=limits.MAX_LIST_ITEMS)] = ()
    labels: _OwnLabels = {}
    stopped: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        size = len(self.model_dump_json())
        if size > _MAX_SPEC_BYTES:
            raise ValueError(f"env, labels and lists take {size} bytes together; at most {_MAX_SPEC_BYTES}")
        return self

    def spec_json(self) -> str:
        """Return the spec in one canonical form: what must be equal for two creations to mean the same DevBox."""
        return self.model_dump_json(exclude={"request_id", "secret_env", "stopped"})


class StartDevBox(Request):
    """Which DevBox to start."""

    devbox_id: _Id


class StopDevBox(Request):
    """Which DevBox to stop, and how long its processes have to end by themselves."""

    devbox_id: _Id
    timeout_s: Annotated[int, Field(ge=0, le=3600)] = 10


class RemoveDevBox(Request):
    """Which DevBox to remove."""

    devbox_id: _Id
    force: bool = False
    keep_volumes: bool = False


class SetEgress(Request):
    """What a DevBox may reach besides its profile's and its tenant's names; `executor.domains` reads them."""

    devbox_id: _Id
    allowed_domains: Annotated[tuple[_Text, ...], Field(max_length=limits.MAX_LIST_ITEMS)] = ()
    cut: bool = False


class ExecDevBox(Request):
    """A command to run to its end."""

    devbox_id: _Id
    argv: Annotated[_Argv, Field(min_length=1)]
    user: _User = ""
    workdir: _Workdir = ""
    env: _Env = {}
    stdin: Annotated[bytes, Field(max_length=limits.MAX_MESSAGE_BYTES)] = b""
    stream: bool = False
    max_output_bytes: Annotated[int, Field(ge=1, le=1024**2)] = 1024**2
    timeout_ms: Annotated[int, Field(ge=1, le=limits.MAX_TIMEOUT_MS)] = 3600 * 1000


def _signal(value: str) -> str:
    return value.upper().removeprefix("SIG")


class StartBackground(Request):
    """A command to start that runs by itself; its standard input is empty."""

    devbox_id: _Id
    argv: Annotated[_Argv, Field(min_length=1)]
    user: _User = ""
    workdir: _Workdir = ""
    env: _Env = {}
    log_bytes: Annotated[int, Field(ge=1024**2, le=1024**3)] = 64 * 1024**2


class KillBackground(Request):
    """A background command to end, by which signal, and the seconds until KILL for what ignores it."""

    devbox_id: _Id
    background_id: _Id
    signal: Annotated[
        str,
        AfterValidator(_signal),
        StringConstraints(pattern=r"^(TERM|INT|HUP|KILL|QUIT|USR1|USR2)$"),
    ] = "TERM"
    grace_s: Annotated[int, Field(ge=0, le=3600)] = 10


class CaptureBackground(Request):
    """A piece of a background command's output."""

    devbox_id: _Id
    background_id: _Id
    offset: Annotated[int, Field(ge=0, lt=10**15)] | None = None
    max_bytes: Annotated[int, Field(ge=1, le=512 * 1024)] = 256 * 1024
    wait_ms: Annotated[int, Field(ge=0, le=60_000)] = 0


class SetupDevBox(Request):
    """A repository to set a DevBox up with; `executor.git.Remote` reads the address."""

    devbox_id: _Id
    url: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(repr=False)
    branch: Annotated[str, StringConstraints(max_length=255), AfterValidator(_branch)] = ""
    commit: Annotated[str, StringConstraints(pattern=r"^([0-9A-Fa-f]{7,64})?$")] = ""
    depth: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    credential: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=16 * 1024)] = Field(
        default="", repr=False
    )
    ticket_id: _Text = ""
    ticket_title: _Text = ""
    ticket_body: _Text = ""
    ticket_url: _Text = ""
    instructions: _Text = ""
    workdir: Annotated[str, StringConstraints(max_length=4096), AfterValidator(_folder)] = ""
    timeout_ms: Annotated[int, Field(ge=1, le=limits.MAX_TIMEOUT_MS)] = 3600 * 1000


class OpenTerminal(Request):
    """A terminal to open, or to attach to if there is a session of that id."""

    session_id: Annotated[str, StringConstraints(pattern=rf"^$|{limits.ID_PATTERN}")] = ""
    devbox_id: _Id
    cols: Annotated[int, Field(ge=0, le=limits.MAX_TERMINAL_SIDE)]
    """As `ResizeTerminal.cols`; 0, on attaching only: as it is."""
    rows: Annotated[int, Field(ge=0, le=limits.MAX_TERMINAL_SIDE)]
    argv: _Argv = ()
    user: _User = ""
    workdir: _Workdir = ""
    env: _Env = {}
    persistent: Annotated[str, StringConstraints(pattern=rf"^$|{limits.NAME_PATTERN}")] = ""
    from_offset: int | None = None
    window_bytes: Annotated[int, Field(ge=limits.MIN_WINDOW_BYTES, le=limits.MAX_WINDOW_BYTES)] | None = None


class CheckImage(BaseModel):
    """An image to look for."""

    model_config = ConfigDict(frozen=True, strict=True)

    image: _Image


class DeleteImage(Request):
    """An image to delete."""

    image: _Image
    force: bool = False


class UploadContext(Request):
    """A piece of a build context."""

    upload_id: _Id
    offset: Annotated[int, Field(ge=0, le=2**63 - 1)]
    data: Annotated[bytes, Field(max_length=limits.MAX_MESSAGE_BYTES)]
    last: bool = False


class BuildImage(Request):
    """An image to build; `executor.containerfile` reads the text, `executor.image_reference` the name."""

    name: Annotated[str, StringConstraints(max_length=512)]
    tag: Annotated[str, StringConstraints(max_length=128)] = ""
    containerfile: _Text
    context: Annotated[bytes, Field(max_length=limits.MAX_MESSAGE_BYTES)] = b""
    upload_id: Annotated[str, StringConstraints(pattern=rf"^$|{limits.ID_PATTERN}")] = ""
    build_args: Annotated[_Env, AfterValidator(_small)] = {}
    labels: Annotated[_OwnLabels, AfterValidator(_small), AfterValidator(_not_ours)] = {}
    no_cache: bool = False
    timeout_ms: Annotated[int, Field(ge=1, le=limits.MAX_TIMEOUT_MS)] = 2 * 3600 * 1000

    @model_validator(mode="after")
    def _one_context(self) -> Self:
        if self.context and self.upload_id:
            raise ValueError("context or uploadId, not both")
        return self


class ResizeTerminal(BaseModel):
    """A new size."""

    model_config = ConfigDict(frozen=True, strict=True)

    cols: _Side
    rows: _Side


class OpenDisplay(Request):
    """A viewer to open on a DevBox's display; the size counts if that starts the display."""

    devbox_id: _Id
    width: Annotated[int, Field(ge=1, le=limits.MAX_DISPLAY_SIDE)] = 1280
    height: Annotated[int, Field(ge=1, le=limits.MAX_DISPLAY_SIDE)] = 800
    window_bytes: Annotated[int, Field(ge=limits.MIN_WINDOW_BYTES, le=limits.MAX_WINDOW_BYTES)] | None = None


NEW_WORK = (CreateDevBox, StartDevBox, ExecDevBox, StartBackground, SetupDevBox, BuildImage)
"""What a tenant that holds too much on disk may not ask for until it holds less."""


def refusal_of(error: ValidationError) -> InvalidArgument:
    """Return the refusal that says which field is wrong and how, without its value, which may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return InvalidArgument(f"{path or 'The request'}: {first['msg'].removeprefix('Value error, ')}.")
