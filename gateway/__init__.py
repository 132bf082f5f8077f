"""The gateway: holds the one outbound WebSocket to the orchestrator, the token that opens it, and nothing else.

It turns JSON messages into calls of the executor and the executor's streams into frames. It never touches a
container, the disk or policy: the executor decides what is allowed and trusts nothing said here. It may be killed
and started again at any moment; DevBoxes, sessions and running commands live on in the executor.

One way through, top to bottom: `app` (the program) → `connection` (the socket) → `dispatch` (one message) →
`commands` and `terminals`/`streams` (its meaning) → `executor_client` (the only import of gRPC).
"""
