"""The page's files over HTTP, who may load them, and the headers that every answer carries."""

import html
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from console.config import TENANT
from console.tokens import Admission, bearer_is

STATIC = Path(__file__).parent / "static"

_MESSAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ClusterCode console</title>
<style>
  :root {{ color-scheme: light dark }}
  body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto; padding: 0 1.5rem }}
  h1 {{ font-size: 1.25rem }}
</style>
<h1>{title}</h1>
<p>{text}</p>
</html>
"""

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Pages:
    """Serves the page to browsers that hold a cookie, and gives one for a one-time token."""

    def __init__(self, admission: Admission, worker_token: str) -> None:
        self._admission = admission
        self._worker_token = worker_token
        self.port = 0  # known once the socket is bound

    @property
    def _cookie_name(self) -> str:
        # Cookies ignore the port: without it in the name, two consoles would log each other out.
        return f"clustercode-console-{self.port}"

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return what this serves."""
        return [
            web.get("/", self.index),
            web.get("/api/health", self.health),
            web.get("/api/tenants", self.tenants),
            web.static("/static", STATIC),
        ]

    def is_admitted(self, request: web.Request) -> bool:
        """Tell whether a request comes from a browser that was let in."""
        return self._admission.admits(request.cookies.get(self._cookie_name, ""))

    def is_same_origin(self, request: web.Request) -> bool:
        """Tell whether a WebSocket was opened by our own page."""
        return request.headers.get("Origin") == f"http://{request.host}"  # the host itself is checked for all

    async def index(self, request: web.Request) -> web.StreamResponse:
        """Answer the page, exchanging a token for a cookie first."""
        token = request.query.get("token")
        if self.is_admitted(request):
            if token is not None:
                raise web.HTTPSeeOther("/")
            return web.FileResponse(STATIC / "index.html")
        if token is None:
            return _message(
                401,
                "Open the address that the console printed",
                "It looks like http://127.0.0.1:7070/?token=… and lets this browser in. It works once: to get a new "
                "one, stop the console with Ctrl+C and run it again. DevBoxes and their terminals keep running "
                "meanwhile, except those of the demo.",
            )
        cookie = self._admission.redeem(token)
        if cookie is None:
            return _message(
                401,
                "This address was used already",
                "Each address that the console prints lets one browser in. To get a new one, stop the console with "
                "Ctrl+C and run it again. DevBoxes and their terminals keep running meanwhile, except those of the "
                "demo.",
            )
        answer = web.HTTPSeeOther("/")
        answer.set_cookie(self._cookie_name, cookie, httponly=True, samesite="Strict", path="/")
        raise answer

    async def health(self, _request: web.Request) -> web.Response:
        """Answer that the console runs."""
        return web.json_response({"status": "ok"})

    async def tenants(self, request: web.Request) -> web.Response:
        """Answer the tenants a worker with this token may serve."""
        if not bearer_is(self._worker_token, request.headers.get("Authorization", "")):
            raise web.HTTPUnauthorized(text="Send this console's worker token as a bearer token.")
        return web.json_response([{"id": TENANT, "name": "Local"}])

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse other names for this machine (DNS rebinding), and files to who was not let in."""
        if request.host not in {f"127.0.0.1:{self.port}", f"localhost:{self.port}", f"[::1]:{self.port}"}:
            raise web.HTTPMisdirectedRequest(text="This console answers to 127.0.0.1 and localhost only.")
        if request.path.startswith("/static/") and not self.is_admitted(request):
            raise web.HTTPUnauthorized(text="Open the address that the console printed.")
        return await handler(request)

    async def add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Add what tells browsers to trust nothing but our own files."""
        response.headers.update(
            {
                "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
                "style-src 'self' 'unsafe-inline'; "  # xterm.js writes style elements
                f"connect-src 'self' ws://127.0.0.1:{self.port} ws://localhost:{self.port}; "
                "img-src 'self' data:; font-src 'self'; "
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Cache-Control": "no-store",
            }
        )


def _message(status: int, title: str, text: str) -> web.Response:
    body = _MESSAGE.format(title=html.escape(title), text=html.escape(text))
    return web.Response(status=status, text=body, content_type="text/html")
