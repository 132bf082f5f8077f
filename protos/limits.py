"""Bounds that hold in gateway and executor alike, each with its reason. Sizes are bytes unless named otherwise."""

MAX_MESSAGE_BYTES = 1024 * 1024
"""A text message on the WebSocket; a longer one ends the connection with close code 1009."""

MAX_NESTING = 32
"""Depth of JSON objects and arrays in one message."""

MAX_CHUNK_BYTES = 64 * 1024
"""Data in one frame: larger ones cost latency and gain nothing (docs/performance.md)."""

DEFAULT_WINDOW_BYTES = 128 * 1024
"""Output of one session sent but not acknowledged. Latency under load is about window / link rate."""

MIN_WINDOW_BYTES = 32 * 1024
MAX_WINDOW_BYTES = 256 * 1024

MAX_PENDING_INPUT_BYTES = 1024 * 1024
"""Input of one session that waits for a program that does not read."""

MAX_TERMINAL_SIDE = 2000
"""Columns or rows. A 4K screen at the smallest readable font has about 770 columns."""

MAX_DISPLAY_SIDE = 16384
"""Width or height of a display in pixels; RFB itself could not say more than 65535."""

MAX_STRING_BYTES = 64 * 1024
"""Any single string of a command, unless its field says otherwise."""

MAX_LIST_ITEMS = 1000
"""Items of any list or map of a command."""

MAX_TIMEOUT_MS = 24 * 3600 * 1000
"""The longest a command may ask to run."""

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
"""Ids of tenants, DevBoxes, sessions and workers: safe in a label, a header and a log line."""

REQUEST_ID_PATTERN = r"^[\x21-\x7e]{1,128}$"
"""Ids of requests: whatever an orchestrator likes to count with, printable and without spaces."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""Names of DevBoxes."""

ENV_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
"""Names of environment variables, as POSIX shells take them."""
