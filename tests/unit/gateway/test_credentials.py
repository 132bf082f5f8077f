"""Token: read anew at each dial from a file, once from a pipe; never part of an error."""

import os
from pathlib import Path

import pytest

from gateway.credentials import Token
from gateway.errors import Misconfigured


def test_a_file_is_read_anew_at_each_dial(tmp_path: Path) -> None:
    """A token renewed while the gateway runs is used at the next dial."""
    path = tmp_path / "token"
    path.write_text("first\n")
    token = Token(path)
    path.write_text("second\n")

    assert token.read() == "second"


def test_a_pipe_gives_its_token_once_and_it_is_kept() -> None:
    """What the supervisor hands over an inherited pipe serves every dial."""
    reader, writer = os.pipe()
    os.write(writer, b"piped\n")
    os.close(writer)
    token = Token(Path(f"/dev/fd/{reader}"))
    os.close(reader)

    assert [token.read(), token.read()] == ["piped", "piped"]


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"\xff\xfe", b"x" * 9000])
def test_what_is_no_token_is_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    """Empty, broken and oversized files are found at the start; the message names the file and not its content."""
    path = tmp_path / "token"
    path.write_bytes(content)

    with pytest.raises(Misconfigured, match="token") as refused:
        Token(path)

    assert "two" not in str(refused.value)


def test_a_missing_file_is_found_at_the_start(tmp_path: Path) -> None:
    """The message says how to get a token."""
    with pytest.raises(Misconfigured, match="token"):
        Token(tmp_path / "none")
