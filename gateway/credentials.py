"""The token that opens the WebSocket: in no log and in no error. One from a file is in memory for one dial only."""

import re
from pathlib import Path

from gateway.errors import Misconfigured

_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
"""What a header takes, and far less than a pipe holds."""
_MAX_FILE_BYTES = 16384


class Token:
    """Where the token comes from: a file read anew at each dial, or a pipe, which gives it only once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A descriptor inherited from the supervisor: a pipe can be read once, and its writer closes it after writing,
        # so that this read ends. A path under /dev/fd may share its offset with us, hence once there too.
        once = path.is_relative_to("/dev/fd") or path.is_relative_to("/proc") or (path.exists() and not path.is_file())
        self._kept = read_token(path) if once else None
        if self._kept is None:
            read_token(path)  # A missing or empty file is found at the start, not in a log line hours later.

    def read(self) -> str:
        """Return the token as it is now; raises `Misconfigured`."""
        return self._kept if self._kept is not None else read_token(self._path)


def is_token(text: str) -> bool:
    """Say whether this may be a token: one word of printable ASCII."""
    return _TOKEN.fullmatch(text) is not None


def read_token(path: Path) -> str:
    """Return the token that a file or a pipe holds; raises `Misconfigured`, which does not show it."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode("ascii").strip()
    except OSError as error:
        raise Misconfigured(f"Cannot read the token file {path}: {error.strerror}; see --token-file.") from None
    except UnicodeDecodeError:
        text = ""
    if not is_token(text):
        raise Misconfigured(f"The token file {path} does not hold one token on one line. Give one with --token-file.")
    return text
