"""Who may come in: pages with a one-time token that becomes a cookie, workers with a token from a file.

Tokens are compared in constant time and never logged.
"""

import os
import secrets
from hmac import compare_digest
from pathlib import Path

from console.errors import ConsoleError

_MAX_TOKENS = 16
_MAX_COOKIES = 64
_MIN_TOKEN_CHARS = 16


class Admission:
    """One-time tokens for the page and the cookies they were exchanged for. Lives as long as the console."""

    def __init__(self) -> None:
        self._tokens: list[str] = []
        self._cookies: list[str] = []

    def mint(self) -> str:
        """Return a new one-time token; the oldest unused one is forgotten when there are too many."""
        token = secrets.token_urlsafe(32)
        self._tokens = [*self._tokens[1 - _MAX_TOKENS :], token]
        return token

    def redeem(self, token: str) -> str | None:
        """Exchange a token for a cookie's value, once; None if it is unknown or used."""
        found = next((known for known in self._tokens if same(known, token)), None)
        if found is None:
            return None
        self._tokens.remove(found)
        cookie = secrets.token_urlsafe(32)
        self._cookies = [*self._cookies[1 - _MAX_COOKIES :], cookie]
        return cookie

    def admits(self, cookie: str) -> bool:
        """Tell whether a cookie is one that was given out."""
        return any([same(known, cookie) for known in self._cookies])  # noqa: C419 - looks at all, whichever fits


def same(expected: str, given: str) -> bool:
    """Compare two secrets without telling by the time it takes how much of them is right."""
    return compare_digest(expected.encode(), given.encode(errors="replace"))


def bearer_is(expected: str, authorization: str) -> bool:
    """Tell whether an Authorization header carries the expected bearer token."""
    scheme, _, token = authorization.partition(" ")
    return scheme.lower() == "bearer" and same(expected, token.strip())


def worker_token(data_dir: Path) -> tuple[Path, str]:
    """Return file and token with which workers come in, making both on the first call; raises `ConsoleError`."""
    path = data_dir / "worker-token"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            return path, _read(path)
        token = secrets.token_urlsafe(32)
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
    except OSError as error:
        raise ConsoleError(f"The worker token {path} cannot be read or made: {error.strerror}.") from error
    return path, token


def _read(path: Path) -> str:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ConsoleError(
            f"Other users can read {path} (mode {mode:o}). Remove it; the next start makes a new token, "
            "and workers that used the old one need the new."
        )
    token = path.read_text().strip()
    if len(token) < _MIN_TOKEN_CHARS:
        raise ConsoleError(f"{path} holds no token. Remove it; the next start makes a new one.")
    return token
