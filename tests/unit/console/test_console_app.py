"""`console.app` over a loopback socket: who is let in, and how it stops."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from console.app import Console, ConsoleConfig, run, serve
from console.errors import ConsoleError


@asynccontextmanager
async def console_and_browser(tmp_path: Path) -> AsyncIterator[tuple[Console, aiohttp.ClientSession]]:
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of IP addresses too
    async with (
        serve(ConsoleConfig(data_dir=tmp_path, port=0)) as console,
        aiohttp.ClientSession(console.base_url, cookie_jar=jar) as browser,
    ):
        yield console, browser


async def status(browser: aiohttp.ClientSession, path: str, **headers: str) -> int:
    async with browser.get(path, headers=headers) as answer:
        return answer.status


async def test_the_printed_address_lets_in_once(tmp_path: Path) -> None:
    """The token becomes a cookie that only HTTP sees, the address then works no more, the cookie does."""
    async with console_and_browser(tmp_path) as (console, browser):
        assert await status(browser, "/") == 401
        assert await status(browser, "/static/app.js") == 401
        url = console.new_page_url()
        async with browser.get(url, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            cookie = next(iter(answer.cookies.values()))
            assert cookie["httponly"]
            assert cookie["samesite"] == "Strict"
        assert await status(browser, "/") == 200
        assert await status(browser, "/static/app.js") == 200
        browser.cookie_jar.clear()
        async with browser.get(url) as answer:
            assert answer.status == 401
            assert "run it again" in await answer.text()


async def test_every_answer_forbids_what_is_not_ours(tmp_path: Path) -> None:
    """Also refusals carry the headers; scripts come from our files only."""
    async with console_and_browser(tmp_path) as (_, browser):
        for path in ("/", "/api/health", "/nothing-here"):
            async with browser.get(path) as answer:
                assert "script-src 'self';" in answer.headers["Content-Security-Policy"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:7070"])
async def test_other_names_for_this_machine_are_refused(tmp_path: Path, host: str) -> None:
    """A name that an attacker points at 127.0.0.1 gets nothing, wherever it asks."""
    async with console_and_browser(tmp_path) as (_, browser):
        for path in ("/", "/api/health", "/ws/worker", "/ws/browser"):
            assert await status(browser, path, Host=host) == 421


async def test_only_our_page_may_open_the_pages_socket(tmp_path: Path) -> None:
    """A foreign origin, no origin and no cookie are refused before anything is said."""
    async with console_and_browser(tmp_path) as (console, browser):
        path = "/ws/browser?page=12345678"
        assert await status(browser, path, Origin=console.base_url) == 401
        assert await status(browser, console.new_page_url()) == 200
        assert await status(browser, path) == 403
        assert await status(browser, path, Origin="http://evil.example") == 403
        assert await status(browser, "/ws/browser", Origin=console.base_url) == 400
        async with browser.ws_connect(path, origin=console.base_url) as ws:
            assert (await ws.receive_json())["type"] == "hello"


async def test_a_pages_garbage_is_answered_and_ends_nothing(tmp_path: Path) -> None:
    """Whatever a page sends, its connection goes on."""
    async with console_and_browser(tmp_path) as (console, browser):
        assert await status(browser, console.new_page_url()) == 200
        async with browser.ws_connect("/ws/browser?page=12345678", origin=console.base_url) as ws:
            await ws.receive_json()
            for garbage in ("{", "[]", '{"type": 5}', '{"type": "DevBox.list", "worker": "none"}'):
                await ws.send_str(garbage)
                assert (await ws.receive_json())["type"] == "error"
            await ws.send_bytes(b"\x01")
            assert (await ws.receive_json())["error"]["code"] == "INVALID_ARGUMENT"
            await ws.send_json({"id": "1", "worker": "none", "type": "DevBox.list"})
            assert (await ws.receive_json())["error"]["code"] == "NOT_FOUND"


async def test_workers_need_the_token(tmp_path: Path) -> None:
    """Without it the handshake is refused with 401; a web page is refused even with it."""
    async with console_and_browser(tmp_path) as (console, browser):
        right = f"Bearer {console.worker_token}"
        assert await status(browser, "/ws/worker") == 401
        assert await status(browser, "/ws/worker", Authorization="Bearer wrong") == 401
        assert await status(browser, "/ws/worker", Authorization=right, Origin=console.base_url) == 403
        assert await status(browser, "/api/tenants") == 401
        async with browser.get("/api/tenants", headers={"Authorization": right}) as answer:
            assert await answer.json() == [{"id": "local", "name": "Local"}]
        assert console.token_file.read_text().strip() == console.worker_token


async def register(ws: aiohttp.ClientWebSocketResponse) -> None:
    payload = {"name": "w", "hostname": "h", "platform": "linux", "cpuCount": 1, "memoryTotal": 1, "workerId": "w"}
    payload |= {"containerEngines": ["podman"], "agentVersion": "0", "mode": "byom"}
    await ws.send_json({"type": "worker.register", "payload": payload})


async def test_a_second_connection_of_a_worker_replaces_the_first(tmp_path: Path) -> None:
    """The older one is closed with a code of its own; the worker is never seen as gone."""
    async with console_and_browser(tmp_path) as (console, browser):
        headers = {"Authorization": f"Bearer {console.worker_token}"}
        protocols = ("clustercode.v1+binary", "clustercode.v1")
        async with browser.ws_connect("/ws/worker", headers=headers, protocols=protocols) as first:
            assert first.protocol == "clustercode.v1+binary"
            await register(first)
            registered = await first.receive_json()
            assert registered["payload"] == {"workerId": "w", "capabilities": ["terminal.ack"]}
            async with browser.ws_connect("/ws/worker", headers=headers, protocols=protocols) as second:
                await register(second)
                assert (await first.receive()).type is aiohttp.WSMsgType.CLOSE
                assert first.close_code == 4001
                link = await console.worker("w")
                await link.wait_connected()
                assert link.connections == 2
            await link.wait_disconnected()


async def test_stopping_tells_workers_and_pages_and_takes_no_time(tmp_path: Path) -> None:
    """Both are closed with "going away", and a peer that does not answer the close delays it by a moment only."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with serve(ConsoleConfig(data_dir=tmp_path, port=0)) as console:
            headers = {"Authorization": f"Bearer {console.worker_token}"}
            worker = await browser.ws_connect(console.worker_url, headers=headers)
            await register(worker)
            await console.worker("w")
            async with browser.get(console.new_page_url()):
                pass
            url = f"{console.base_url}/ws/browser?page=12345678"
            page = await browser.ws_connect(url, origin=console.base_url)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 30  # the server's own patience is a minute
        for peer in (worker, page):
            while (message := await peer.receive()).type is not aiohttp.WSMsgType.CLOSE:
                pass
            assert message.data == 1001


async def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    """The message says what to do."""
    async with serve(ConsoleConfig(data_dir=tmp_path, port=0)) as console:
        with pytest.raises(ConsoleError, match="--port"):
            async with serve(ConsoleConfig(data_dir=tmp_path, port=console.port)):
                pass


async def test_a_signal_ends_run(tmp_path: Path) -> None:
    """SIGTERM ends it in order; by then the address was announced."""
    announced: list[Console] = []

    def announce(console: Console) -> None:
        announced.append(console)
        os.kill(os.getpid(), signal.SIGTERM)

    async with asyncio.timeout(30):
        await run(ConsoleConfig(data_dir=tmp_path, port=0), announce)

    assert announced[0].port > 0
