"""``clustercode login``: gets a token by the browser, or takes a pasted one, and keeps it."""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from clustercode.addresses import web_address
from clustercode.configuration import Configuration, for_worker
from clustercode.errors import ConfigurationError, TokenNotAccepted, Unusable
from clustercode.home import Credentials, Home, printable
from clustercode.options import given, options

if TYPE_CHECKING:
    from clustercode.orchestrator import Tenant

_WAIT_S = 180.0


@click.command()
@options(["orchestrator", "portal", "allowInsecure"])
@click.option("--no-browser", is_flag=True, help="Paste a token instead: on a machine without a browser, or over SSH.")
def login(no_browser: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Log in, so that this machine may work for you.

    It opens the portal in your browser and keeps the token that comes back in ~/.clustercode/credentials.json, once
    the orchestrator has accepted it. Logging in as somebody else drops this machine's old registration.

    Exit code 3: the orchestrator does not accept the token. 4: nobody has logged in.
    """
    import asyncio  # noqa: PLC0415 - only what uses the network needs it

    from clustercode.orchestrator import OrchestratorError, TokenRefused, tenants  # noqa: PLC0415 - the same

    home = Home()
    flags = given(flags)
    configuration = for_worker({**flags, "mode": "byom"}, os.environ, home)
    try:
        web = web_address(configuration.get("orchestrator"))
    except ValueError as error:
        raise ConfigurationError(f"{configuration.source('orchestrator')}: {error}") from None
    credentials = _pasted(web) if no_browser else asyncio.run(_from_browser(configuration))
    try:
        found = asyncio.run(tenants(web, credentials.api_key, allow_insecure=configuration.get("allowInsecure")))
    except TokenRefused as error:
        raise TokenNotAccepted(str(error)) from None
    except OrchestratorError as error:
        raise Unusable(f"Not logged in, because the token could not be checked: {error}") from None

    dropped = _is_other(home, web, credentials, found)
    home.log_in(credentials, datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    for name, variable in (("orchestrator", "ORCHESTRATOR_URL"), ("portal", "PORTAL_URL")):
        if name in flags:  # or the worker would look for its tenants elsewhere
            home.prefer(variable, flags[name])
    click.echo(f"Logged in{f' as {credentials.email}' if credentials.email else ''} at {web}.")
    if dropped and home.unregister():
        click.echo("This machine was registered for another account; that registration is dropped.")
    if home.registration() is None:
        click.echo("Next: clustercode worker")


def _is_other(home: Home, web: str, credentials: Credentials, found: "Sequence[Tenant]") -> bool:
    """Tell whether this machine is registered for somebody else than has logged in now."""
    registration, before = home.registration(), home.credentials()
    if registration is None:
        return False
    emails = {known.email.casefold() for known in (before, credentials) if known and known.email}
    try:
        elsewhere = web_address(registration.url) != web
    except ValueError:  # somebody wrote what is no address into worker.json: that is no registration
        elsewhere = True
    return len(emails) > 1 or registration.tenant_id not in {tenant.id for tenant in found} or elsewhere


def _pasted(web: str) -> Credentials:
    if sys.stdin.isatty():
        click.echo(f"Make a token at {web}/settings/tokens and paste it here.")
        token = click.prompt("Token", hide_input=True)
        email = click.prompt("Email of its account (may be empty)", default="", show_default=False)
    else:
        token, email = sys.stdin.readline(), sys.stdin.readline()
    if not token.strip():
        raise Unusable("Not logged in: there was no token on standard input.")
    return Credentials(token.strip(), printable(email))


async def _from_browser(configuration: Configuration) -> Credentials:
    import asyncio  # noqa: PLC0415 - only what uses the network needs it

    from clustercode.login_callback import LoginRefused, listening  # noqa: PLC0415 - the same

    try:
        async with listening() as callback:
            portal = configuration.get("portal").rstrip("/")
            address = f"{portal}/login?redirect_url={quote(callback.url, safe='')}&cli=true"
            if _opens(address):
                click.echo(f"Your browser opens {portal}; if it does not, open this address:\n\n  {address}\n")
            else:
                click.echo(f"Open this address in a browser on this machine:\n\n  {address}\n")
                click.echo("Where there is none, stop this with Ctrl-C and run 'clustercode login --no-browser'.")
            async with asyncio.timeout(_WAIT_S):
                given_login = await callback.result
    except TimeoutError:
        raise Unusable(
            f"Nobody has logged in within {_WAIT_S:.0f} s. Try again, or paste a token: clustercode login --no-browser."
        ) from None
    except LoginRefused as refused:
        raise Unusable(f"The portal did not log you in: {refused}.") from None
    return Credentials(given_login.api_key, given_login.email)


def _opens(address: str) -> bool:
    """Open a browser of this desktop; on a machine without one nothing is tried, for it would take the terminal."""
    import threading  # noqa: PLC0415 - only a login needs it
    import webbrowser  # noqa: PLC0415 - the same

    if sys.platform == "linux" and not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    # Some return only once they are closed, which nobody waits for.
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    return True
