"""The id of the command that this code works for, so that the logs of both processes can be read together.

The gateway takes it from the message and sends it with each call; the executor takes it from there. It tells nothing
about what may be done: that is the business of the ``request_id`` in the requests themselves.
"""

from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Empty where the code works for no command. A task begins with that of the task which made it."""

METADATA = "clustercode-request-id"
"""The gRPC metadata that carries it."""
