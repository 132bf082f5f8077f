"""Whether a gateway is connected: it listens on nothing, so its own connections are looked at. For containers."""

import psutil


def connected(pid: int) -> bool:
    """Return whether this process has a connection that is established; it makes none but to the orchestrator."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(connection.status == psutil.CONN_ESTABLISHED for connection in connections)
