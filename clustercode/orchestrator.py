"""What the command line asks of an orchestrator over HTTP: does it answer, and whom may this token's worker serve.

The system's proxy (HTTPS_PROXY, NO_PROXY) and SSL_CERT_FILE count here as they do for the gateway's connection.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from clustercode.addresses import is_private
from gateway.credentials import is_token
from protos import limits

_TIMEOUT_S = 15.0
_MAX_BYTES = 1024 * 1024
_MAX_NAME_CHARS = 256


class OrchestratorError(Exception):
    """It did not answer as it should; the message says what to do."""


class TokenRefused(OrchestratorError):
    """It does not know the token."""


class CertificateUntrusted(OrchestratorError):
    """Nobody whom this machine trusts vouches for it."""


@dataclass(frozen=True)
class Tenant:
    """Somebody whom a worker may serve."""

    id: str
    name: str


@dataclass(frozen=True)
class Health:
    """That it answers, and what its clock says; None: it does not say."""

    date: datetime | None


async def health(web_address: str) -> Health:
    """Ask ``GET /api/health``; raises `OrchestratorError`."""
    _, headers = await _get(f"{web_address}/api/health", None)
    try:
        return Health(parsedate_to_datetime(headers.get("Date", "")))
    except (TypeError, ValueError, OverflowError):
        return Health(None)


async def tenants(web_address: str, token: str, *, allow_insecure: bool = False) -> list[Tenant]:
    """Ask ``GET /api/tenants``, a list of ``{id, name}``; raises `OrchestratorError`, `TokenRefused` among them."""
    if not (allow_insecure or is_private(web_address)):
        raise OrchestratorError(f"{web_address} would get the token in the clear: use https:// (or --allow-insecure).")
    if not is_token(token):
        raise TokenRefused("This is no token: one word of printable characters is wanted.")
    body, _ = await _get(f"{web_address}/api/tenants", token)
    try:
        found = json.loads(body)
        return [_tenant(item) for item in found]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise OrchestratorError(
            f"{web_address}/api/tenants does not answer with a list of tenants. Is that an orchestrator's address?"
        ) from None


def _tenant(item: Any) -> Tenant:  # noqa: ANN401 - whatever came
    identity, name = item["id"], item.get("name") or item["id"]
    if not isinstance(identity, str) or not re.match(limits.ID_PATTERN, identity) or not isinstance(name, str):
        raise ValueError
    return Tenant(identity, "".join(char for char in name if char.isprintable())[:_MAX_NAME_CHARS])


async def _get(url: str, token: str | None) -> tuple[bytes, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    host = url.removesuffix("/api/health").removesuffix("/api/tenants")
    is_local = url.startswith("http:") and is_private(url)  # no proxy is to see the token then
    try:
        async with (
            aiohttp.ClientSession(trust_env=not is_local, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            if response.status in (401, 403) and token:
                raise TokenRefused(f"{host} does not accept the token. Get a new one with 'clustercode login'.")
            if 300 <= response.status < 400:
                to = "".join(filter(str.isprintable, response.headers.get("Location", "elsewhere")[:200]))
                raise OrchestratorError(f"{host} sends us to {to}: correct ORCHESTRATOR_URL.")
            if response.status >= 400:
                raise OrchestratorError(
                    f"{url} answers HTTP {response.status}. Is that the orchestrator's address? See ORCHESTRATOR_URL."
                )
            return await _body(url, response), response.headers
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", str(error.certificate_error))
        raise CertificateUntrusted(
            f"The certificate of {host} is not trusted: {reason}. If your company's own authority issued it, name that "
            "authority's certificate in SSL_CERT_FILE."
        ) from None
    except aiohttp.ClientConnectorDNSError:
        raise OrchestratorError(f"No host of this name is known: {host}.") from None
    except aiohttp.ClientProxyConnectionError as error:
        raise OrchestratorError(f"The proxy does not answer ({error.strerror}); see HTTPS_PROXY, NO_PROXY.") from None
    except TimeoutError:
        raise OrchestratorError(f"{host} did not answer within {_TIMEOUT_S:.0f} s. Is there a proxy to set?") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OrchestratorError(f"{host} cannot be reached: {reason}.") from None


async def _body(url: str, response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_BYTES:
            raise OrchestratorError(f"{url} answers with more than {_MAX_BYTES} bytes. Is that an orchestrator?")
    return bytes(body)
