"""``~/.clustercode``: the files that this program and the public ``clustercode`` CLI share on one's own machine.

::

    ~/.clustercode/       0700
      credentials.json    apiKey, email, createdAt: who is logged in
      worker.json         workerId, tenantId, tenantName, orchestratorUrl: as what this machine is registered
      config.json         preferences; the keys are names of variables

All are 0600 and written whole or not at all. Keys that are not ours belong to somebody else and stay.
"""

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clustercode.config_file import read_json
from clustercode.errors import ConfigurationError, Unusable

DIRECTORY = Path("~/.clustercode")


@dataclass(frozen=True)
class Credentials:
    """Who is logged in."""

    api_key: str
    email: str


@dataclass(frozen=True)
class Registration:
    """As what this machine is registered."""

    worker_id: str
    tenant_id: str
    tenant_name: str
    url: str
    """The orchestrator's WebSocket."""


class Home:
    """The directory of one user. Reads at each call; raises `ConfigurationError` for what is broken."""

    def __init__(self, directory: Path | None = None) -> None:
        try:
            self.directory = (directory or DIRECTORY).expanduser().absolute()
        except RuntimeError:
            raise Unusable("This user has no home directory: set HOME.") from None
        self.credentials_file = self.directory / "credentials.json"
        self.worker_file = self.directory / "worker.json"
        self.config_file = self.directory / "config.json"

    def credentials(self) -> Credentials | None:
        """Return who is logged in; None: nobody."""
        found = read_json(self.credentials_file) or {}
        api_key = _text(self.credentials_file, found, "apiKey")
        return Credentials(api_key, _text(self.credentials_file, found, "email")) if api_key else None

    def registration(self) -> Registration | None:
        """Return as what this machine is registered; None: it is not."""
        found = read_json(self.worker_file) or {}
        keys = ("workerId", "tenantId", "tenantName", "orchestratorUrl")
        worker_id, tenant_id, name, url = (_text(self.worker_file, found, key) for key in keys)
        return Registration(worker_id, tenant_id, name, url) if worker_id and tenant_id and url else None

    def config(self) -> dict[str, Any]:
        """Return the preferences, ours and others'."""
        return read_json(self.config_file) or {}

    def log_in(self, credentials: Credentials, created_at: str) -> None:
        """Keep who is logged in now."""
        mine = {"apiKey": credentials.api_key, "email": credentials.email, "createdAt": created_at}
        self._merge(self.credentials_file, mine)

    def log_out(self) -> bool:
        """Forget who is logged in; tells whether anybody was."""
        return self._remove(self.credentials_file)

    def register(self, registration: Registration) -> None:
        """Keep as what this machine is registered."""
        mine = {
            "workerId": registration.worker_id,
            "tenantId": registration.tenant_id,
            "tenantName": registration.tenant_name,
            "orchestratorUrl": registration.url,
        }
        self._merge(self.worker_file, mine)

    def unregister(self) -> bool:
        """Forget the registration; tells whether there was one."""
        return self._remove(self.worker_file)

    def prefer(self, name: str, value: str | None) -> None:
        """Set a preference; None removes it."""
        self._merge(self.config_file, {name: value})

    def _merge(self, path: Path, changes: Mapping[str, str | None]) -> None:
        kept = {**(read_json(path) or {}), **changes}
        write_atomically(path, json.dumps({key: kept[key] for key in kept if kept[key] is not None}, indent=2) + "\n")
        with suppress(OSError):  # another program may have made it, and not our own
            self.directory.chmod(0o700)

    def _remove(self, path: Path) -> bool:
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Unusable(f"{path} cannot be removed: {error.strerror}.") from None
        return True


def write_atomically(path: Path, text: str) -> None:
    """Write a 0600 file, in a directory made 0700 if need be: a full disk or a crash leaves the old one.

    Raises `Unusable`.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise Unusable(f"{path} cannot be written: {error.strerror}.") from None


def printable(text: str) -> str:
    """Return what others gave as the one line that these files take."""
    return "".join(filter(str.isprintable, text)).strip()


def _text(path: Path, found: Mapping[str, Any], key: str) -> str:
    value = found.get(key, "")
    if not isinstance(value, str) or not value.isprintable():
        raise ConfigurationError(f"{path}, {key}: one line of text is wanted here.")
    return value.strip()
