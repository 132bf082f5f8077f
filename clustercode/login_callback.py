"""The loopback server to which the portal sends the browser back with the token, or with why there is none."""

import asyncio
import html
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from clustercode.home import printable

HOST = "127.0.0.1"
_MAX_EMAIL_CHARS = 254
_MAX_ERROR_CHARS = 200
_DONE = "/done"
_LINGER_S = 2.0
"""For the browser to fetch the last page."""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ClusterCode</title>
<style>
  :root {{ color-scheme: light dark }}
  body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto; padding: 0 1.5rem }}
  h1 {{ font-size: 1.25rem }}
</style>
<h1>{title}</h1>
<p>{text}</p>
</html>
"""


class LoginRefused(Exception):
    """The portal said no; the message is its own, one line."""


@dataclass(frozen=True)
class Login:
    """What the portal gave."""

    api_key: str
    email: str


class Callback:
    """One login. ``result`` ends with a `Login` or raises `LoginRefused`; the first answer counts."""

    def __init__(self) -> None:
        self.port = 0
        self.result: asyncio.Future[Login] = asyncio.get_running_loop().create_future()
        self.shown = asyncio.Event()

    @property
    def url(self) -> str:
        """Where the portal is to send the browser."""
        return f"http://{HOST}:{self.port}/callback"

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take the portal's answer. It leaves the browser's address bar at once: the token was in it."""
        if request.host != f"{HOST}:{self.port}":  # another name for this machine (DNS rebinding)
            raise web.HTTPMisdirectedRequest(text="This address answers to 127.0.0.1 only.")
        # A browser goes here as to a page; what a page of somebody else's loads by the way is no answer of the portal.
        if request.headers.get("Sec-Fetch-Dest", "document") != "document":
            raise web.HTTPForbidden(text="This address is for the browser to go to.")
        error, key, email = (request.query.get(name, "") for name in ("error", "api_key", "email"))
        if not self.result.done():
            if error:
                self.result.set_exception(LoginRefused(printable(error.replace("_", " "))[:_MAX_ERROR_CHARS]))
            elif key and email and key.isascii() and key.isprintable():
                self.result.set_result(Login(key, printable(email)[:_MAX_EMAIL_CHARS]))
            else:
                return _page(400, "Something is missing", "The portal sent no token. Go back and try again.")
        raise web.HTTPSeeOther(_DONE, headers={"Referrer-Policy": "no-referrer"})

    async def done(self, _request: web.Request) -> web.StreamResponse:
        """Say how it went."""
        self.shown.set()
        if not self.result.done():
            return _page(400, "Not yet", "Nobody has logged in here.")
        if refused := self.result.exception():
            return _page(200, "Not logged in", f"{refused}. The terminal says what to do.")
        return _page(200, "Back to the terminal", "This page can be closed: the rest is said there.")


@asynccontextmanager
async def listening() -> AsyncIterator[Callback]:
    """Listen on a free port of the loopback address while the context is open."""
    callback = Callback()
    app = web.Application()
    app.add_routes([web.get("/callback", callback.take), web.get(_DONE, callback.done)])
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        callback.port = int(runner.addresses[0][1])
        yield callback
        if callback.result.done():
            async with asyncio.timeout(_LINGER_S):
                await callback.shown.wait()
    except TimeoutError:
        if not callback.result.done():
            raise
    finally:
        await runner.cleanup()


def _page(status: int, title: str, text: str) -> web.Response:
    body = _PAGE.format(title=html.escape(title), text=html.escape(text))
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-store"}
    return web.Response(status=status, text=body, content_type="text/html", headers=headers)
