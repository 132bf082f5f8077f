"""Who is logged in, as what this machine is registered, and whether the orchestrator can be reached and agrees."""

from contextlib import suppress
from datetime import UTC, datetime

from clustercode import checks
from clustercode.checks import Check
from clustercode.configuration import Configuration
from clustercode.errors import ConfigurationError, Unusable
from clustercode.home import Home
from clustercode.orchestrator import CertificateUntrusted, OrchestratorError, TokenRefused, health, tenants
from clustercode.registration import kept_worker_id, orchestrator_of, token

_LOG_IN = "clustercode login"


async def check_account(configuration: Configuration, home: Home) -> list[Check]:
    """Look at login, registration, orchestrator and clock."""
    try:
        web = orchestrator_of(configuration)
    except ConfigurationError as error:
        return [Check("orchestrator", "fail", error.message, "Correct ORCHESTRATOR_URL.")]
    reached, clock = await _orchestrator(web)
    auth = await _auth(configuration, home, web, can_ask=reached.status == "pass")
    return [*auth, *_open_secrets(configuration), reached, *clock]


def _open_secrets(configuration: Configuration) -> list[Check]:
    """Find files with the token that others can read: those of the home, agent.yaml, the token's own."""
    files = [file for file in configuration.files if configuration.source("token").startswith(str(file))]
    if token_file := configuration.get("tokenFile"):
        files = [token_file]
    found = []
    for file in files:
        with suppress(OSError):
            mode = file.stat().st_mode & 0o777
            if mode & 0o077:
                detail = f"other users can read {file} (mode {mode:o})"
                found.append(Check("token file", "warn", detail, f"chmod 600 {file}"))
    return found


async def _orchestrator(web: str) -> tuple[Check, list[Check]]:
    """Ask for its health: by the proxy and the certificates that the worker would use."""
    try:
        answer = await health(web)
    except CertificateUntrusted as error:
        sentence, _, fix = str(error).partition(". ")
        return Check("orchestrator", "fail", sentence, fix), []
    except OrchestratorError as error:
        fix = "Look at the network, and at ORCHESTRATOR_URL, HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE."
        return Check("orchestrator", "fail", str(error), fix), []
    return Check("orchestrator", "pass", f"{web} answers"), [checks.clock(datetime.now(UTC), answer.date)]


async def _auth(configuration: Configuration, home: Home, web: str, *, can_ask: bool) -> list[Check]:
    try:
        secret = token(configuration)
    except Unusable as error:
        sentence = error.message.partition(". ")[0]
        return [Check("auth", "fail", sentence[0].lower() + sentence[1:], _LOG_IN), _registration(configuration, None)]
    credentials = home.credentials() if configuration.get("mode") == "byom" else None
    who = f"logged in as {credentials.email}" if credentials and credentials.email else "logged in with a token"
    if not can_ask:
        return [
            Check("auth", "warn", f"{who}; the orchestrator cannot be asked now"),
            _registration(configuration, None),
        ]
    try:
        found = await tenants(web, secret, allow_insecure=configuration.get("allowInsecure"))
    except TokenRefused:
        return [
            Check("auth", "fail", "the orchestrator does not accept the token", _LOG_IN),
            _registration(configuration, None),
        ]
    except OrchestratorError as error:
        return [Check("auth", "warn", f"{who}; {error}"), _registration(configuration, None)]
    return [Check("auth", "pass", who), _registration(configuration, {tenant.id: tenant.name for tenant in found})]


def _registration(configuration: Configuration, allowed: dict[str, str] | None) -> Check:
    """Judge for whom this machine works; ``allowed``: whom the token may serve, where that is known."""
    if configuration.get("mode") == "fleet":
        served = list(configuration.get("security.tenants") or ()) or [configuration.get("tenant")]
        if served == [None]:
            return Check(
                "registration",
                "fail",
                "it serves nobody",
                "Say security.tenants in agent.yaml (docs/configuration.md).",
            )
        return Check("registration", "pass", f"of a fleet, for {', '.join(served)}")
    tenant = configuration.get("tenant")
    if not tenant:
        return Check("registration", "fail", "this machine works for nobody yet", "clustercode worker")
    if allowed is not None and tenant not in allowed:
        return Check(
            "registration", "fail", f"the account may not serve the tenant {tenant}",
            "Log in as the account that this machine is registered for, or run 'clustercode login' as another: it then "
            "registers anew.",
        )  # fmt: skip
    name = (allowed or {}).get(tenant, tenant)
    worker_id = configuration.get("workerId") or kept_worker_id(configuration.get("dataDir"))
    return Check("registration", "pass", f"for {name} ({tenant}), as {worker_id or 'a new worker'}")
