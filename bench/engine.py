"""A Podman service of the bench's own, and the few raw API calls that the others are measured against. Blocking."""

import json
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

START_TIMEOUT_S = 20.0
_API = "/v1.41"


class EngineFailed(Exception):
    """The engine did not do what the bench needs."""


class Engine:
    """``podman system service`` on a socket in the bench's directory; ends with the ``with`` block."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "podman.sock"
        self._log = directory / "podman.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["podman", "system", "service", "--time=0", f"unix://{self.socket}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.connect().close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        self.__exit__(None, None, None)
        raise EngineFailed(f"podman system service did not start: {self._log.read_text(errors='replace')[-500:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)

    @property
    def pid(self) -> int:
        """The service's process."""
        assert self._process is not None
        return self._process.pid

    def connect(self) -> socket.socket:
        """Return a new connection to the service."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self.socket))
        except OSError:
            connection.close()
            raise
        return connection

    def create_exec(self, container: str, argv: list[str]) -> str:
        """Prepare a command with a terminal; returns the exec's id."""
        body = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": True, "Cmd": argv}
        with Api(self) as api:
            return str(api.call("POST", f"/containers/{container}/exec", body)["Id"])

    def start_exec(self, exec_id: str) -> tuple[socket.socket, bytes]:
        """Start a prepared command; returns its hijacked connection and the first bytes of its output."""
        connection = self.connect()
        body = json.dumps({"Detach": False, "Tty": True, "h": 24, "w": 80}).encode()
        connection.sendall(
            b"POST %s/exec/%s/start HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %d\r\n\r\n%s"
            % (_API.encode(), exec_id.encode(), len(body), body)
        )
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                break
            head += piece
        head, _, rest = head.partition(b"\r\n\r\n")
        if b" 101 " not in head[:16] and b" 200 " not in head[:16]:
            connection.close()
            raise EngineFailed(f"the engine does not start an exec: {(head + rest)[:300]!r}")
        return connection, rest


class Api:
    """One keep-alive connection for plain calls."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> Self:
        self._connection = self._engine.connect()
        self._file = self._connection.makefile("rb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self._connection.close()

    def call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - whatever JSON it answers
        """Make a call; raises `EngineFailed` with what the engine says."""
        payload = b"" if body is None else json.dumps(body).encode()
        self._connection.sendall(
            b"%s %s%s HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (method.encode(), _API.encode(), path.encode(), len(payload), payload)
        )
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip().lower()
        if headers.get(b"transfer-encoding") == b"chunked":
            answer = b""
            while size := int(self._file.readline(), 16):
                answer += self._file.read(size)
                self._file.readline()
            self._file.readline()
        else:
            answer = self._file.read(int(headers.get(b"content-length", 0)))
        if status >= 300:
            raise EngineFailed(f"{method} {path}: {status} {answer[:300]!r}")
        return json.loads(answer) if answer else None

    def containers(self, label: str) -> list[dict[str, Any]]:
        """List all containers with a label."""
        filters = quote(json.dumps({"label": [label]}))
        found: list[dict[str, Any]] = self.call("GET", f"/containers/json?all=true&filters={filters}")
        return found
