"""`console.tokens`: who may come in."""

from pathlib import Path

import pytest

from console.errors import ConsoleError
from console.tokens import Admission, bearer_is, worker_token


def test_a_token_works_once() -> None:
    """The first use gives a cookie, the second nothing; the cookie goes on working."""
    admission = Admission()
    token = admission.mint()
    cookie = admission.redeem(token)

    assert cookie is not None
    assert admission.redeem(token) is None
    assert admission.admits(cookie)
    assert not admission.admits("")
    assert not admission.admits(token)


def test_old_tokens_are_forgotten() -> None:
    """Unused tokens do not pile up: the oldest stops working."""
    admission = Admission()
    first = admission.mint()
    last = [admission.mint() for _ in range(20)][-1]

    assert admission.redeem(first) is None
    assert admission.redeem(last) is not None


@pytest.mark.parametrize(
    ("header", "fits"),
    [("Bearer secret", True), ("bearer secret", True), ("Bearer other", False), ("secret", False), ("", False)],
)
def test_bearer(header: str, *, fits: bool) -> None:
    """Only the right token under the right scheme fits, and garbage is no error."""
    assert bearer_is("secret", header) is fits
    assert not bearer_is("secret", "Bearer \udce9")


def test_the_worker_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """The first start makes the file 0600, later starts read it."""
    path, token = worker_token(tmp_path / "data")

    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert worker_token(tmp_path / "data") == (path, token)


def test_a_token_others_can_read_is_refused(tmp_path: Path) -> None:
    """A file that leaked is not used; the message says what to do."""
    path, _ = worker_token(tmp_path)
    path.chmod(0o644)

    with pytest.raises(ConsoleError, match="Remove it"):
        worker_token(tmp_path)


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    """A file without a token lets nobody in, rather than everybody."""
    path, _ = worker_token(tmp_path)
    path.write_text("\n")

    with pytest.raises(ConsoleError, match="no token"):
        worker_token(tmp_path)
