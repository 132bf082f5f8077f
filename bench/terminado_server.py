"""A program: terminado as its documentation starts it, with ``podman exec -it`` in each terminal. Prints its port."""

import asyncio
import shlex
import sys

from terminado.management import PtyWithClients, UniqueTermManager
from terminado.websocket import TermSocket
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application


class _AnyCommand(UniqueTermManager):
    """Runs the command that the URL names, where terminado would run one and the same for all."""

    def get_terminal(self, url_component: str | None = None) -> PtyWithClients:
        """Return a new terminal; called once per WebSocket."""
        self.shell_command = [*sys.argv[1:], *shlex.split(url_component or "sh")]  # type: ignore[assignment] # a list, says its documentation
        return super().get_terminal(url_component)


async def _serve() -> None:
    manager = _AnyCommand(shell_command=[])
    application = Application([(r"/(.*)", TermSocket, {"term_manager": manager})])
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(application).add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(_serve())
