"""What a caller may ask of the executor: each request validated and bounded before anything acts on it.

The executor trusts no caller, so these bounds do not lean on what the gateway checked before.
"""

import hashlib
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

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


_Text = Annotated[str, StringConstraints(max_length=limits.MAX_STRING_BYTES), AfterValidator(_no_nul)]
_EnvName = Annotated[str, StringConstraints(pattern=limits.ENV_NAME_PATTERN)]
_Env = Annotated[dict[_EnvName, _Text], AfterValidator(_bounded)]
_Id = Annotated[str, StringConstraints(pattern=limits.ID_PATTERN)]
_RequestId = Annotated[str, StringConstraints(pattern=rf"^$|{limits.REQUEST_ID_PATTERN}")]
_Argv = Annotated[tuple[_Text, ...], Field(max_length=limits.MAX_LIST_ITEMS)]
_User = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_.-]{1,63})?$|^$")]
_Workdir = Annotated[str, StringConstraints(pattern=r"^/.*$|^$", max_length=4096), AfterValidator(_no_nul)]
_Image = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}$")]
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
    from_offset: int | None = None
    window_bytes: Annotated[int, Field(ge=limits.MIN_WINDOW_BYTES, le=limits.MAX_WINDOW_BYTES)] | None = None


class ResizeTerminal(BaseModel):
    """A new size."""

    model_config = ConfigDict(frozen=True, strict=True)

    cols: _Side
    rows: _Side


def refusal_of(error: ValidationError) -> InvalidArgument:
    """Return the refusal that says which field is wrong and how, without its value, which may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return InvalidArgument(f"{path or 'The request'}: {first['msg'].removeprefix('Value error, ')}.")
