"""The one WebSocket: dials once per attempt and owns the sending side.

Anyone may send, in turns: see `turnstile`. It knows frames, not messages; `app` decides when to dial again.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NoReturn, Protocol, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidProxy, InvalidProxyStatus, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from gateway.backoff import UNREACHABLE, Ending
from gateway.config import GatewayConfig
from gateway.errors import Replaced, TokenRefused
from gateway.turnstile import Turnstile
from gateway.watermark import Watermark
from protos import limits, wire

log = logging.getLogger(__name__)

# websockets logs whole frames and the Authorization header at DEBUG: never, whatever the root logger is set to.
_library_log = logging.getLogger(f"{__name__}.websockets")
_library_log.setLevel(logging.WARNING)

OPEN_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 3.0
WRITE_LIMIT_BYTES = 32 * 1024
UNSENT_LIMIT_BYTES = 128 * 1024
"""Bytes that the kernel takes beyond what is on its way. More would lie ahead of every heartbeat and keystroke."""

CLOSE_GOING_AWAY = 1001
CLOSE_ABNORMAL = 1006
"""No frame: it stands for a connection that broke."""


class DialError(Exception):
    """This attempt came to nothing; another may."""

    def __init__(self, text: str, reason: str = UNREACHABLE, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.ending = Ending(reason=reason, retry_after_s=retry_after_s)


class Source(Protocol):
    """A session whose output is confirmed by pongs instead of acknowledgements."""

    def confirm(self, offset: int) -> None:
        """Take note that the orchestrator has read all output below ``offset``."""


async def dial(config: GatewayConfig, token: str, traffic: "Traffic") -> "Connection":
    """Dial once; raises `DialError`, or `TokenRefused` where another attempt is pointless."""
    headers = {"Authorization": f"Bearer {token}", "X-ClusterCode-Worker-Id": config.worker_id}
    if config.tenant_id is not None:
        headers["X-ClusterCode-Tenant-Id"] = config.tenant_id
    try:
        ws = await connect(
            config.orchestrator_url,
            additional_headers=headers,
            user_agent_header=f"clustercode-worker/{config.agent_version}",
            subprotocols=[Subprotocol(name) for name in wire.SUBPROTOCOLS],
            proxy=None if config.is_local else True,
            compression=None,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,  # `liveness` does that
            max_size=limits.MAX_MESSAGE_BYTES,
            write_limit=WRITE_LIMIT_BYTES,
            logger=_library_log,
        )
    except InvalidStatus as error:
        _explain_status(error)
    except InvalidProxyStatus as error:
        status = error.response.status_code
        raise DialError(f"the proxy answered HTTP {status}", f"proxy_http_{status}") from None
    except InvalidProxy:  # its text repeats the address, and that may hold a password
        raise DialError("the proxy's address makes no sense: correct HTTPS_PROXY", "proxy") from None
    except WebSocketException as error:
        raise DialError(f"no WebSocket there: {error}", "no_websocket") from None
    except ssl.SSLCertVerificationError as error:
        raise DialError(
            f"its certificate is not trusted: {error.verify_message}. If a private authority issued it, name that "
            "authority's certificate in SSL_CERT_FILE.",
            "tls",
        ) from None
    except ssl.SSLError as error:
        raise DialError(f"TLS: {error.reason or error}", "tls") from None
    except (OSError, EOFError, ValueError, ImportError) as error:
        # ImportError: a SOCKS proxy without the library for it; ValueError: a proxy address that makes no sense.
        raise DialError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from None
    return Connection(ws, config.window_bytes, traffic)


def _explain_status(error: InvalidStatus) -> NoReturn:
    status = error.response.status_code
    if status in (401, 403):
        raise TokenRefused(
            f"The orchestrator does not accept this worker's token (HTTP {status}). "
            "Put a valid one in the token file, then start the worker again."
        ) from None
    said = f"it answers HTTP {status} {error.response.reason_phrase}".rstrip()
    retry_after = retry_after_s(error.response.headers.get("Retry-After"), datetime.now(UTC))
    if status != HTTPStatus.TOO_MANY_REQUESTS and status < HTTPStatus.INTERNAL_SERVER_ERROR and retry_after is None:
        said += ", so there is no WebSocket: the path in its address is probably wrong. Correct --url."
    raise DialError(said, f"http_{status}", retry_after) from None


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for: a number, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


@dataclass
class Traffic:
    """Bytes of messages, of all connections of this process; of received text, characters."""

    sent: int = 0
    received: int = 0


class Connection:
    """An open WebSocket. Lives from a dial to the close; never reopened.

    ``binary``: data goes as binary frames. ``acks``: the orchestrator acknowledges output; until it says so, pings
    stand in (see `watermark`).
    """

    def __init__(self, ws: ClientConnection, window_bytes: int, traffic: Traffic) -> None:
        self._ws = ws
        self._traffic = traffic
        self._turnstile = Turnstile()
        self._watermark: Watermark[Source] = Watermark(window_bytes)
        self.binary = ws.subprotocol == wire.SUBPROTOCOL_BINARY
        self.acks = False
        _limit_unsent(ws)

    async def receive(self) -> str | bytes:
        """Return the next message, text as str; raises `ConnectionClosed`."""
        message = await self._ws.recv()
        self._traffic.received += len(message)
        return message

    async def send(self, frame: bytes) -> None:
        """Send a text frame ahead of all waiting data; raises `ConnectionClosed`."""
        await self._turnstile.enter(control=True)
        try:
            await self._ws.send(frame, text=True)
            self._traffic.sent += len(frame)
        finally:
            self._turnstile.leave()

    async def send_bulk(self, frame: bytes) -> None:
        """Send a text frame in turn with the data of terminals; raises `ConnectionClosed`."""
        await self._turnstile.enter(control=False)
        try:
            await self._ws.send(frame, text=True)
            self._traffic.sent += len(frame)
        finally:
            self._turnstile.leave()

    async def send_output(self, source: Source, end: int, size: int, frame: bytes, *, text: bool) -> None:
        """Send ``size`` bytes of a session's output, up to its offset ``end``; raises `ConnectionClosed`.

        Waits for its turn, and without acks also for pongs.
        """
        await self._turnstile.enter(control=False)
        try:
            await self._ws.send(frame, text=text)
            self._traffic.sent += len(frame)
            if not self.acks:
                due = self._watermark.sent(source, end, size)
                if self._watermark.full:
                    self._turnstile.hold_data()
                if due:
                    await self._ping()
        finally:
            self._turnstile.leave()

    async def flush_marks(self) -> None:
        """Have output confirmed that is too little for a ping of its own."""
        if not self.acks and self._watermark.unpinged:
            await self._ping()

    async def round_trip(self) -> None:
        """Wait until the orchestrator has read all that was sent so far; raises `ConnectionClosed`."""
        await (await self._ws.ping())

    def forget(self, source: Source) -> None:
        """Drop a session from the bookkeeping."""
        self._watermark.forget(source)

    def promise_acks(self) -> None:
        """Take note that the orchestrator acknowledges output; safe to call twice."""
        self.acks = True
        self._turnstile.admit_data()

    async def close(self, code: int, reason: str = "") -> None:
        """Close; bounded by `CLOSE_TIMEOUT_S`; safe to call twice."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._ws.close(code, reason)
        except TimeoutError:  # The peer reads nothing, so not even the close frame goes out.
            self.cut()

    def cut(self) -> None:
        """End the connection without a word: the peer is not there."""
        self._ws.transport.abort()

    async def _ping(self) -> None:
        # The mark is taken before the ping is written and no output goes between them: we are in the turnstile, or
        # the ping is written without suspending before.
        mark = self._watermark.ping()
        pong = cast("asyncio.Future[float]", await self._ws.ping())
        pong.add_done_callback(lambda pong: self._confirm(mark, pong))

    def _confirm(self, mark: int, pong: "asyncio.Future[float]") -> None:
        if pong.cancelled() or pong.exception() is not None:
            return  # The connection is gone; the executor keeps what was not confirmed.
        for source, offset in self._watermark.pong(mark).items():
            source.confirm(offset)
        if not self._watermark.full:
            self._turnstile.admit_data()


def ending_of(closed: ConnectionClosed, registered_s: float) -> Ending:
    """Return how a connection ended; raises `Replaced` where another instance has taken its place."""
    theirs = closed.rcvd
    if theirs is not None and theirs.code == wire.CLOSE_REPLACED:
        raise Replaced(
            f"Another instance of this worker has taken its place, says the orchestrator: "
            f"{theirs.reason or 'which one it does not say'}. Stop one of the two, or give one an id of its own "
            "(--worker-id), then start this one again."
        )
    codes = frozenset(close.code for close in (theirs, closed.sent) if close is not None) or frozenset({CLOSE_ABNORMAL})
    first = theirs if theirs is not None and (closed.rcvd_then_sent or closed.sent is None) else closed.sent
    reason = f"close_{first.code if first is not None else CLOSE_ABNORMAL}"
    return Ending(registered_s, codes, reason=reason)


def _limit_unsent(ws: ClientConnection) -> None:
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    tcp = ws.transport.get_extra_info("socket")
    if option is not None and tcp is not None:
        with contextlib.suppress(OSError):  # not TCP, or a kernel without it: only less prompt under load
            tcp.setsockopt(socket.IPPROTO_TCP, option, UNSENT_LIMIT_BYTES)
