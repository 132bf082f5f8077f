"""``clustercode login`` and ``logout``, against a portal that a real HTTP client plays and a real orchestrator."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from aiohttp import web

from clustercode.orchestrator import OrchestratorError, Tenant, tenants
from console.app import Console
from tests.integration.commands import Ended, run
from tests.integration.conftest import eventually

PORTAL = "https://portal.example"

# What a browser does that a person sits at: it goes where it is sent, and follows the portal's answer. Another page in
# it tries to be first, by loading a picture. Nobody closes it while the command runs.
_BROWSER = """#!{python}
import os, sys, time
from urllib.error import HTTPError
from urllib.parse import urlsplit, parse_qs
from urllib.request import Request, urlopen
opener = os.getppid()
open({visits!r}, "a").write(sys.argv[1] + "\\n")
asked = parse_qs(urlsplit(sys.argv[1]).query)
picture = asked["redirect_url"][0] + "?api_key=evil&email=evil%40example.com"
try:
    urlopen(Request(picture, headers={{"Sec-Fetch-Dest": "image"}}))
except HTTPError as refused:
    assert refused.code == 403
answer = urlopen(asked["redirect_url"][0] + "?" + os.environ["ANSWER"])
open({visits!r}, "a").write(answer.url + " " + answer.read().decode().replace("\\n", " ") + "\\n")
while os.getppid() == opener:
    time.sleep(0.05)
"""


@pytest.fixture
def browser(directory: Path) -> Path:
    """A program that is the user's browser; it notes where it was."""
    path = directory / "browser"
    path.write_text(_BROWSER.format(python=sys.executable, visits=str(directory / "visits")))
    path.chmod(0o700)
    return path


async def log_in(home: Path, console: Console, browser: Path, answer: str) -> Ended:
    return await run(
        "login", home=home, BROWSER=f"{browser} %s", ANSWER=answer, PORTAL_URL=PORTAL, ORCHESTRATOR_URL=console.base_url
    )


def kept(home: Path, name: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((home / ".clustercode" / name).read_text())
    return found


async def test_a_login_by_the_browser_is_kept(console: Console, directory: Path, browser: Path) -> None:
    """The portal's address is the documented one; the token leaves the address bar at once and is kept 0600."""
    ended = await log_in(directory, console, browser, f"api_key={console.worker_token}&email=e%40example.com")

    assert (ended.code, ended.err) == (0, "")
    assert f"Logged in as e@example.com at {console.base_url}" in ended.out
    visits = directory / "visits"  # the browser notes what it was shown after it has been sent
    await eventually(lambda: visits.read_text().count("\n") == 2)
    went, landed = visits.read_text().splitlines()
    assert went.startswith(f"{PORTAL}/login?redirect_url=http%3A%2F%2F127.0.0.1%3A")
    assert went.endswith("%2Fcallback&cli=true")
    assert landed.split()[0].endswith("/done")
    assert console.worker_token not in landed
    credentials = kept(directory, "credentials.json")
    assert credentials.keys() == {"apiKey", "email", "createdAt"}
    assert (credentials["apiKey"], credentials["email"]) == (console.worker_token, "e@example.com")
    assert (directory / ".clustercode" / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert console.worker_token not in ended.out

    assert (await run("logout", home=directory)).out == "Logged out.\n"
    assert not (directory / ".clustercode" / "credentials.json").exists()
    assert (await run("logout", home=directory)).out == "Nobody was logged in.\n"


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        ("error=account_not_approved%0A", 4, "The portal did not log you in: account not approved."),
        ("api_key=wrong&email=e%40example.com", 3, "does not accept the token"),
    ],
)
async def test_a_login_that_fails_keeps_nothing(
    console: Console, directory: Path, browser: Path, answer: str, code: int, sentence: str
) -> None:
    """The portal's own word, or the orchestrator's."""
    ended = await log_in(directory, console, browser, answer)

    assert ended.code == code
    assert sentence in ended.err
    assert not (directory / ".clustercode").exists()


async def test_a_pasted_token_is_checked_and_the_orchestrator_remembered(console: Console, directory: Path) -> None:
    """Without a browser; a token nobody can check is not kept."""
    paste = ("login", "--no-browser", "--orchestrator")
    wrong, away, nothing, clear = await asyncio.gather(
        run(*paste, console.base_url, home=directory, stdin="wrong\n"),
        run(*paste, "http://127.0.0.1:1", home=directory, stdin=f"{console.worker_token}\n"),
        run(*paste, console.base_url, home=directory),
        run(*paste, "http://orchestrator.example", home=directory, stdin="t\n"),
    )
    assert (wrong.code, away.code, nothing.code, clear.code) == (3, 4, 4, 4)
    assert "could not be checked" in away.err
    assert "in the clear" in clear.err
    assert not (directory / ".clustercode").exists()

    ended = await run(*paste, console.base_url, home=directory, stdin=f"{console.worker_token}\ne@\x1bexample.com\n")
    assert ended.code == 0
    assert "Next: clustercode worker" in ended.out
    assert kept(directory, "credentials.json")["email"] == "e@example.com"
    assert kept(directory, "config.json") == {"ORCHESTRATOR_URL": console.base_url}


async def test_tenants_that_arrive_in_pieces_are_read_whole() -> None:
    """As they do from far away, or from behind a proxy; more than a megabyte of them is refused."""

    async def pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'[{"id": "t",')
        await asyncio.sleep(0)
        await response.write(b'"name": "T"}]' + b" " * (2**20 if "much" in request.path else 0))
        return response

    app = web.Application()
    app.router.add_get("/api/tenants", pieces)
    app.router.add_get("/much/api/tenants", pieces)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        assert await tenants(address, "token") == [Tenant("t", "T")]
        with pytest.raises(OrchestratorError, match="more than 1048576 bytes"):
            await tenants(f"{address}/much", "token")
    finally:
        await runner.cleanup()


async def test_another_account_drops_the_old_registration(console: Console, directory: Path, browser: Path) -> None:
    """Or this machine would connect with one account's token as another's worker. Email and tenant tell."""

    async def dropped(number: int, email: str, tenant: str) -> bool:
        home = directory / str(number)
        files = home / ".clustercode"
        files.mkdir(parents=True)
        (files / "credentials.json").write_text('{"apiKey": "old", "email": "e@example.com", "team": "ours"}')
        worker = {"workerId": "w", "tenantId": tenant, "tenantName": "T", "orchestratorUrl": console.worker_url}
        (files / "worker.json").write_text(json.dumps(worker))
        ended = await log_in(home, console, browser, f"api_key={console.worker_token}&email={email}")
        assert ended.code == 0
        assert kept(home, "credentials.json")["team"] == "ours"
        gone = not (files / "worker.json").exists()
        assert ("registration is dropped" in ended.out) == gone
        return gone

    assert await asyncio.gather(
        dropped(1, "E@example.com", "local"), dropped(2, "other@example.com", "local"),
        dropped(3, "e@example.com", "foreign"),
    ) == [False, True, True]  # fmt: skip
