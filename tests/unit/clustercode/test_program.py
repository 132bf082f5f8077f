"""How the program starts itself again, installed and as one file."""

import sys
from pathlib import Path

import pytest

from clustercode import program


@pytest.fixture
def one_file(monkeypatch: pytest.MonkeyPatch) -> str:
    """As if this were the one file."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/var/cache/clustercode/0123/worker-agent")
    return sys.executable


def test_an_installed_program_is_started_by_its_python_and_from_nowhere_else() -> None:
    """-P: a working directory with modules of its own changes nothing."""
    assert program.command("gateway", "--handed-over") == [
        sys.executable, "-P", "-m", "clustercode", "gateway", "--handed-over",
    ]  # fmt: skip


def test_the_one_file_is_started_by_itself(one_file: str) -> None:
    """There is no Python to ask."""
    assert program.command("gateway", "--handed-over") == [one_file, "gateway", "--handed-over"]


def test_a_service_starts_the_file_that_was_downloaded(one_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what it unpacked, which the next version does not use."""
    monkeypatch.setenv("CLUSTERCODE_ONE_FILE", "/usr/local/bin/worker-agent")
    assert program.path() == "/usr/local/bin/worker-agent"
    monkeypatch.delenv("CLUSTERCODE_ONE_FILE")
    assert program.path() == one_file


def test_an_installed_program_believes_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one file's variable counts in the one file alone."""
    monkeypatch.setenv("CLUSTERCODE_ONE_FILE", "/elsewhere")
    assert program.path() == str(Path(sys.executable).with_name("clustercode"))


def test_what_is_shown_to_be_typed_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_file: str) -> None:
    """The name where a shell finds this program by it, also by a link; elsewhere, and where it is another, the path."""
    ours = tmp_path / "a directory" / "worker-agent"
    for directory in ("a directory", "bin", "other"):
        (tmp_path / directory).mkdir()
    for file in (ours, tmp_path / "other" / "clustercode"):
        file.touch(mode=0o755)
    (tmp_path / "bin" / "clustercode").symlink_to(ours)
    monkeypatch.setenv("CLUSTERCODE_ONE_FILE", str(ours))
    said = []
    for path in ("bin", "other", "a directory"):
        monkeypatch.setenv("PATH", str(tmp_path / path))
        said.append(program.shown())
    assert said == ["clustercode", f"'{ours}'", f"'{ours}'"]
    assert one_file not in said


@pytest.mark.parametrize("before", [None, "/opt/lib"])
def test_what_is_started_gets_none_of_the_packed_libraries(before: str | None) -> None:
    """Podman, Squid and git take the machine's libraries, and what the user has set."""
    environ = {
        "PATH": "/usr/bin", "LD_LIBRARY_PATH": "/var/cache/x/_internal",
        "_PYI_ARCHIVE_FILE": "/var/cache/x/worker-agent", "_PYI_PARENT_PROCESS_LEVEL": "1",
    }  # fmt: skip
    wanted = {"PATH": "/usr/bin"}
    if before is not None:
        environ |= {"LD_LIBRARY_PATH": f"/var/cache/x/_internal:{before}", "LD_LIBRARY_PATH_ORIG": before}
        wanted |= {"LD_LIBRARY_PATH": before}
    program.settle(environ, has_authorities=True)
    assert environ == wanted


def test_certificate_authorities_are_found_on_other_distributions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where OpenSSL finds none; a variable that is set stays."""
    bundle = tmp_path / "ca-bundle.crt"
    monkeypatch.setattr(program, "_AUTHORITIES", (str(tmp_path / "absent"), str(bundle)))
    none: dict[str, str] = {}
    program.settle(none, has_authorities=False)
    assert none == {}

    bundle.touch()
    found, own = {}, {"SSL_CERT_FILE": "/my/own.pem"}
    program.settle(found, has_authorities=False)
    program.settle(own, has_authorities=False)
    assert found == {"SSL_CERT_FILE": str(bundle)}
    assert own == {"SSL_CERT_FILE": "/my/own.pem"}
