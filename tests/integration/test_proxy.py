"""The WebSocket goes the way the machine's owner says: through a proxy, with certificates of a private authority."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trustme

from conformance.orchestrator import HOST, TOKEN, Orchestrator, orchestrator
from tests.integration.conftest import Podman, eventually, executor_process, gateway_process, serves, started
from tests.integration.connect_proxy import connect_proxy

NAME = "orchestrator.test"
"""Known to the proxy alone."""


@pytest.fixture(scope="module")
async def place(podman: Podman) -> AsyncIterator[Path]:
    """A directory with an executor that serves."""
    with TemporaryDirectory(prefix="cc-") as name:
        executor = executor_process(podman, Path(name))
        async with started(executor):
            await serves(executor)
            yield Path(name)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that no machine knows."""
    return trustme.CA()


def tls(authority: trustme.CA) -> ssl.SSLContext:
    """What an orchestrator needs to be known by both of its names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME, "localhost").configure_cert(context)
    return context


def environment(authority: trustme.CA, place: Path, proxy: str, no_proxy: str = "") -> dict[str, str]:
    """What the owner sets, and nothing that this machine may have set."""
    trusted = place / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    given = {"HTTPS_PROXY": proxy, "NO_PROXY": no_proxy, "ALL_PROXY": ""}
    # Programs also read them in lower case, which is the stronger.
    return {**given, **{name.lower(): value for name, value in given.items()}, "SSL_CERT_FILE": str(trusted)}


def url(cloud: Orchestrator, name: str) -> str:
    return f"wss://{name}:{cloud.port}/ws/worker"


async def test_it_dials_through_a_proxy_to_an_orchestrator_with_a_certificate_of_a_private_authority(
    place: Path, authority: trustme.CA
) -> None:
    """HTTPS_PROXY and SSL_CERT_FILE count for the WebSocket; the proxy looks the name up, and sees no token."""
    async with (
        orchestrator(place, tls=tls(authority)) as cloud,
        connect_proxy({NAME: HOST}) as proxy,
    ):
        gateway = gateway_process(place, url(cloud, NAME), cloud.token_file)
        gateway.environment = environment(authority, place, proxy.url)
        async with started(gateway):
            peer, _ = await cloud.peer()
            assert peer.headers["Authorization"] == f"Bearer {TOKEN}"
            assert proxy.asked == [f"{NAME}:{cloud.port}"]


async def test_no_proxy_is_asked_for_an_orchestrator_on_this_machine(place: Path, authority: trustme.CA) -> None:
    """Without TLS the token is for nobody between."""
    async with orchestrator(place) as cloud, connect_proxy({HOST: HOST}) as proxy:
        gateway = gateway_process(place, f"ws://{HOST}:{cloud.port}/ws/worker", cloud.token_file)
        gateway.environment = {**environment(authority, place, proxy.url), "HTTP_PROXY": proxy.url}
        async with started(gateway):
            await cloud.peer()
        assert proxy.asked == []


async def test_no_proxy_is_honoured(place: Path, authority: trustme.CA) -> None:
    """What NO_PROXY names is dialled directly, and by the same authority's certificate."""
    async with (
        orchestrator(place, tls=tls(authority)) as cloud,
        connect_proxy({}) as proxy,
    ):
        gateway = gateway_process(place, url(cloud, "localhost"), cloud.token_file)
        gateway.environment = environment(authority, place, proxy.url, no_proxy="example.com,localhost")
        async with started(gateway):
            await cloud.peer()
            assert proxy.asked == []


async def test_what_stands_in_the_way_is_said(place: Path, authority: trustme.CA) -> None:
    """A proxy that refuses or is none, a certificate that is not trusted: a sentence each, and dialled again."""
    async with (
        orchestrator(place, tls=tls(authority)) as cloud,
        connect_proxy({NAME: HOST}) as proxy,
    ):
        refused = gateway_process(place, url(cloud, "elsewhere.test"), cloud.token_file, log="refused.log")
        refused.environment = environment(authority, place, proxy.url)
        wrong = gateway_process(place, url(cloud, NAME), cloud.token_file, log="wrong.log")
        wrong.environment = environment(authority, place, "gopher://user:secret@proxy.test:1")
        distrusting = gateway_process(place, url(cloud, NAME), cloud.token_file, log="distrusting.log")
        distrusting.environment = environment(trustme.CA(), place, proxy.url)
        async with started(refused, distrusting, wrong):
            await eventually(lambda: "the proxy answered HTTP 502" in refused.text())
            await eventually(lambda: "SSL_CERT_FILE" in distrusting.text())
            await eventually(lambda: "the proxy's address makes no sense" in wrong.text())
            assert "secret" not in wrong.text()
            for gateway in (refused, distrusting, wrong):
                await eventually(lambda gateway=gateway: "Dialing again" in gateway.text())
        assert cloud.attempts == []
