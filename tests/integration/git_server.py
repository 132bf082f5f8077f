"""A git server for tests: git's own HTTP backend behind Python's HTTP server on loopback, with a password if wanted."""

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

AUTHOR = {
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com", "GIT_CONFIG_GLOBAL": "/dev/null",
}  # fmt: skip


@dataclass
class GitServer:
    """Serves the bare repositories below ``root``; while ``stalls`` is set, no pack is sent."""

    root: Path
    password: str
    port: int = 0
    stalls: bool = False
    stalled: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    def url(self, name: str = "project") -> str:
        """Address of a repository."""
        return f"http://127.0.0.1:{self.port}/{name}.git"

    def make(self, name: str = "project", files: dict[str, str] | None = None) -> str:
        """Make a repository with one commit on ``main``; returns the commit."""
        work = self.root / f"{name}.work"
        run("init", "--quiet", "--initial-branch=main", str(work))
        run("-C", str(work), "remote", "add", "origin", str(self.root / f"{name}.git"))
        run("init", "--quiet", "--bare", "--initial-branch=main", str(self.root / f"{name}.git"))
        return self.commit(name, files or {"README": "one\n"})

    def commit(self, name: str, files: dict[str, str], branch: str = "main") -> str:
        """Commit files to a branch and push it; returns the commit."""
        work = self.root / f"{name}.work"
        if run("-C", str(work), "rev-parse", "--verify", "--quiet", "HEAD", check=False):
            run("-C", str(work), "checkout", "--quiet", *([] if branch == "main" else ["-B"]), branch)
        for path, text in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(text)
        run("-C", str(work), "add", "--all")
        run("-C", str(work), "commit", "--quiet", "--message", "more")
        run("-C", str(work), "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return run("-C", str(work), "rev-parse", "HEAD")


def run(*arguments: str, check: bool = True) -> str:
    """Run git; returns what it prints."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        check=check, capture_output=True, text=True, timeout=60, env={**os.environ, **AUTHOR},
    )  # fmt: skip
    return done.stdout.strip()


@contextmanager
def serving(root: Path, password: str) -> Iterator[GitServer]:
    """Serve until the end of the block; an empty password lets everybody in."""
    git = GitServer(root, password)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "").removeprefix("Basic ")
            if password and base64.b64decode(given).decode().rpartition(":")[2] != password:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
                self.end_headers()
                return
            if git.stalls and self.command == "POST":
                git.stalled.set()
                git.let_go.wait(60)
                return
            path, _, query = self.path.partition("?")
            size = int(self.headers.get("Content-Length") or 0)
            done = subprocess.run(
                ["git", "http-backend"],
                input=self.rfile.read(size),
                check=True,
                capture_output=True,
                timeout=60,
                env={
                    "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(size),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1",
                },
            )  # fmt: skip
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(lines.pop("Status", "200 OK").split()[0]))
            for name, value in lines.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    git.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, name="git server")
    thread.start()
    try:
        yield git
    finally:
        git.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()
