"""What ends the gateway, and with which exit code. What is merely refused to a caller is a `protos.errors.Refusal`.

::

    GatewayError
    ├── TokenRefused     the orchestrator does not accept the token: exit 3
    ├── Misconfigured    something on this machine must be put right first: exit 4
    └── Replaced         another instance of this worker is connected now: exit 6
    ExecutorUntrusted    the executor's socket is not the executor's alone: refused to callers, and exit 4
"""

from enum import IntEnum

from protos.errors import Unavailable


class ExitCode(IntEnum):
    """How the process ended, for whoever supervises it. After 3, 4 and 6 a restart changes nothing."""

    CLEAN = 0
    TOKEN_REFUSED = 3
    MISCONFIGURED = 4
    CUT_SHORT = 5
    """Asked to stop, and work was still running at the deadline or at the second signal."""
    REPLACED = 6


class GatewayError(Exception):
    """The gateway cannot go on; the message says what to do."""


class TokenRefused(GatewayError):
    """The orchestrator answered 401 or 403."""


class Misconfigured(GatewayError):
    """The token file or another local thing is not as it must be."""


class Replaced(GatewayError):
    """Another instance with this worker's id has connected: the two would displace each other for ever."""


class ExecutorUntrusted(Unavailable):
    """The executor's socket, or its directory, has another owner or lets others in."""
