"""Whether an executor serves: asked over its own socket, in gRPC's health protocol. For containers and pods."""

from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def serves(socket: Path, timeout_s: float) -> bool:
    """Return whether the executor behind this socket says that it serves."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined] # its stubs leave it out
            answer = check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
