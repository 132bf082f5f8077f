"""Whether a gateway is connected: nobody can ask it, so its own connections are looked at. For containers."""

import psutil


def connected(pid: int) -> bool:
    """Return whether this process has made a connection that stands; it makes none but to the orchestrator."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    listening = {found.laddr for found in connections if found.status == psutil.CONN_LISTEN}  # for figures
    return any(found.status == psutil.CONN_ESTABLISHED and found.laddr not in listening for found in connections)
