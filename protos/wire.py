"""The WebSocket protocol between worker and orchestrator, as pydantic models: the one place that defines it.

``docs/protocol/`` (AsyncAPI and JSON Schemas) is generated from here by ``protos.publish``. Names on the wire are
camelCase. Unknown fields are ignored, unknown types are answered with an error. `protos.messages` reads and writes
them. Only gateway and console import this module: the executor knows nothing of WebSockets.
"""

import binascii
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    EncodedBytes,
    EncoderProtocol,
    Field,
    StringConstraints,
)
from pydantic.alias_generators import to_camel

from protos import limits
from protos.errors import ErrorCode, Refusal

SUBPROTOCOL_JSON = "clustercode.v1"
SUBPROTOCOL_BINARY = "clustercode.v1+binary"
SUBPROTOCOLS = (SUBPROTOCOL_BINARY, SUBPROTOCOL_JSON)
"""What the worker offers, in order of preference. An orchestrator that picks none gets ``clustercode.v1``."""

CAPABILITY_ACK = "terminal.ack"
"""An orchestrator that lists it promises to acknowledge output and wants its input acknowledged."""

CLOSE_REPLACED = 4001
"""An orchestrator closes a connection with it when another one registers the same worker; the reason names the other
machine. The replaced worker stops: two with one id would displace each other for ever."""


# --- Field types -----------------------------------------------------------------------------------------------


class _Base64(EncoderProtocol):
    """Base64 that refuses what is not base64, where the standard library would skip it."""

    @classmethod
    def decode(cls, data: bytes) -> bytes:
        try:
            return binascii.a2b_base64(data, strict_mode=True)
        except binascii.Error as error:
            raise ValueError(f"not valid base64: {error}") from error

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return binascii.b2a_base64(value, newline=False)

    @classmethod
    def get_json_format(cls) -> Literal["base64"]:
        return "base64"


def _bounded(value: Any) -> Any:  # noqa: ANN401 - any container
    if len(value) > limits.MAX_LIST_ITEMS:
        raise ValueError(f"at most {limits.MAX_LIST_ITEMS} items")
    return value


Base64 = Annotated[bytes, EncodedBytes(encoder=_Base64)]
Text = Annotated[str, StringConstraints(max_length=limits.MAX_STRING_BYTES)]
Id = Annotated[str, StringConstraints(pattern=limits.ID_PATTERN)]
RequestId = Annotated[str, StringConstraints(pattern=limits.REQUEST_ID_PATTERN)]
Name = Annotated[str, StringConstraints(pattern=limits.NAME_PATTERN)]
ImageName = Annotated[str, StringConstraints(min_length=1, max_length=512)]
EnvName = Annotated[str, StringConstraints(pattern=limits.ENV_NAME_PATTERN)]
Env = Annotated[dict[EnvName, Text], AfterValidator(_bounded)]
Labels = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=256)], Text], AfterValidator(_bounded)
]
Texts = Annotated[list[Text], Field(max_length=limits.MAX_LIST_ITEMS)]
Argv = Annotated[list[Text], Field(min_length=1, max_length=limits.MAX_LIST_ITEMS)]
Command = Argv | Annotated[str, StringConstraints(min_length=1, max_length=limits.MAX_STRING_BYTES)]
Offset = Annotated[int, Field(ge=0, le=2**63 - 1)]
Side = Annotated[int, Field(ge=1, le=limits.MAX_TERMINAL_SIDE)]
TimeoutMs = Annotated[int, Field(ge=1, le=limits.MAX_TIMEOUT_MS)]
Profile = Literal["open", "standard", "strict", "offline"]
State = Literal["created", "running", "paused", "exited", "removing", "dead"]


class Payload(BaseModel):
    """What a message carries. Frozen; camelCase on the wire; unknown fields ignored; no guessing of types."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        strict=True,
        ser_json_bytes="utf8",
    )


class TenantPayload(Payload):
    """A payload on behalf of one tenant."""

    tenant_id: Id


class DevBoxPayload(TenantPayload):
    """A payload about one DevBox."""

    devbox_id: Id


class SessionPayload(Payload):
    """A payload about one session, which is bound to the tenant that opened it."""

    session_id: Id


# --- Orchestrator to worker: commands ----------------------------------------------------------------------------


class Resources(Payload):
    """Limits below the profile's; they never raise it."""

    memory_bytes: Annotated[int, Field(ge=1)] | None = None
    cpus: Annotated[float, Field(gt=0, le=4096)] | None = None
    pids: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class DevBoxCreate(TenantPayload):
    """Create a DevBox; the answer is ``{devbox}``. The same name and spec again answer with the one that is there."""

    name: Name
    image: ImageName
    profile: Profile | None = None
    privileged: bool = False
    env: Env = {}
    secret_env: Env = Field(default={}, repr=False)
    resources: Resources = Resources()
    allowed_domains: Texts = []
    writable_paths: Texts = []
    labels: Labels = {}
    start: bool = True


class Repository(Payload):
    """What to clone."""

    url: Text
    branch: Text | None = None
    commit: Text | None = None
    depth: Annotated[int, Field(ge=1)] | None = None
    credential: Text | None = Field(default=None, repr=False)


class Ticket(Payload):
    """The work that CLAUDE.md tells of."""

    id: Text
    title: Text
    body: Text = ""
    url: Text | None = None


class DevBoxSetup(DevBoxPayload):
    """Clone a repository inside the DevBox and generate CLAUDE.md."""

    repository: Repository
    ticket: Ticket | None = None
    instructions: Text | None = None
    workdir: Text | None = None
    timeout_ms: TimeoutMs | None = None


class DevBoxStart(DevBoxPayload):
    """Start a DevBox; the answer is ``{devbox}``. Repeating it is not an error."""


class DevBoxStop(DevBoxPayload):
    """Stop a DevBox; the answer is ``{devbox}``. Repeating it is not an error."""

    timeout_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None


class DevBoxRemove(DevBoxPayload):
    """Remove a DevBox; the answer is ``{devbox}``. A running one needs ``force``."""

    force: bool = False
    remove_volumes: bool = True


class DevBoxList(TenantPayload):
    """List a tenant's DevBoxes; the answer is ``{devboxes}``."""


class DevBoxListAll(Payload):
    """List the DevBoxes of all tenants that the worker serves; the answer is ``{devboxes}``."""


class DevBoxExec(DevBoxPayload):
    """Run a command and wait for its end. A string is run by the box's shell."""

    command: Command
    user: Text | None = None
    workdir: Text | None = None
    env: Env = {}
    stdin: Base64 = b""
    stream: bool = False
    max_output_bytes: Annotated[int, Field(ge=1, le=512 * 1024)] | None = None
    timeout_ms: TimeoutMs | None = None
    encoding: Literal["utf-8", "base64"] = "utf-8"


class ExecBackground(DevBoxPayload):
    """Start a command that outlives connections and the worker; of its output the newest ``logBytes`` are kept."""

    command: Command
    user: Text | None = None
    workdir: Text | None = None
    env: Env = {}
    log_bytes: Annotated[int, Field(ge=1024**2, le=1024**3)] | None = None


class ExecBackgroundKill(DevBoxPayload):
    """Kill a background command's whole process group."""

    background_id: Id
    signal: Text | None = None
    grace_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None


class ExecBackgroundCapture(DevBoxPayload):
    """Read a background command's output."""

    background_id: Id
    offset: Offset | None = None
    max_bytes: Annotated[int, Field(ge=1, le=512 * 1024)] | None = None
    wait_ms: Annotated[int, Field(ge=0, le=60_000)] | None = None


class DevBoxEgress(DevBoxPayload):
    """Change what a running DevBox may reach."""

    allowed_domains: Texts
    cut: bool = False


class ImagesList(Payload):
    """List images; the managed ones by default."""

    all: bool = False


class ImageCheck(Payload):
    """Ask whether an image is there."""

    image: ImageName


class ImageDelete(TenantPayload):
    """Delete an image that no DevBox uses."""

    image: ImageName
    force: bool = False


class ImageContext(TenantPayload):
    """A piece of a build context."""

    upload_id: Id
    offset: Offset
    data: Base64
    last: bool = False


class ImageBuild(TenantPayload):
    """Build an image; log lines come as progress; the answer is ``{imageId}``."""

    name: ImageName
    tag: Text | None = None
    containerfile: Text
    context: Base64 | None = None
    upload_id: Id | None = None
    build_args: Env = {}
    labels: Labels = {}
    no_cache: bool = False
    timeout_ms: TimeoutMs | None = None


class TerminalOpen(DevBoxPayload):
    """Open a terminal session, or continue one byte for byte from ``fromOffset`` (absent: the oldest byte held)."""

    session_id: Id | None = None
    cols: Side
    rows: Side
    command: Command | None = None
    user: Text | None = None
    workdir: Text | None = None
    env: Env = {}
    persistent: Name | None = None
    from_offset: Offset | None = None


class TerminalInput(SessionPayload):
    """Keystrokes. With ``offset`` a repeat after a reconnect is dropped, never typed twice."""

    data: Base64
    offset: Offset | None = None


class TerminalResize(SessionPayload):
    """A new size of the viewer's window."""

    cols: Side
    rows: Side


class TerminalAck(SessionPayload):
    """Bytes below ``offset`` are drawn: opens the session's window."""

    offset: Offset


class TerminalClose(SessionPayload):
    """End a session and its processes."""


class DisplayOpen(DevBoxPayload):
    """Open a viewer on the DevBox's display."""

    session_id: Id | None = None
    width: Annotated[int, Field(ge=1, le=limits.MAX_DISPLAY_SIDE)] | None = None
    height: Annotated[int, Field(ge=1, le=limits.MAX_DISPLAY_SIDE)] | None = None


class DisplayData(SessionPayload):
    """RFB bytes, in either direction."""

    data: Base64


class DisplayAck(SessionPayload):
    """RFB bytes below ``offset`` are drawn: opens the viewer's window."""

    offset: Offset


class DisplayClose(SessionPayload):
    """Close a viewer."""


class Registered(Payload):
    """The orchestrator's optional word on `Register`: what it can do."""

    worker_id: Id | None = None
    capabilities: Texts = []


class Cancel(Payload):
    """Stop the work of this message's ``id``; that request then answers ``CANCELLED``."""


# --- Worker to orchestrator --------------------------------------------------------------------------------------


class SessionState(Payload):
    """An open terminal session as the worker has it."""

    session_id: Id
    tenant_id: Id
    devbox_id: Id
    base: Offset
    offset: Offset
    input_offset: Offset


class RegisteredDevBox(Payload):
    """A DevBox that the worker found when it connected."""

    id: Id
    tenant_id: Id
    name: Text
    state: State


class Register(Payload):
    """First message on every connection."""

    name: Text
    hostname: Text
    platform: Literal["linux", "darwin", "windows"]
    cpu_count: int
    memory_total: int
    container_engines: Texts
    agent_version: Text
    mode: Literal["byom", "fleet"]
    worker_id: Id | None = None
    tenant_id: Id | None = None
    capabilities: Texts = []
    security_floor: Profile | None = None
    sessions: list[SessionState] = []
    devboxes: list[RegisteredDevBox] = []


class Heartbeat(Payload):
    """Every 10 seconds, and at once when ``gatewayStatus`` changes."""

    cpu_usage: Annotated[float, Field(ge=0, le=100)]
    memory_free: int
    disk_total: int | None = None
    disk_free: int | None = None
    containers_running: int
    gateway_status: Literal["connected", "executor-unavailable", "engine-unavailable", "draining"] | None = None
    gateway_status_detail: Text | None = None


class TerminalOutput(SessionPayload):
    """Output of a session. The gateway builds this message's bytes by hand, for speed: `terminal_output_json`."""

    data: Base64
    offset: Offset


class TerminalInputAck(SessionPayload):
    """Input below ``offset`` reached the program's terminal. Only with the capability ``terminal.ack``."""

    offset: Offset


class TerminalExit(SessionPayload):
    """The session's program ended; ``exitCode`` is 128 + n after signal n, -1 when the engine lost it."""

    exit_code: int
    offset: Offset


class DisplayClosed(SessionPayload):
    """A viewer ended."""

    reason: Text


class DevBoxEvent(DevBoxPayload):
    """A DevBox changed by itself, was refused something, or was stopped for what its tenant holds on disk."""

    event: Literal["died", "oom", "removed", "egress-denied", "over-quota"]
    detail: Text | None = None
    host: Text | None = None
    """Of ``egress-denied``: what it wanted to reach."""
    event_id: Id | None = None
    """The event's own: one that is sent again, after a cut or a restart of the worker, has the same."""


class Background(Payload):
    """A background command of a DevBox."""

    background_id: Id
    command: Text
    running: bool
    exit_code: int | None = None
    started_at: Text
    output_bytes: Offset


class DevBox(Payload):
    """A DevBox as answers carry it."""

    id: Id
    name: Name
    tenant_id: Id
    image: Text
    state: State
    profile: Profile
    privileged: bool
    engine: Literal["podman", "docker"]
    display: bool
    created_at: Text
    started_at: Text | None = None
    exit_code: int | None = None
    labels: Labels = {}
    missing_limits: Texts | None = None
    background: list[Background] | None = None
    network: Literal["none", "allowlist", "host"] | None = None
    """What it reaches: nothing, what its list names, or what the machine does."""


class DevBoxAnswer(Payload):
    """Answer of create, start, stop and remove."""

    devbox: DevBox


class DevBoxesAnswer(Payload):
    """Answer of list and list-all."""

    devboxes: list[DevBox]


class EgressAnswer(Payload):
    """All names that a DevBox may reach from now on."""

    allowed_domains: Texts


class ExecAnswer(Payload):
    """Answer of exec. Where output was cut, ``truncated`` counts the bytes missing from each stream's middle."""

    class Truncated(Payload):
        """Bytes cut from the middle."""

        stdout: int
        stderr: int

    exit_code: int
    stdout: str
    stderr: str
    encoding: Literal["utf-8", "base64"]
    truncated: Truncated | Literal[False]
    duration_ms: int


class SetupAnswer(Payload):
    """Answer of setup: what is checked out where; ``branch`` is absent where a commit is checked out by itself."""

    workdir: Text
    branch: Text | None = None
    commit: Text
    claude_md: Text | None = None


class BackgroundAnswer(Payload):
    """Answer of exec.background."""

    background_id: Id


class BackgroundKillAnswer(Payload):
    """Answer of exec.background.kill: nothing of it runs any more."""

    exit_code: int | None = None


class BackgroundCaptureAnswer(Payload):
    """Answer of exec.background.capture. ``offset`` is the oldest byte kept where what was asked is gone."""

    data: Base64
    offset: Offset
    next_offset: Offset
    running: bool
    exit_code: int | None = None


class Image(Payload):
    """An image, with the DevBoxes of this worker that use it."""

    id: Text
    tags: Texts
    size_bytes: int
    created_at: Text
    labels: dict[str, str] = {}
    devboxes: Texts = []


class ImagesAnswer(Payload):
    """Answer of images.list."""

    images: list[Image]


class ImageCheckAnswer(Payload):
    """Answer of image.check."""

    exists: bool
    id: Text | None = None
    size_bytes: int | None = None
    labels: dict[str, str] | None = None


class ImageDeleteAnswer(Payload):
    """Answer of image.delete: the tags and ids that are gone."""

    deleted: Texts


class ImageContextAnswer(Payload):
    """Answer of image.context: bytes taken so far, where to go on."""

    offset: Offset


class ImageBuildAnswer(Payload):
    """Answer of image.build."""

    image_id: Text


class DisplayOpenAnswer(Payload):
    """Answer of display.open."""

    session_id: Id
    channel: int | None = None


class TerminalOpenAnswer(Payload):
    """Answer of terminal.open. Output below ``endOffset`` was written before the viewer came."""

    session_id: Id
    offset: Offset
    input_offset: Offset
    resumed: bool
    end_offset: Offset
    channel: int | None = None


class Error(Payload):
    """What went wrong and what to do."""

    code: ErrorCode = Field(strict=False)
    message: Text
    details: dict[str, Any] | None = None

    @classmethod
    def of(cls, refusal: Refusal) -> "Error":
        """Return the wire form of a refusal."""
        return cls(code=refusal.code, message=refusal.message, details=dict(refusal.details) or None)


class StepProgress(Payload):
    """Progress of pull, build and creation."""

    message: Text
    fraction: Annotated[float, Field(ge=0, le=1)] | None = None


class LogProgress(Payload):
    """One or more whole lines of a build's log, without the last line's end."""

    log: Text


class ExecProgress(Payload):
    """Output of an exec with ``stream``, as it comes."""

    stream: Literal["stdout", "stderr"]
    data: Base64


class Response(BaseModel):
    """The answer to the message of the same ``id``: ``payload`` if ``ok``, else ``error``."""

    type: Literal["response"] = "response"
    id: RequestId
    ok: bool
    payload: dict[str, Any] | None = None
    error: Error | None = None


class ErrorMessage(BaseModel):
    """What failed and has no ``id`` to answer to."""

    model_config = Payload.model_config

    type: Literal["error"] = "error"
    error: Error
    session_id: str | None = None
    channel: int | None = None


# --- The tables --------------------------------------------------------------------------------------------------

COMMANDS: dict[str, type[Payload]] = {
    "DevBox.create": DevBoxCreate,
    "DevBox.setup": DevBoxSetup,
    "DevBox.start": DevBoxStart,
    "DevBox.stop": DevBoxStop,
    "DevBox.remove": DevBoxRemove,
    "DevBox.list": DevBoxList,
    "DevBox.list-all": DevBoxListAll,
    "DevBox.exec": DevBoxExec,
    "DevBox.exec.background": ExecBackground,
    "DevBox.exec.background.kill": ExecBackgroundKill,
    "DevBox.exec.background.capture": ExecBackgroundCapture,
    "DevBox.egress": DevBoxEgress,
    "images.list": ImagesList,
    "image.check": ImageCheck,
    "image.delete": ImageDelete,
    "image.context": ImageContext,
    "image.build": ImageBuild,
    "terminal.open": TerminalOpen,
    "terminal.input": TerminalInput,
    "terminal.resize": TerminalResize,
    "terminal.ack": TerminalAck,
    "terminal.close": TerminalClose,
    "display.open": DisplayOpen,
    "display.data": DisplayData,
    "display.ack": DisplayAck,
    "display.close": DisplayClose,
}
"""Commands of the orchestrator, by type."""

FROM_ORCHESTRATOR: dict[str, type[Payload]] = {**COMMANDS, "worker.registered": Registered, "cancel": Cancel}
"""Everything an orchestrator may send."""

FROM_WORKER: dict[str, type[Payload]] = {
    "worker.register": Register,
    "worker.heartbeat": Heartbeat,
    "terminal.output": TerminalOutput,
    "terminal.inputAck": TerminalInputAck,
    "terminal.exit": TerminalExit,
    "display.data": DisplayData,
    "display.closed": DisplayClosed,
    "DevBox.event": DevBoxEvent,
}
"""Everything a worker may send, but for `Response`, `ErrorMessage` and ``progress``."""

ANSWERS: dict[str, type[Payload]] = {
    "DevBox.create": DevBoxAnswer,
    "DevBox.start": DevBoxAnswer,
    "DevBox.stop": DevBoxAnswer,
    "DevBox.remove": DevBoxAnswer,
    "DevBox.list": DevBoxesAnswer,
    "DevBox.list-all": DevBoxesAnswer,
    "DevBox.egress": EgressAnswer,
    "DevBox.exec": ExecAnswer,
    "DevBox.setup": SetupAnswer,
    "DevBox.exec.background": BackgroundAnswer,
    "DevBox.exec.background.kill": BackgroundKillAnswer,
    "DevBox.exec.background.capture": BackgroundCaptureAnswer,
    "images.list": ImagesAnswer,
    "image.check": ImageCheckAnswer,
    "image.delete": ImageDeleteAnswer,
    "image.context": ImageContextAnswer,
    "image.build": ImageBuildAnswer,
    "display.open": DisplayOpenAnswer,
    "terminal.open": TerminalOpenAnswer,
}
"""Payload of the answer to each command that this version implements."""
