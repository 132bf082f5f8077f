"""Run inside a DevBox: tries to reach things and says what came back. Reads probes as JSON, writes answers as JSON.

A probe is ``[how, host, port, more]``; its answer what came back, or ``!`` and why nothing did.
"""

import json
import os
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

PROXY = ("127.0.0.1", 3128)
TIMEOUT_S = 8


def read(connection: socket.socket) -> str:
    """Read to the end, or until what is there stops coming."""
    data = b""
    try:
        while piece := connection.recv(4096):
            data += piece
            if b"\n" in data and data.startswith(b"SSH-"):
                break
    except OSError as error:
        if not data:
            return f"!{error}"
    return data.decode(errors="replace")


def request(host: str) -> bytes:
    """Return a request for a page of a host."""
    return f"GET /probe HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()


def tunnel(target: str) -> socket.socket:
    """Open a tunnel through the proxy; raises `OSError` with its answer if it refuses."""
    connection = socket.create_connection(PROXY, TIMEOUT_S)
    connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(1)
        if not piece:
            raise OSError(f"closed after {head!r}")
        head += piece
    if b" 200 " not in head.splitlines()[0]:
        raise OSError(head.splitlines()[0].decode())
    return connection


def probe(how: str, host: str, port: int, more: str = "") -> str:  # noqa: PLR0911 - one for each way
    """Try one; returns what came back."""
    shown = f"[{host}]" if ":" in host else host
    if how == "connect":  # more: the name that is asked for in the tunnel, where that is another
        with tunnel(f"{shown}:{port}") as connection:
            if port == 22:
                return read(connection)
            context = ssl._create_unverified_context()  # noqa: S323
            with context.wrap_socket(connection, server_hostname=more or host) as inside:
                inside.sendall(request(more or host))
                return read(inside)
    if how == "plain":  # a tunnel with plain HTTP in it
        with tunnel(f"{shown}:{port}") as connection:
            connection.sendall(request(host))
            return read(connection)
    if how == "get":  # more: another Host header
        with socket.create_connection(PROXY, TIMEOUT_S) as connection:
            address = shown if port == 80 else f"{shown}:{port}"
            connection.sendall(f"GET http://{address}/probe HTTP/1.0\r\nHost: {more or address}\r\n\r\n".encode())
            return read(connection)
    if how == "raw":  # more: the very request, for {secret} with the secret of the DevBox
        with socket.create_connection(PROXY, TIMEOUT_S) as connection:
            connection.sendall(more.replace("{secret}", os.environ.get("CANARY", "")).encode())
            return read(connection)
    if how == "tcp":
        with socket.create_connection((host, port), TIMEOUT_S) as connection:
            connection.sendall(request(host))
            return read(connection)
    if how == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
            bound.settimeout(2)
            bound.sendto(b"hello", (host, port))
            return bound.recv(2048).decode(errors="replace")
    if how == "dns":
        return " ".join(str(found[4][0]) for found in socket.getaddrinfo(host, port))
    if how == "unix":
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(host)
            return "connected"
    raise ValueError(how)


def answer(one: list[object]) -> str:
    """Try one, whatever happens."""
    try:
        return probe(*one)  # type: ignore[arg-type]
    except OSError as error:
        return f"!{error}"


if __name__ == "__main__":
    with ThreadPoolExecutor(8) as pool:
        json.dump(list(pool.map(answer, json.load(sys.stdin))), sys.stdout)
