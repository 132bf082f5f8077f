"""Git's addresses, command lines, progress and errors, read without running it."""

import subprocess

import pytest

from executor.git import (
    CREDENTIAL_VARIABLE,
    ProgressLines,
    Remote,
    command_with_credential,
    environment,
    redacted,
    refusal_of,
)
from protos.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable


@pytest.mark.parametrize(
    ("url", "kind", "folder"),
    [
        ("https://example.com/a/project.git", "http", "project"),
        ("https://user@example.com:8443/a/b/", "http", "b"),
        ("http://[::1]:80/x", "http", "x"),
        ("ssh://git@example.com:22/a/project", "ssh", "project"),
        ("git@example.com:project.git", "ssh", "project"),
        ("git://example.com/x y".replace(" ", "-"), "ssh", "x-y"),
        ("/workspace/origin", "path", "origin"),
        ("file:///tmp/..git", "path", "repository"),
        ("/tmp/ünï code", "path", "n--code"),
    ],
)
def test_an_address_is_read(url: str, kind: str, folder: str) -> None:
    """Its kind and the folder it clones to follow from it."""
    remote = Remote.of(url)

    assert (remote.kind, remote.folder) == (kind, folder)


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "ext::sh -c id", "--upload-pack=x", "-oProxyCommand=x:y", "ssh://-oProxyCommand=x/y", "git@-x:y",
        "git@host:-x", "https://", "https://host", "https://host/a?token=s3cret", "https://host/a b", "ftp://host/a",
        "https://user:s3cret@host/a", "https://:s3cret@host/a", "ssh://u:s3cret@host/a", "https://host\n/a",
        "file://host/a", "fd::17", "/a/../b", "relative/path", "https://-x/a",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused_without_repeating_it(url: str) -> None:
    """Options, other transports, passwords and control characters never reach git, nor the error's text."""
    with pytest.raises(InvalidArgument) as refusal:
        Remote.of(url)

    assert "s3cret" not in refusal.value.message


@pytest.mark.parametrize(
    ("asked", "kept", "same"),
    [
        ("https://example.com/a.git", "https://user@EXAMPLE.com/a/", True),
        ("https://example.com/a", "http://example.com/a", False),
        ("https://example.com/a", "https://example.com:8443/a", False),
        ("/workspace/a", "file:///workspace/a.git", True),
        ("/workspace/a", "https://[broken", False),
    ],
)
def test_the_same_repository_is_known_by_other_spellings(asked: str, kept: str, same: bool) -> None:
    """User, slash and .git make no difference; scheme, host, port and path do."""
    assert Remote.of(asked).is_same(kept) is same


def test_a_credential_goes_only_where_it_is_safe() -> None:
    """Not over ssh or a path, which have no use for it, nor over a network in the clear."""
    for url in ("ssh://git@example.com/a", "/workspace/a", "http://example.com/a", "http://127.0.0.1.example.com/a"):
        with pytest.raises(InvalidArgument, match="credential"):
            Remote.of(url).check_credential()
    for url in ("https://example.com/a", "http://127.0.0.1:8080/a", "http://localhost/a"):
        Remote.of(url).check_credential()


@pytest.mark.parametrize(
    ("url", "host", "answer"),
    [
        ("https://example.com/a", "example.com", ["username=x-access-token", "password=s3 'cr$et\\n"]),
        ("https://me@example.com/a", "me@example.com", ["password=s3 'cr$et\\n", "username=me"]),
        ("https://example.com/a", "evil.example", []),
        ("https://example.com/a", "example.com.evil.example", []),
        ("https://example.com/a", "example.com:444", []),
    ],
)
def test_the_helper_answers_for_the_repository_s_server_alone(url: str, host: str, answer: list[str]) -> None:
    """Real git asks it: the credential comes byte for byte, from standard input, and to no other server."""
    argv = command_with_credential(Remote.of(url), "credential", "fill")
    ask = f"url=https://{host}\n\n"
    done = subprocess.run(
        argv,
        input=f"s3 'cr$et\\n\n{ask}",
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment(Remote.of(url))},
    )

    told = [line for line in done.stdout.splitlines() if line.startswith(("username", "password"))]
    assert sorted(told) == sorted(answer)
    assert not any("cr$et" in part for part in argv)
    assert CREDENTIAL_VARIABLE in " ".join(argv)


def test_only_a_local_repository_may_have_local_submodules() -> None:
    """The file transport is closed to a remote repository's submodules; ext, which runs commands, to all."""
    assert environment(Remote.of("/a"))["GIT_ALLOW_PROTOCOL"].split(":") == ["https", "http", "ssh", "git", "file"]
    assert environment(Remote.of("https://e.com/a"))["GIT_ALLOW_PROTOCOL"].split(":") == ["https", "http", "ssh", "git"]


def test_progress_is_read_in_any_pieces() -> None:
    """Percentages become fractions, however the bytes are cut; noise, control characters and secrets do not pass."""
    text = (
        b"Cloning into '/x'...\nremote: Enumerating objects: 5, done.        \n"
        b"Receiving objects:  50% (1/2)\rReceiving objects: 100% (2/2), 1.20 MiB | 2.00 MiB/s, done.\n"
        b"\x1b[31mremote: evil s3cret\nSubmodule 'a' (https://s3cret@h/) registered for path 'a'\n"
    )
    expected = [
        ("Receiving objects: 1 of 2", 0.5),
        ("Receiving objects: 2 of 2, 1.20 MiB | 2.00 MiB/s", 1.0),
        ("Submodule 'a' (https://***@h/) registered for path 'a'", None),
    ]
    for size in (1, 7, len(text)):
        lines = ProgressLines("s3cret")
        assert [step for at in range(0, len(text), size) for step in lines.feed(text[at : at + size])] == expected


def test_a_line_without_end_is_not_gathered() -> None:
    """What a box writes without a line end takes a bounded place."""
    lines = ProgressLines("")
    for _ in range(1000):
        assert lines.feed(b"x" * 1000) == []

    assert len(lines._rest) <= 4096


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("fatal: Authentication failed for 'https://h/'", PermissionDenied),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", PermissionDenied),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 403", PermissionDenied),
        ("fatal: repository 'https://h/' not found", NotFound),
        ("fatal: Remote branch x not found in upstream origin", NotFound),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", Unavailable),
        ("what is this", FailedPrecondition),
        ("", FailedPrecondition),
    ],
)
def test_what_git_says_becomes_a_sentence(stderr: str, kind: type[Exception]) -> None:
    """The code tells what to do; git's own words follow, without the credential."""
    refusal = refusal_of(
        f"progress 50%\rnoise s3/cret\n{stderr} s3%2Fcret s3/cret\n".encode(), "s3/cret", doing="Cloning"
    )

    assert type(refusal) is kind
    assert "s3" not in refusal.message


def test_redaction_of_nothing_changes_nothing() -> None:
    """Without a credential text stays as it is."""
    assert redacted("abc", "") == "abc"
