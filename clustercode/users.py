"""Under which users gateway and executor run where ``clustercode worker`` is started as root."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clustercode.configuration import Configuration
from clustercode.errors import ConfigurationError
from clustercode.settings import BY_KEY

_KEYS = ("gatewayUser", "executorUser")

_OF_ALL = ("PATH", "LANG", "TZ", "TERM", "NO_COLOR", "PYTHONPATH")
_OF_GATEWAY = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
_OF_EXECUTOR = ("DOCKER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF")


@dataclass(frozen=True)
class User:
    """A user of this machine, as one of our processes becomes it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """Besides ``gid``."""
    home: str

    @property
    def identity(self) -> dict[str, Any]:
        """What `subprocess` takes to start a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups, "cwd": "/"}

    @property
    def setpriv_options(self) -> tuple[str, ...]:
        """The same for setpriv(1)."""
        groups = ("--groups", ",".join(map(str, self.groups))) if self.groups else ("--clear-groups",)
        return ("--reuid", str(self.uid), "--regid", str(self.gid), *groups)


@dataclass(frozen=True)
class Users:
    """Two users, neither of them root."""

    gateway: User
    """Without any group but its own: another could be the engine's."""
    executor: User

    @property
    def runtime_directory(self) -> str:
        """Where the executor's user has its sockets, and a rootless Podman its state."""
        return f"/run/user/{self.executor.uid}"

    def gateway_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the gateway's environment: nothing of root's besides the way to the orchestrator."""
        return _environment(self.gateway, environ, _OF_GATEWAY)

    def executor_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the executor's environment: nothing of root's besides the way to the engine."""
        return {
            **_environment(self.executor, environ, _OF_EXECUTOR),
            "XDG_RUNTIME_DIR": self.runtime_directory,
        }


def chosen(configuration: Configuration) -> Users | None:
    """Return the users that gateway and executor are to have; None: both stay who starts them.

    Raises `ConfigurationError` for what cannot be.
    """
    names = [configuration.get(key) for key in _KEYS]
    if not any(names):
        return None
    source = configuration.source(_KEYS[0] if names[0] else _KEYS[1])
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ConfigurationError(
            f"{source}: only root can give its processes other users, on Linux. Start the worker as root, or leave "
            "this out: gateway and executor are then the user that starts them."
        )
    if not all(names):
        missing = BY_KEY[_KEYS[names.index(None)]]
        raise ConfigurationError(
            f"{source}: the other process would stay root. Give it a user too: {missing.flags[0]}."
        )
    gateway, executor = (_user(key, configuration) for key in _KEYS)
    if gateway.uid == executor.uid:
        raise ConfigurationError(
            f"{source}: {gateway.name} is the user of both. Each needs one of its own, or the gateway could read the "
            "executor's memory and reach its engine."
        )
    return Users(User(gateway.name, gateway.uid, gateway.gid, (), gateway.home), executor)


def plain_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of root's environment is nobody's in particular: where programs are, and the language."""
    return {name: value for name, value in environ.items() if name in _OF_ALL or name.startswith("LC_")}


def cost(*, root: bool) -> str:
    """Say what it means that gateway and executor are both whoever started them."""
    if root:
        return "gateway and executor both run as root: whoever takes over the gateway has this machine"
    return "gateway and executor are both your user: whoever takes over the gateway has your files and your engine"


def _user(key: str, configuration: Configuration) -> User:
    import grp  # noqa: PLC0415 - not on Windows
    import pwd  # noqa: PLC0415 - the same

    name, source = configuration.get(key), configuration.source(key)
    try:
        found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        grp.getgrgid(found.pw_gid)
    except (KeyError, OverflowError):
        raise ConfigurationError(
            f"{source}: there is no user {name!r} with a group on this machine. As root: useradd --system --user-group "
            f"NAME; or 'clustercode worker --mode fleet --install' makes clustercode-gateway and clustercode-executor."
        ) from None
    if found.pw_uid == 0 or found.pw_gid == 0:
        raise ConfigurationError(f"{source}: {name} is root, or in root's group. Name a user that owns nothing else.")
    groups = tuple(gid for gid in os.getgrouplist(found.pw_name, found.pw_gid) if gid not in (0, found.pw_gid))
    return User(found.pw_name, found.pw_uid, found.pw_gid, groups, found.pw_dir)


def _environment(user: User, environ: Mapping[str, str], kept: tuple[str, ...]) -> dict[str, str]:
    names = {*kept, *(name.lower() for name in kept)}
    way = {name: value for name, value in environ.items() if name in names}
    return {**plain_environment(environ), **way, "HOME": user.home, "USER": user.name, "LOGNAME": user.name}
