"""Under which users gateway and executor would run, whether these can work here, and what it costs to have but one."""

import os

from clustercode.checks import Check
from clustercode.configuration import Configuration
from clustercode.errors import ConfigurationError
from clustercode.user_access import problems, rootless
from clustercode.users import Users, chosen, cost

_NAME = "users"


def check_users(configuration: Configuration) -> tuple[list[Check], Users | None]:
    """Look at the users that are configured; returns them too, where there are any."""
    try:
        users = chosen(configuration)
    except ConfigurationError as error:
        return [Check(_NAME, "fail", error.message, "Correct GATEWAY_USER and EXECUTOR_USER.")], None
    if users is None:
        root = os.geteuid() == 0
        fix = "clustercode worker --gateway-user and --executor-user; docs/operations.md says how to make them"
        return [Check(_NAME, "warn" if root else "pass", cost(root=root), fix)], None
    found = [Check(_NAME, "fail", problem.what, problem.fix) for problem in problems(configuration, users)]
    said = f"the gateway runs as {users.gateway.name}, the executor as {users.executor.name}"
    return found or [Check(_NAME, "pass", said)], users


def another_users_engine(configuration: Configuration, users: Users) -> Check | None:
    """Say how the engine is looked at that only the executor's user has; None: it is one that root may ask too."""
    if not rootless(configuration, users.executor):
        return None
    name, home = users.executor.name, users.executor.home
    fix = f"runuser -u {name} -- env HOME={home} XDG_RUNTIME_DIR={users.runtime_directory} clustercode doctor"
    return Check("engine", "warn", f"not tried: it is a rootless Podman of {name}'s", fix)
