"""An internet for tests, in network namespaces of their own: nothing that goes in there leaves the machine.

``Internet`` makes two: "worker", where the egress process runs, and "internet", to which alone the worker's routes lead
and where this file, run as a program, serves names (logging each question), pages with a canary, and whatever else a
probe may want to reach. What a server saw stands in its log, one JSON object a line.
"""

import http.server
import json
import os
import secrets
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

WORKER = "11.22.44.1"
WORKER6 = "2600:44::1"
UPSTREAM = "11.22.44.2"
ALLOWED = "11.22.33.10"
EVIL = "11.22.33.20"
METADATA = "169.254.169.254"
PRIVATE = "10.9.8.7"
ALLOWED6 = "2600:33::10"
ADDRESSES = (ALLOWED, EVIL, METADATA, PRIVATE)
NAMES = {
    "allowed.test": ALLOWED,
    "sub.allowed.test": ALLOWED,
    "deep.sub.allowed.test": ALLOWED,
    "exact.test": ALLOWED,
    "sub.exact.test": ALLOWED,
    "other.test": ALLOWED,  # on another DevBox's list alone, at an address that is allowed
    "deb.debian.org": ALLOWED,  # one of the built-in names
    "evil.test": EVIL,
    "metadata.allowed.test": METADATA,
    "private.allowed.test": PRIVATE,
    "loop.allowed.test": "127.0.0.1",
    "self.allowed.test": WORKER,
    "any.allowed.test": "0.0.0.0",  # noqa: S104 - what a hostile name server may say
    "mapped.allowed.test": "::ffff:127.0.0.1",
    "six.allowed.test": ALLOWED6,
    "self6.allowed.test": WORKER6,
    "nat64.allowed.test": "64:ff9b::7f00:1",
    "local6.allowed.test": "fe80::1",
}
"""What the name server knows; below rebind.allowed.test it answers now with an allowed address, now with loopback."""
CANARY = "canary-at-"


@dataclass
class Internet:
    """The two namespaces while they are there."""

    worker: str
    internet: str
    directory: Path

    def in_worker(self, *command: str) -> list[str]:
        """Return a command that runs in the worker's namespace, with the name server of this internet."""
        script = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
        enter = ["nsenter", f"--net=/run/netns/{self.worker}", "unshare", "--mount", "sh", "-c", script, "sh"]
        return [*enter, str(self.directory / "resolv.conf"), *command]

    def seen(self, kind: str) -> list[str]:
        """What the servers saw of a kind: "dns" names asked for, "http" and "tcp" what came, "udp"."""
        lines = [json.loads(line) for line in (self.directory / "seen").read_text().splitlines()]
        return [line["what"] for line in lines if line["kind"] == kind]

    @property
    def ca(self) -> str:
        """The certificate that its https servers show."""
        return (self.directory / "tls.pem").read_text()


@contextmanager
def internet(directory: Path, site: Path) -> Iterator[Internet]:
    """Make the namespaces and serve the files below ``site`` from allowed addresses; all of it is gone at the end."""
    tag = secrets.token_hex(3)
    world = Internet(f"cc-{tag}-worker", f"cc-{tag}-net", directory)
    (directory / "resolv.conf").write_text(f"nameserver {UPSTREAM}\noptions attempts:1 timeout:2\n")
    names = ",".join(f"DNS:{name}" for name in ("allowed.test", "*.allowed.test", "exact.test", "evil.test"))
    _run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=allowed.test", "-addext", f"subjectAltName={names}", "-keyout", str(directory / "tls.key"),
         "-out", str(directory / "tls.pem"))  # fmt: skip
    servers: list[subprocess.Popen[bytes]] = []
    try:
        for namespace in (world.worker, world.internet):
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        ends = (f"w{tag}", f"i{tag}")
        _ip("link", "add", ends[0], "netns", world.worker, "type", "veth", "peer", "name", ends[1],
            "netns", world.internet)  # fmt: skip
        for namespace, end, four, six in (
            (world.worker, ends[0], WORKER, WORKER6), (world.internet, ends[1], UPSTREAM, "2600:44::2"),
        ):  # fmt: skip
            _ip("-n", namespace, "addr", "add", f"{four}/24", "dev", end)
            _ip("-n", namespace, "addr", "add", f"{six}/64", "dev", end, "nodad")
            _ip("-n", namespace, "link", "set", end, "up")
        for address in ADDRESSES:
            _ip("-n", world.internet, "addr", "add", f"{address}/32", "dev", "lo")
        _ip("-n", world.internet, "addr", "add", f"{ALLOWED6}/128", "dev", "lo", "nodad")
        _ip("-n", world.worker, "route", "add", "default", "via", UPSTREAM)
        _ip("-n", world.worker, "-6", "route", "add", "default", "via", "2600:44::2")
        for namespace, role in ((world.internet, "internet"), (world.worker, "machine")):
            with (directory / "servers.log").open("ab") as log:
                servers.append(
                    subprocess.Popen(
                        [*_enter(namespace), sys.executable, __file__, role, str(directory), str(site)],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n", (directory / "servers.log").read_text()
        yield world
    finally:
        for server in servers:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
            if server.stdout is not None:
                server.stdout.close()
        for namespace in (world.worker, world.internet):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def _enter(namespace: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{namespace}"]


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


# --- the servers, run as a program ----------------------------------------------------------------------------------


class _Servers:
    def __init__(self, directory: Path, site: Path) -> None:
        self._directory = directory
        self._site = site
        self._seen = (directory / "seen").open("a", buffering=1)
        self._turns: dict[str, int] = {}

    def note(self, kind: str, what: str) -> None:
        self._seen.write(json.dumps({"kind": kind, "what": what, "at": time.time()}) + "\n")

    def pages(self, address: str, port: int, label: str, *, tls: bool = False) -> None:
        """Serve pages; one that is no file of the site is the canary of this server."""
        servers, site = self, self._site

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=str(site))  # type: ignore[arg-type]

            def do_GET(self) -> None:
                servers.note("http", f"{label} {self.headers.get('Host')} {self.path}")
                if label == "allowed" and Path(self.translate_path(self.path)).exists():
                    super().do_GET()
                    return
                self.send_response(200)
                self.end_headers()
                self.wfile.write(f"{CANARY}{label}\n".encode())

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
            daemon_threads = True

        server = Server((address, port), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._directory / "tls.pem", self._directory / "tls.key")
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def banner(self, address: str, port: int, label: str) -> None:
        """Greet as an SSH server that is a canary, note what the other side says, and stay until it goes."""
        listening = socket.create_server((address, port))

        def talk(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.sendall(f"SSH-2.0-{CANARY}{label}\r\n".encode())
                while said := connection.recv(256):
                    self.note("tcp", f"{label} {said.splitlines()[0].decode(errors='replace')}")
                    connection.sendall(b"more\n")

        def serve() -> None:
            while True:
                threading.Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()

    def datagrams(self, address: str, port: int, label: str) -> None:
        """Answer each datagram with a canary."""
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((address, port))

        def serve() -> None:
            while True:
                _, peer = bound.recvfrom(2048)
                self.note("udp", label)
                bound.sendto(f"{CANARY}{label}".encode(), peer)

        threading.Thread(target=serve, daemon=True).start()

    def names(self, address: str) -> None:
        """Serve names over UDP."""
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((address, 53))

        def serve() -> None:
            while True:
                question, peer = bound.recvfrom(2048)
                with suppress(IndexError, struct.error):
                    bound.sendto(self._answer(question), peer)

        threading.Thread(target=serve, daemon=True).start()

    def _answer(self, question: bytes) -> bytes:
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode())
            at += 1 + question[at]
        name, kind = ".".join(labels).lower(), struct.unpack(">H", question[at + 1 : at + 3])[0]
        self.note("dns", name)
        found = NAMES.get(name)
        if name.endswith("rebind.allowed.test"):
            turn = self._turns[name] = self._turns.get(name, 0) + 1
            found = ALLOWED if turn % 2 and "twice" not in name else "127.0.0.1"
        is_six = found is not None and ":" in found
        answers = b""
        if found is not None and kind == (28 if is_six else 1):
            data = socket.inet_pton(socket.AF_INET6 if is_six else socket.AF_INET, found)
            answers = struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(data)) + data
        flags = 0x8180 if found is not None else 0x8183
        return (
            question[:2] + struct.pack(">HHHHH", flags, 1, 1 if answers else 0, 0, 0) + question[12 : at + 5] + answers
        )


def _main(role: str, directory: Path, site: Path) -> None:
    servers = _Servers(directory, site)
    if role == "internet":
        servers.names(UPSTREAM)
        for address, label in ((ALLOWED, "allowed"), (EVIL, "evil"), (METADATA, "metadata"), (PRIVATE, "private")):
            servers.pages(address, 80, label)
            servers.pages(address, 443, label, tls=True)
            servers.banner(address, 22, label)
        for port in (8080, 9999):
            servers.pages(ALLOWED, port, f"allowed-{port}")
        servers.banner(ALLOWED, 25, "allowed-25")
        servers.pages(ALLOWED6, 80, "six")
        servers.pages(ALLOWED6, 443, "six", tls=True)
        servers.datagrams(ALLOWED, 9999, "udp")
        servers.datagrams(EVIL, 53, "udp-53")
    else:
        servers.pages("0.0.0.0", 80, "machine")  # noqa: S104 - as a careless service of the machine listens
        servers.pages("0.0.0.0", 443, "machine", tls=True)  # noqa: S104
        servers.pages(WORKER6, 80, "machine6")
        servers.banner("0.0.0.0", 22, "machine")  # noqa: S104
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
