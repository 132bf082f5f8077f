"""Which names a DevBox may reach: the built-in ones, its tenant's, its own. Pure, but for reading the built-in list."""

from collections.abc import Collection, Iterable
from importlib.resources import files

from executor.domains import domain_pattern
from executor.policy import Profile
from protos.errors import InvalidArgument

PORTS = (80, 443, 22)
"""All that may be reached of a name; port 80 without a tunnel only."""


def read_names(text: str) -> tuple[str, ...]:
    """Return the names of a list: one a line; what follows a ``#`` is for people. Raises `ValueError`."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(domain_pattern(line) for line in lines if line)


BUILT_IN = read_names((files("executor") / "egress_defaults.txt").read_text())
"""What development needs: source control, package registries, AI providers, container registries."""


def checked_names(asked: Iterable[str]) -> tuple[str, ...]:
    """Return names that a caller asked for in the form they are kept in; raises `InvalidArgument`."""
    try:
        return tuple(dict.fromkeys(domain_pattern(name) for name in asked))
    except ValueError as error:
        raise InvalidArgument(f"allowedDomains: {error}.") from None


def names_in_force(profile: Profile, tenant: Iterable[str], own: Iterable[str]) -> tuple[str, ...]:
    """Return all that a DevBox of this profile may reach; nothing where the profile has no list."""
    if profile not in (Profile.STANDARD, Profile.STRICT):
        return ()
    return tuple(dict.fromkeys((*(BUILT_IN if profile is Profile.STANDARD else ()), *tenant, *own)))


def is_name(host: str) -> bool:
    """Say whether this is the name of a host as lists have them: no address, no pattern, in lower case."""
    try:
        return domain_pattern(host) == host and not host.startswith(".")
    except ValueError:
        return False


def reaches(names: Collection[str], host: str) -> bool:
    """Say whether a host is on a list: as it is, or below a ``.name``. What is no name of a host never is."""
    if not is_name(host):
        return False
    parts = host.split(".")
    return host in names or any("." + ".".join(parts[start:]) in names for start in range(len(parts)))
