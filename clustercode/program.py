"""Where this program is and how it is started once more: installed for a Python, or as one file (``make dist``)."""

import os
import shlex
import shutil
import sys
from collections.abc import MutableMapping
from pathlib import Path

_ONE_FILE = "CLUSTERCODE_ONE_FILE"
"""The variable in which the one file says where it is: what runs is what it unpacked (`scripts/one-file.sh`)."""
_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
)


def is_one_file() -> bool:
    """Return whether this is the one file, with a Python of its own."""
    return bool(getattr(sys, "frozen", False))


def command(*arguments: str) -> list[str]:
    """Return the command that starts this very program once more, as ``clustercode ARGUMENTS``."""
    if is_one_file():
        return [sys.executable, *arguments]
    # -P: not from the working directory, which may be a stranger's repository with a click.py of its own.
    return [sys.executable, "-P", "-m", "clustercode", *arguments]


def path() -> str | None:
    """Return the file that a service starts as ``clustercode``; None if it is nowhere to be found."""
    if is_one_file():
        return os.environ.get(_ONE_FILE, sys.executable)
    beside = Path(sys.executable).with_name("clustercode")
    return str(beside) if beside.exists() else shutil.which("clustercode")


def shown() -> str:
    """Return what a person writes in a shell to start this program: its name where that finds it, else its path."""
    ours, named = path(), shutil.which("clustercode")
    if ours is None or (named is not None and Path(named).resolve() == Path(ours).resolve()):
        return "clustercode"
    return shlex.quote(ours)


def settle(environ: MutableMapping[str, str], *, has_authorities: bool) -> None:
    """Make the environment that of any program: Podman, Squid and our other processes begin with it.

    PyInstaller's start has put its own libraries before the machine's: they are loaded, and nobody else wants them.
    And its OpenSSL knows one place for certificate authorities, that of the machine it was made on.
    """
    for name in [name for name in environ if name.startswith("_PYI_")]:
        del environ[name]
    before = environ.pop("LD_LIBRARY_PATH_ORIG", None)
    environ.pop("LD_LIBRARY_PATH", None)
    if before is not None:
        environ["LD_LIBRARY_PATH"] = before
    if not has_authorities and (found := next(filter(os.path.exists, _AUTHORITIES), None)):
        environ.setdefault("SSL_CERT_FILE", found)
