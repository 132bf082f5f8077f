"""The orchestrator's two addresses: the web one that people know, and its WebSocket. Pure."""

from ipaddress import ip_address
from urllib.parse import urlsplit

_WORKER_PATH = "/ws/worker"


def web_address(address: str) -> str:
    """Return the web address of an orchestrator, given either of the two.

    Raises `ValueError` with advice, which does not repeat the address: a password may be in it.
    """
    url = urlsplit(address)
    scheme = {"ws": "http", "wss": "https"}.get(url.scheme, url.scheme)
    try:
        port = f":{url.port}" if url.port else ""
    except ValueError:
        raise ValueError("the orchestrator's address has no port that there is.") from None
    if scheme not in ("http", "https") or not url.hostname or url.username or url.password:
        raise ValueError("this is no address of an orchestrator: it looks like https://orchestrator.example.")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{scheme}://{host}{port}{url.path.rstrip('/').removesuffix(_WORKER_PATH)}"


def socket_address(address: str) -> str:
    """Return the WebSocket of an orchestrator, given its web address; one that is a WebSocket's stays as it is."""
    if address.startswith(("ws://", "wss://")):
        return address
    return web_address(address).replace("http", "ws", 1) + _WORKER_PATH


def is_private(address: str) -> bool:
    """Tell whether a token may go there: over TLS, or to this machine itself."""
    url = urlsplit(address)
    host = url.hostname or ""
    if url.scheme in ("https", "wss") or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
