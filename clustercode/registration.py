"""Which orchestrator, tenant and worker this machine is: known from the configuration, or chosen on the first run."""

import errno
import os
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import click

from clustercode.addresses import is_private, socket_address, web_address
from clustercode.config_file import read_text
from clustercode.configuration import DEFAULT, Configuration, systemd_credential
from clustercode.errors import ConfigurationError, TokenNotAccepted, Unusable
from clustercode.home import Home, Registration, write_atomically
from clustercode.settings import Whole
from executor.owner import as_owner_of
from gateway.credentials import is_token, read_token
from gateway.errors import Misconfigured

_FIRST_RUN = "the first run"
_WORKER_ID = "worker-id"


def complete(configuration: Configuration, home: Home) -> Configuration:
    """Return all that gateway and executor need; asks the orchestrator for tenants where none is known yet.

    Raises `ConfigurationError` or `Unusable` with what to do.
    """
    data_dir = usable(configuration.get("dataDir"))
    if configuration.get("mode") == "byom":
        if not configuration.get("tenant") or not configuration.get("url"):
            configuration = _first_run(configuration, home)
        policies = configuration.get("security.tenants") or {}
        served = {configuration.get("tenant"): policies.get(configuration.get("tenant"))}
    else:
        if not configuration.get("url"):
            raise ConfigurationError(
                "A fleet's worker is told its orchestrator: say url in agent.yaml, or ORCHESTRATOR_WS_URL."
            )
        served = configuration.get("security.tenants") or (
            {configuration.get("tenant"): None} if configuration.get("tenant") else {}
        )
        if not served:
            raise ConfigurationError("Say whom this worker serves: security.tenants in agent.yaml, or TENANTS.")
    url = configuration.get("url")
    if not (configuration.get("allowInsecure") or is_private(url)):
        raise ConfigurationError(
            f"{configuration.source('url')}: {url.partition('?')[0]} would get the token in the clear: use wss:// (or "
            "--allow-insecure)."
        )
    values = {
        "security.tenants": served,
        "workerId": configuration.get("workerId") or _worker_id(data_dir),
        "executorSocket": data_dir / "rpc" / "executor.sock",
    }
    for key, value in values.items():
        if configuration.get(key) != value:
            configuration = configuration.with_values({key: value}, "this worker")
    return configuration


def token(configuration: Configuration) -> str:
    """Return the token as it is now; raises `Unusable` with what to do."""
    path = configuration.get("tokenFile") or (
        systemd_credential(os.environ) if configuration.source("token") == DEFAULT else None
    )
    if path is None:
        found = configuration.get("token")
        if not found:
            raise Unusable(
                "Nobody is logged in on this machine. Run 'clustercode login', or name an orchestrator and a token: "
                "--url wss://example.com/ws/worker --token-file FILE."
            )
        if not is_token(str(found)):
            raise Unusable(
                f"{configuration.source('token')}: this is no token, which is one word of printable characters."
            )
        return str(found)
    try:
        return read_token(Path(path))
    except Misconfigured as error:
        raise Unusable(str(error)) from None


def usable(data_dir: Path) -> Path:
    """Return the data directory after making sure that it can be used; raises `Unusable`."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise Unusable(
            f"The data directory {data_dir} cannot be used: {error.strerror}. Choose another with --data-dir."
        ) from None
    return data_dir


def orchestrator_of(configuration: Configuration) -> str:
    """Return the orchestrator's web address: as said, else that of its WebSocket, else ClusterCode's own."""
    url = configuration.get("url")
    key = "url" if url and configuration.is_default("orchestrator") else "orchestrator"
    try:
        return web_address(configuration.get(key))
    except ValueError as error:
        raise ConfigurationError(f"{configuration.source(key)}: {error}") from None


def _first_run(configuration: Configuration, home: Home) -> Configuration:
    """Choose a tenant, and keep it where this machine's user is logged in."""
    import asyncio  # noqa: PLC0415 - the first run only

    from clustercode.orchestrator import OrchestratorError, TokenRefused, tenants  # noqa: PLC0415 - the first run only

    secret, web = token(configuration), orchestrator_of(configuration)
    try:
        found = asyncio.run(tenants(web, secret, allow_insecure=configuration.get("allowInsecure")))
    except TokenRefused as error:
        raise TokenNotAccepted(str(error)) from None
    except OrchestratorError as error:
        raise Unusable(f"The tenants of this token are not known: {error}") from None
    if not found:
        raise Unusable("This token's account has no tenant. Ask its administrator for one.")
    wanted = configuration.get("tenant")
    if wanted:
        chosen = next((tenant for tenant in found if tenant.id == wanted), None)
        if chosen is None:
            raise Unusable(f"This token may not serve the tenant {wanted}, only {', '.join(t.id for t in found)}.")
    elif len(found) == 1:
        chosen = found[0]
    elif sys.stdin.isatty():
        click.echo("Whom should this machine work for?\n")
        for number, tenant in enumerate(found, 1):
            click.echo(f"  {number}  {tenant.name}  ({tenant.id})")
        chosen = found[click.prompt("\nTenant", type=Whole("the number of one", 1, len(found))) - 1]
    else:
        raise Unusable(f"Several tenants are possible: choose one with --tenant: {', '.join(t.id for t in found)}.")
    url = configuration.get("url") or socket_address(web)
    worker_id = configuration.get("workerId") or str(uuid.uuid4())
    if not configuration.get("tokenFile") and configuration.source("token") == str(home.credentials_file):
        home.register(Registration(worker_id, chosen.id, chosen.name, url))
        click.echo(f"This machine is registered for {chosen.name} ({home.worker_file}).", err=True)
    return configuration.with_values({"tenant": chosen.id, "url": url, "workerId": worker_id}, _FIRST_RUN)


def kept_worker_id(data_dir: Path) -> str | None:
    """Return the id that was made for a data directory; None where there is none that we may read."""
    with suppress(ConfigurationError), as_owner_of(data_dir):
        return (read_text(data_dir / _WORKER_ID) or "").strip() or None
    return None


def _worker_id(data_dir: Path) -> str:
    """Return this worker's id, made once and kept."""
    path = data_dir / _WORKER_ID
    with as_owner_of(data_dir):
        if not (known := (read_text(path) or "").strip()):  # a full disk may have left an empty one
            known = str(uuid.uuid4())
            write_atomically(path, f"{known}\n")
    return known
