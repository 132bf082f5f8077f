"""What a caller may ask of a setup."""

import pytest

from executor.requests import SetupDevBox
from executor.rpc import checked
from protos.errors import InvalidArgument

BASE = {"tenant": "local", "devbox_id": "b", "url": "https://example.com/x"}


@pytest.mark.parametrize("branch", ["", "main", "feature/ünïcode", "a.b-c_d/e+f", "0", "x@y"])
def test_a_branch_that_git_takes_is_taken(branch: str) -> None:
    """Names are git's business, not ours."""
    assert checked(SetupDevBox, **BASE, branch=branch).branch == branch


@pytest.mark.parametrize(
    "branch",
    ["-x", "--upload-pack=id", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "/a", "a/", "a//b", ".a",
     "a/.b", "a.lock", "a.", "@", "a@{1}", "a\n", "a\0", "\x7f"],
)  # fmt: skip
def test_what_is_no_branch_is_refused(branch: str) -> None:
    """Options, revisions and refspecs are none."""
    with pytest.raises(InvalidArgument, match="branch"):
        checked(SetupDevBox, **BASE, branch=branch)


@pytest.mark.parametrize(("asked", "taken"), [("", ""), ("/a//b/./c/", "/a/b/c"), ("/-x", "/-x"), ("/a b", "/a b")])
def test_a_workdir_is_brought_to_its_shortest_form(asked: str, taken: str) -> None:
    """So that two spellings are one place."""
    assert checked(SetupDevBox, **BASE, workdir=asked).workdir == taken


@pytest.mark.parametrize("workdir", ["a", "/", "//", "/./", "/a/../b", "/a\nb", "/a\0", "-x"])
def test_what_is_no_folder_is_refused(workdir: str) -> None:
    """Relative, climbing and unprintable paths, and the root itself."""
    with pytest.raises(InvalidArgument, match="workdir"):
        checked(SetupDevBox, **BASE, workdir=workdir)


@pytest.mark.parametrize(
    "wrong",
    [{"commit": "main"}, {"commit": "-f"}, {"commit": "abc"}, {"depth": -1}, {"timeout_ms": 0}, {"credential": "a\nb"},
     {"url": ""}, {"ticket_body": "\0"}, {"instructions": "x" * 70_000}],
)  # fmt: skip
def test_a_field_out_of_bounds_is_named(wrong: dict[str, object]) -> None:
    """And its value is not repeated."""
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        checked(SetupDevBox, **{**BASE, **wrong})


def test_secrets_are_in_no_representation() -> None:
    """A request that is logged by mistake tells nothing."""
    asked = checked(SetupDevBox, **BASE, credential="s3cret")
    assert "s3cret" not in repr(asked)
    assert "s3cret" not in asked.fingerprint()
