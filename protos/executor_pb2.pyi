from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Profile(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROFILE_UNSPECIFIED: _ClassVar[Profile]
    PROFILE_OPEN: _ClassVar[Profile]
    PROFILE_STANDARD: _ClassVar[Profile]
    PROFILE_STRICT: _ClassVar[Profile]
    PROFILE_OFFLINE: _ClassVar[Profile]

class DevBoxState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEV_BOX_STATE_UNSPECIFIED: _ClassVar[DevBoxState]
    DEV_BOX_STATE_CREATED: _ClassVar[DevBoxState]
    DEV_BOX_STATE_RUNNING: _ClassVar[DevBoxState]
    DEV_BOX_STATE_PAUSED: _ClassVar[DevBoxState]
    DEV_BOX_STATE_EXITED: _ClassVar[DevBoxState]
    DEV_BOX_STATE_REMOVING: _ClassVar[DevBoxState]
    DEV_BOX_STATE_DEAD: _ClassVar[DevBoxState]

class Network(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NETWORK_UNSPECIFIED: _ClassVar[Network]
    NETWORK_NONE: _ClassVar[Network]
    NETWORK_ALLOWLIST: _ClassVar[Network]
    NETWORK_HOST: _ClassVar[Network]

class DevBoxEventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEV_BOX_EVENT_KIND_UNSPECIFIED: _ClassVar[DevBoxEventKind]
    DEV_BOX_EVENT_KIND_DIED: _ClassVar[DevBoxEventKind]
    DEV_BOX_EVENT_KIND_OOM: _ClassVar[DevBoxEventKind]
    DEV_BOX_EVENT_KIND_REMOVED: _ClassVar[DevBoxEventKind]
    DEV_BOX_EVENT_KIND_EGRESS_DENIED: _ClassVar[DevBoxEventKind]
    DEV_BOX_EVENT_KIND_OVER_QUOTA: _ClassVar[DevBoxEventKind]

class ConnectionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONNECTION_STATE_UNSPECIFIED: _ClassVar[ConnectionState]
    CONNECTION_STATE_CONNECTED: _ClassVar[ConnectionState]
    CONNECTION_STATE_DIALING: _ClassVar[ConnectionState]
    CONNECTION_STATE_WAITING: _ClassVar[ConnectionState]
PROFILE_UNSPECIFIED: Profile
PROFILE_OPEN: Profile
PROFILE_STANDARD: Profile
PROFILE_STRICT: Profile
PROFILE_OFFLINE: Profile
DEV_BOX_STATE_UNSPECIFIED: DevBoxState
DEV_BOX_STATE_CREATED: DevBoxState
DEV_BOX_STATE_RUNNING: DevBoxState
DEV_BOX_STATE_PAUSED: DevBoxState
DEV_BOX_STATE_EXITED: DevBoxState
DEV_BOX_STATE_REMOVING: DevBoxState
DEV_BOX_STATE_DEAD: DevBoxState
NETWORK_UNSPECIFIED: Network
NETWORK_NONE: Network
NETWORK_ALLOWLIST: Network
NETWORK_HOST: Network
DEV_BOX_EVENT_KIND_UNSPECIFIED: DevBoxEventKind
DEV_BOX_EVENT_KIND_DIED: DevBoxEventKind
DEV_BOX_EVENT_KIND_OOM: DevBoxEventKind
DEV_BOX_EVENT_KIND_REMOVED: DevBoxEventKind
DEV_BOX_EVENT_KIND_EGRESS_DENIED: DevBoxEventKind
DEV_BOX_EVENT_KIND_OVER_QUOTA: DevBoxEventKind
CONNECTION_STATE_UNSPECIFIED: ConnectionState
CONNECTION_STATE_CONNECTED: ConnectionState
CONNECTION_STATE_DIALING: ConnectionState
CONNECTION_STATE_WAITING: ConnectionState

class GetStatusRequest(_message.Message):
    __slots__ = ("brief",)
    BRIEF_FIELD_NUMBER: _ClassVar[int]
    brief: bool
    def __init__(self, brief: _Optional[bool] = ...) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("container_engines", "engine_error", "engine_version", "disk_total", "disk_free", "containers_running", "security_floor", "sessions", "draining")
    CONTAINER_ENGINES_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ERROR_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DISK_TOTAL_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    SECURITY_FLOOR_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    container_engines: _containers.RepeatedScalarFieldContainer[str]
    engine_error: str
    engine_version: str
    disk_total: int
    disk_free: int
    containers_running: int
    security_floor: Profile
    sessions: int
    draining: bool
    def __init__(self, container_engines: _Optional[_Iterable[str]] = ..., engine_error: _Optional[str] = ..., engine_version: _Optional[str] = ..., disk_total: _Optional[int] = ..., disk_free: _Optional[int] = ..., containers_running: _Optional[int] = ..., security_floor: _Optional[_Union[Profile, str]] = ..., sessions: _Optional[int] = ..., draining: _Optional[bool] = ...) -> None: ...

class GetMetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetMetricsResponse(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: bytes
    def __init__(self, text: _Optional[bytes] = ...) -> None: ...

class Resources(_message.Message):
    __slots__ = ("memory_bytes", "cpus", "pids")
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    PIDS_FIELD_NUMBER: _ClassVar[int]
    memory_bytes: int
    cpus: float
    pids: int
    def __init__(self, memory_bytes: _Optional[int] = ..., cpus: _Optional[float] = ..., pids: _Optional[int] = ...) -> None: ...

class CreateDevBoxRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "name", "image", "profile", "privileged", "env", "secret_env", "resources", "allowed_domains", "writable_paths", "labels", "stopped")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SecretEnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    PRIVILEGED_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    SECRET_ENV_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_DOMAINS_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_PATHS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    name: str
    image: str
    profile: Profile
    privileged: bool
    env: _containers.ScalarMap[str, str]
    secret_env: _containers.ScalarMap[str, str]
    resources: Resources
    allowed_domains: _containers.RepeatedScalarFieldContainer[str]
    writable_paths: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    stopped: bool
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ..., image: _Optional[str] = ..., profile: _Optional[_Union[Profile, str]] = ..., privileged: _Optional[bool] = ..., env: _Optional[_Mapping[str, str]] = ..., secret_env: _Optional[_Mapping[str, str]] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., allowed_domains: _Optional[_Iterable[str]] = ..., writable_paths: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., stopped: _Optional[bool] = ...) -> None: ...

class CreateDevBoxResponse(_message.Message):
    __slots__ = ("progress", "devbox")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    devbox: DevBox
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., devbox: _Optional[_Union[DevBox, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("message", "fraction")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    message: str
    fraction: float
    def __init__(self, message: _Optional[str] = ..., fraction: _Optional[float] = ...) -> None: ...

class DevBox(_message.Message):
    __slots__ = ("id", "name", "tenant_id", "image", "state", "profile", "privileged", "engine", "display", "created_at", "started_at", "exit_code", "labels", "missing_limits", "background", "network")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    PRIVILEGED_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MISSING_LIMITS_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    tenant_id: str
    image: str
    state: DevBoxState
    profile: Profile
    privileged: bool
    engine: str
    display: bool
    created_at: str
    started_at: str
    exit_code: int
    labels: _containers.ScalarMap[str, str]
    missing_limits: _containers.RepeatedScalarFieldContainer[str]
    background: _containers.RepeatedCompositeFieldContainer[Background]
    network: Network
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., tenant_id: _Optional[str] = ..., image: _Optional[str] = ..., state: _Optional[_Union[DevBoxState, str]] = ..., profile: _Optional[_Union[Profile, str]] = ..., privileged: _Optional[bool] = ..., engine: _Optional[str] = ..., display: _Optional[bool] = ..., created_at: _Optional[str] = ..., started_at: _Optional[str] = ..., exit_code: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., missing_limits: _Optional[_Iterable[str]] = ..., background: _Optional[_Iterable[_Union[Background, _Mapping]]] = ..., network: _Optional[_Union[Network, str]] = ...) -> None: ...

class SetEgressRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "devbox_id", "allowed_domains", "cut")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_DOMAINS_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    devbox_id: str
    allowed_domains: _containers.RepeatedScalarFieldContainer[str]
    cut: bool
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., allowed_domains: _Optional[_Iterable[str]] = ..., cut: _Optional[bool] = ...) -> None: ...

class SetEgressResponse(_message.Message):
    __slots__ = ("allowed_domains",)
    ALLOWED_DOMAINS_FIELD_NUMBER: _ClassVar[int]
    allowed_domains: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, allowed_domains: _Optional[_Iterable[str]] = ...) -> None: ...

class StartDevBoxRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "devbox_id")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    devbox_id: str
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., devbox_id: _Optional[str] = ...) -> None: ...

class StartDevBoxResponse(_message.Message):
    __slots__ = ("devbox",)
    DEVBOX_FIELD_NUMBER: _ClassVar[int]
    devbox: DevBox
    def __init__(self, devbox: _Optional[_Union[DevBox, _Mapping]] = ...) -> None: ...

class StopDevBoxRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "devbox_id", "timeout_seconds")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    devbox_id: str
    timeout_seconds: int
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., timeout_seconds: _Optional[int] = ...) -> None: ...

class StopDevBoxResponse(_message.Message):
    __slots__ = ("devbox",)
    DEVBOX_FIELD_NUMBER: _ClassVar[int]
    devbox: DevBox
    def __init__(self, devbox: _Optional[_Union[DevBox, _Mapping]] = ...) -> None: ...

class RemoveDevBoxRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "devbox_id", "force", "keep_volumes")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    KEEP_VOLUMES_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    devbox_id: str
    force: bool
    keep_volumes: bool
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., force: _Optional[bool] = ..., keep_volumes: _Optional[bool] = ...) -> None: ...

class RemoveDevBoxResponse(_message.Message):
    __slots__ = ("devbox",)
    DEVBOX_FIELD_NUMBER: _ClassVar[int]
    devbox: DevBox
    def __init__(self, devbox: _Optional[_Union[DevBox, _Mapping]] = ...) -> None: ...

class ListDevBoxesRequest(_message.Message):
    __slots__ = ("tenant_id",)
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    def __init__(self, tenant_id: _Optional[str] = ...) -> None: ...

class ListDevBoxesResponse(_message.Message):
    __slots__ = ("devboxes",)
    DEVBOXES_FIELD_NUMBER: _ClassVar[int]
    devboxes: _containers.RepeatedCompositeFieldContainer[DevBox]
    def __init__(self, devboxes: _Optional[_Iterable[_Union[DevBox, _Mapping]]] = ...) -> None: ...

class ExecDevBoxRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "devbox_id", "argv", "user", "workdir", "env", "stdin", "stream", "max_output_bytes", "timeout_ms")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    ARGV_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    devbox_id: str
    argv: _containers.RepeatedScalarFieldContainer[str]
    user: str
    workdir: str
    env: _containers.ScalarMap[str, str]
    stdin: bytes
    stream: bool
    max_output_bytes: int
    timeout_ms: int
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., argv: _Optional[_Iterable[str]] = ..., user: _Optional[str] = ..., workdir: _Optional[str] = ..., env: _Optional[_Mapping[str, str]] = ..., stdin: _Optional[bytes] = ..., stream: _Optional[bool] = ..., max_output_bytes: _Optional[int] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class ExecDevBoxResponse(_message.Message):
    __slots__ = ("chunk", "result")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    chunk: ExecChunk
    result: ExecResult
    def __init__(self, chunk: _Optional[_Union[ExecChunk, _Mapping]] = ..., result: _Optional[_Union[ExecResult, _Mapping]] = ...) -> None: ...

class ExecChunk(_message.Message):
    __slots__ = ("stderr", "data")
    STDERR_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    stderr: bool
    data: bytes
    def __init__(self, stderr: _Optional[bool] = ..., data: _Optional[bytes] = ...) -> None: ...

class ExecResult(_message.Message):
    __slots__ = ("exit_code", "stdout", "stderr", "stdout_cut", "stderr_cut", "duration_ms")
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    STDOUT_CUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_CUT_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    stdout: bytes
    stderr: bytes
    stdout_cut: int
    stderr_cut: int
    duration_ms: int
    def __init__(self, exit_code: _Optional[int] = ..., stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ..., stdout_cut: _Optional[int] = ..., stderr_cut: _Optional[int] = ..., duration_ms: _Optional[int] = ...) -> None: ...

class CancelWorkRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class CancelWorkResponse(_message.Message):
    __slots__ = ("found",)
    FOUND_FIELD_NUMBER: _ClassVar[int]
    found: bool
    def __init__(self, found: _Optional[bool] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "tenant_id", "devbox_id", "base", "acked", "end", "input_offset", "attached")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    INPUT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    tenant_id: str
    devbox_id: str
    base: int
    acked: int
    end: int
    input_offset: int
    attached: bool
    def __init__(self, session_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., base: _Optional[int] = ..., acked: _Optional[int] = ..., end: _Optional[int] = ..., input_offset: _Optional[int] = ..., attached: _Optional[bool] = ...) -> None: ...

class AttachTerminalRequest(_message.Message):
    __slots__ = ("open", "input", "resize", "ack", "close", "fetched")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    FETCHED_FIELD_NUMBER: _ClassVar[int]
    open: TerminalOpen
    input: TerminalInput
    resize: TerminalResize
    ack: TerminalAck
    close: TerminalClose
    fetched: TerminalFetched
    def __init__(self, open: _Optional[_Union[TerminalOpen, _Mapping]] = ..., input: _Optional[_Union[TerminalInput, _Mapping]] = ..., resize: _Optional[_Union[TerminalResize, _Mapping]] = ..., ack: _Optional[_Union[TerminalAck, _Mapping]] = ..., close: _Optional[_Union[TerminalClose, _Mapping]] = ..., fetched: _Optional[_Union[TerminalFetched, _Mapping]] = ...) -> None: ...

class TerminalOpen(_message.Message):
    __slots__ = ("tenant_id", "request_id", "session_id", "devbox_id", "cols", "rows", "argv", "user", "workdir", "env", "from_offset", "window_bytes", "persistent")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    COLS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ARGV_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    FROM_OFFSET_FIELD_NUMBER: _ClassVar[int]
    WINDOW_BYTES_FIELD_NUMBER: _ClassVar[int]
    PERSISTENT_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    session_id: str
    devbox_id: str
    cols: int
    rows: int
    argv: _containers.RepeatedScalarFieldContainer[str]
    user: str
    workdir: str
    env: _containers.ScalarMap[str, str]
    from_offset: int
    window_bytes: int
    persistent: str
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., session_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., cols: _Optional[int] = ..., rows: _Optional[int] = ..., argv: _Optional[_Iterable[str]] = ..., user: _Optional[str] = ..., workdir: _Optional[str] = ..., env: _Optional[_Mapping[str, str]] = ..., from_offset: _Optional[int] = ..., window_bytes: _Optional[int] = ..., persistent: _Optional[str] = ...) -> None: ...

class TerminalInput(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class TerminalResize(_message.Message):
    __slots__ = ("cols", "rows")
    COLS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    cols: int
    rows: int
    def __init__(self, cols: _Optional[int] = ..., rows: _Optional[int] = ...) -> None: ...

class TerminalAck(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class TerminalClose(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TerminalFetched(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AttachTerminalResponse(_message.Message):
    __slots__ = ("opened", "output", "input_ack", "exited", "refusal", "detached", "refused")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    INPUT_ACK_FIELD_NUMBER: _ClassVar[int]
    EXITED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    opened: TerminalOpened
    output: TerminalOutput
    input_ack: TerminalInputAck
    exited: TerminalExited
    refusal: TerminalRefusal
    detached: TerminalDetached
    refused: SessionRefused
    def __init__(self, opened: _Optional[_Union[TerminalOpened, _Mapping]] = ..., output: _Optional[_Union[TerminalOutput, _Mapping]] = ..., input_ack: _Optional[_Union[TerminalInputAck, _Mapping]] = ..., exited: _Optional[_Union[TerminalExited, _Mapping]] = ..., refusal: _Optional[_Union[TerminalRefusal, _Mapping]] = ..., detached: _Optional[_Union[TerminalDetached, _Mapping]] = ..., refused: _Optional[_Union[SessionRefused, _Mapping]] = ...) -> None: ...

class SessionRefused(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class TerminalOpened(_message.Message):
    __slots__ = ("session_id", "offset", "input_offset", "resumed", "end_offset")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    INPUT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    offset: int
    input_offset: int
    resumed: bool
    end_offset: int
    def __init__(self, session_id: _Optional[str] = ..., offset: _Optional[int] = ..., input_offset: _Optional[int] = ..., resumed: _Optional[bool] = ..., end_offset: _Optional[int] = ...) -> None: ...

class TerminalOutput(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class TerminalInputAck(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class TerminalExited(_message.Message):
    __slots__ = ("exit_code", "offset")
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    offset: int
    def __init__(self, exit_code: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class TerminalRefusal(_message.Message):
    __slots__ = ("code", "message", "input_offset")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    INPUT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    input_offset: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., input_offset: _Optional[int] = ...) -> None: ...

class TerminalDetached(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class SetupDevBoxRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "devbox_id", "url", "branch", "commit", "depth", "credential", "ticket", "instructions", "workdir", "timeout_ms")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    devbox_id: str
    url: str
    branch: str
    commit: str
    depth: int
    credential: str
    ticket: Ticket
    instructions: str
    workdir: str
    timeout_ms: int
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., url: _Optional[str] = ..., branch: _Optional[str] = ..., commit: _Optional[str] = ..., depth: _Optional[int] = ..., credential: _Optional[str] = ..., ticket: _Optional[_Union[Ticket, _Mapping]] = ..., instructions: _Optional[str] = ..., workdir: _Optional[str] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class Ticket(_message.Message):
    __slots__ = ("id", "title", "body", "url")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    body: str
    url: str
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., body: _Optional[str] = ..., url: _Optional[str] = ...) -> None: ...

class SetupDevBoxResponse(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    result: SetupResult
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[SetupResult, _Mapping]] = ...) -> None: ...

class SetupResult(_message.Message):
    __slots__ = ("workdir", "branch", "commit", "claude_md")
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    CLAUDE_MD_FIELD_NUMBER: _ClassVar[int]
    workdir: str
    branch: str
    commit: str
    claude_md: str
    def __init__(self, workdir: _Optional[str] = ..., branch: _Optional[str] = ..., commit: _Optional[str] = ..., claude_md: _Optional[str] = ...) -> None: ...

class Background(_message.Message):
    __slots__ = ("background_id", "command", "running", "exit_code", "started_at", "output_bytes")
    BACKGROUND_ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    background_id: str
    command: str
    running: bool
    exit_code: int
    started_at: str
    output_bytes: int
    def __init__(self, background_id: _Optional[str] = ..., command: _Optional[str] = ..., running: _Optional[bool] = ..., exit_code: _Optional[int] = ..., started_at: _Optional[str] = ..., output_bytes: _Optional[int] = ...) -> None: ...

class StartBackgroundRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "devbox_id", "argv", "user", "workdir", "env", "log_bytes")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    ARGV_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    devbox_id: str
    argv: _containers.RepeatedScalarFieldContainer[str]
    user: str
    workdir: str
    env: _containers.ScalarMap[str, str]
    log_bytes: int
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., argv: _Optional[_Iterable[str]] = ..., user: _Optional[str] = ..., workdir: _Optional[str] = ..., env: _Optional[_Mapping[str, str]] = ..., log_bytes: _Optional[int] = ...) -> None: ...

class StartBackgroundResponse(_message.Message):
    __slots__ = ("background_id",)
    BACKGROUND_ID_FIELD_NUMBER: _ClassVar[int]
    background_id: str
    def __init__(self, background_id: _Optional[str] = ...) -> None: ...

class KillBackgroundRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "devbox_id", "background_id", "signal", "grace_seconds")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    GRACE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    devbox_id: str
    background_id: str
    signal: str
    grace_seconds: int
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., background_id: _Optional[str] = ..., signal: _Optional[str] = ..., grace_seconds: _Optional[int] = ...) -> None: ...

class KillBackgroundResponse(_message.Message):
    __slots__ = ("exit_code",)
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    def __init__(self, exit_code: _Optional[int] = ...) -> None: ...

class CaptureBackgroundRequest(_message.Message):
    __slots__ = ("tenant_id", "devbox_id", "background_id", "offset", "max_bytes", "wait_ms")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    devbox_id: str
    background_id: str
    offset: int
    max_bytes: int
    wait_ms: int
    def __init__(self, tenant_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., background_id: _Optional[str] = ..., offset: _Optional[int] = ..., max_bytes: _Optional[int] = ..., wait_ms: _Optional[int] = ...) -> None: ...

class CaptureBackgroundResponse(_message.Message):
    __slots__ = ("data", "offset", "next_offset", "running", "exit_code")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offset: int
    next_offset: int
    running: bool
    exit_code: int
    def __init__(self, data: _Optional[bytes] = ..., offset: _Optional[int] = ..., next_offset: _Optional[int] = ..., running: _Optional[bool] = ..., exit_code: _Optional[int] = ...) -> None: ...

class ListImagesRequest(_message.Message):
    __slots__ = ("all",)
    ALL_FIELD_NUMBER: _ClassVar[int]
    all: bool
    def __init__(self, all: _Optional[bool] = ...) -> None: ...

class ListImagesResponse(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[Image]
    def __init__(self, images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("id", "tags", "size_bytes", "created_at", "labels", "devboxes")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DEVBOXES_FIELD_NUMBER: _ClassVar[int]
    id: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    size_bytes: int
    created_at: str
    labels: _containers.ScalarMap[str, str]
    devboxes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., size_bytes: _Optional[int] = ..., created_at: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., devboxes: _Optional[_Iterable[str]] = ...) -> None: ...

class CheckImageRequest(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: str
    def __init__(self, image: _Optional[str] = ...) -> None: ...

class CheckImageResponse(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: Image
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ...) -> None: ...

class DeleteImageRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "image", "force")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    image: str
    force: bool
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., image: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class DeleteImageResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, deleted: _Optional[_Iterable[str]] = ...) -> None: ...

class UploadContextRequest(_message.Message):
    __slots__ = ("tenant_id", "upload_id", "offset", "data", "last")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    upload_id: str
    offset: int
    data: bytes
    last: bool
    def __init__(self, tenant_id: _Optional[str] = ..., upload_id: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class UploadContextResponse(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class BuildImageRequest(_message.Message):
    __slots__ = ("tenant_id", "request_id", "name", "tag", "containerfile", "context", "upload_id", "build_args", "labels", "no_cache", "timeout_ms")
    class BuildArgsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    CONTAINERFILE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    BUILD_ARGS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NO_CACHE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    request_id: str
    name: str
    tag: str
    containerfile: str
    context: bytes
    upload_id: str
    build_args: _containers.ScalarMap[str, str]
    labels: _containers.ScalarMap[str, str]
    no_cache: bool
    timeout_ms: int
    def __init__(self, tenant_id: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ..., tag: _Optional[str] = ..., containerfile: _Optional[str] = ..., context: _Optional[bytes] = ..., upload_id: _Optional[str] = ..., build_args: _Optional[_Mapping[str, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., no_cache: _Optional[bool] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class BuildImageResponse(_message.Message):
    __slots__ = ("progress", "log", "image_id")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    log: str
    image_id: str
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., log: _Optional[str] = ..., image_id: _Optional[str] = ...) -> None: ...

class AttachDisplayRequest(_message.Message):
    __slots__ = ("open", "data", "ack")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    open: DisplayOpen
    data: bytes
    ack: DisplayAck
    def __init__(self, open: _Optional[_Union[DisplayOpen, _Mapping]] = ..., data: _Optional[bytes] = ..., ack: _Optional[_Union[DisplayAck, _Mapping]] = ...) -> None: ...

class DisplayOpen(_message.Message):
    __slots__ = ("tenant_id", "devbox_id", "width", "height", "window_bytes", "request_id")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_BYTES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    devbox_id: str
    width: int
    height: int
    window_bytes: int
    request_id: str
    def __init__(self, tenant_id: _Optional[str] = ..., devbox_id: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., window_bytes: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class DisplayAck(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class AttachDisplayResponse(_message.Message):
    __slots__ = ("opened", "data", "ended", "refused")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    opened: DisplayOpened
    data: DisplayData
    ended: DisplayEnded
    refused: SessionRefused
    def __init__(self, opened: _Optional[_Union[DisplayOpened, _Mapping]] = ..., data: _Optional[_Union[DisplayData, _Mapping]] = ..., ended: _Optional[_Union[DisplayEnded, _Mapping]] = ..., refused: _Optional[_Union[SessionRefused, _Mapping]] = ...) -> None: ...

class DisplayOpened(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class DisplayData(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class DisplayEnded(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("acknowledges",)
    ACKNOWLEDGES_FIELD_NUMBER: _ClassVar[int]
    acknowledges: bool
    def __init__(self, acknowledges: _Optional[bool] = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("devbox_id", "tenant_id", "kind", "detail", "host", "event_id")
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    devbox_id: str
    tenant_id: str
    kind: DevBoxEventKind
    detail: str
    host: str
    event_id: str
    def __init__(self, devbox_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., kind: _Optional[_Union[DevBoxEventKind, str]] = ..., detail: _Optional[str] = ..., host: _Optional[str] = ..., event_id: _Optional[str] = ...) -> None: ...

class AcknowledgeEventsRequest(_message.Message):
    __slots__ = ("event_id",)
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    def __init__(self, event_id: _Optional[str] = ...) -> None: ...

class AcknowledgeEventsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportGatewayRequest(_message.Message):
    __slots__ = ("state", "since", "orchestrator", "worker_id", "last_error", "last_error_at", "answers_waiting", "answers_waiting_bytes")
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    ORCHESTRATOR_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_AT_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_WAITING_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_WAITING_BYTES_FIELD_NUMBER: _ClassVar[int]
    state: ConnectionState
    since: str
    orchestrator: str
    worker_id: str
    last_error: str
    last_error_at: str
    answers_waiting: int
    answers_waiting_bytes: int
    def __init__(self, state: _Optional[_Union[ConnectionState, str]] = ..., since: _Optional[str] = ..., orchestrator: _Optional[str] = ..., worker_id: _Optional[str] = ..., last_error: _Optional[str] = ..., last_error_at: _Optional[str] = ..., answers_waiting: _Optional[int] = ..., answers_waiting_bytes: _Optional[int] = ...) -> None: ...

class ReportGatewayResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ShowWorkerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ShowWorkerResponse(_message.Message):
    __slots__ = ("status", "pid", "started_at", "tenants", "mode", "gateway", "gateway_age_seconds", "sessions", "displays", "scrollback_bytes", "draining")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    DISPLAYS_FIELD_NUMBER: _ClassVar[int]
    SCROLLBACK_BYTES_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    status: GetStatusResponse
    pid: int
    started_at: str
    tenants: _containers.RepeatedScalarFieldContainer[str]
    mode: str
    gateway: ReportGatewayRequest
    gateway_age_seconds: float
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    displays: int
    scrollback_bytes: int
    draining: bool
    def __init__(self, status: _Optional[_Union[GetStatusResponse, _Mapping]] = ..., pid: _Optional[int] = ..., started_at: _Optional[str] = ..., tenants: _Optional[_Iterable[str]] = ..., mode: _Optional[str] = ..., gateway: _Optional[_Union[ReportGatewayRequest, _Mapping]] = ..., gateway_age_seconds: _Optional[float] = ..., sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ..., displays: _Optional[int] = ..., scrollback_bytes: _Optional[int] = ..., draining: _Optional[bool] = ...) -> None: ...

class ListAllDevBoxesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAllDevBoxesResponse(_message.Message):
    __slots__ = ("devboxes",)
    DEVBOXES_FIELD_NUMBER: _ClassVar[int]
    devboxes: _containers.RepeatedCompositeFieldContainer[DevBox]
    def __init__(self, devboxes: _Optional[_Iterable[_Union[DevBox, _Mapping]]] = ...) -> None: ...

class StopAnyDevBoxRequest(_message.Message):
    __slots__ = ("devbox_id", "timeout_seconds")
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    devbox_id: str
    timeout_seconds: int
    def __init__(self, devbox_id: _Optional[str] = ..., timeout_seconds: _Optional[int] = ...) -> None: ...

class StopAnyDevBoxResponse(_message.Message):
    __slots__ = ("devbox",)
    DEVBOX_FIELD_NUMBER: _ClassVar[int]
    devbox: DevBox
    def __init__(self, devbox: _Optional[_Union[DevBox, _Mapping]] = ...) -> None: ...

class RemoveAnyDevBoxRequest(_message.Message):
    __slots__ = ("devbox_id", "keep_volumes")
    DEVBOX_ID_FIELD_NUMBER: _ClassVar[int]
    KEEP_VOLUMES_FIELD_NUMBER: _ClassVar[int]
    devbox_id: str
    keep_volumes: bool
    def __init__(self, devbox_id: _Optional[str] = ..., keep_volumes: _Optional[bool] = ...) -> None: ...

class RemoveAnyDevBoxResponse(_message.Message):
    __slots__ = ("devbox",)
    DEVBOX_FIELD_NUMBER: _ClassVar[int]
    devbox: DevBox
    def __init__(self, devbox: _Optional[_Union[DevBox, _Mapping]] = ...) -> None: ...
