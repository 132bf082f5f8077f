"""The console's page in a real browser, driven as people drive it: by keyboard, mouse and what they see."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, async_playwright, expect

from console.app import Console

ARGUMENTS = [
    "--no-sandbox",  # tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 60_000
"""The most a single step may take; nothing waits that long unless it fails."""
_POLL_MS = 30
expect.set_options(timeout=TIMEOUT_MS)  # for all tests of the page: what it shows may take as long as anything else

# Text of a whole xterm buffer, with lines that were wrapped at its edge put together again.
_TEXT = """(session) => {
  const buffer = clustercode.terminals.get(session).buffer.active;
  const lines = [];
  for (let i = 0; i < buffer.length; i++) {
    const line = buffer.getLine(i);
    const continues = buffer.getLine(i + 1)?.isWrapped ?? false;
    const text = line.translateToString(!continues);
    if (line.isWrapped) lines.push(lines.pop() + text);
    else lines.push(text);
  }
  return lines;
}"""
_HAS_LINE = f"([session, wanted]) => clustercode.terminals.has(session) && ({_TEXT})(session).includes(wanted)"
_CELL = """([session, wanted]) => {
  const buffer = clustercode.terminals.get(session).buffer.active;
  for (let i = 0; i < buffer.length; i++) {
    if (buffer.getLine(i).translateToString(true) !== wanted) continue;
    const cell = buffer.getLine(i).getCell(0);
    return { rgb: cell.isFgRGB(), colour: cell.getFgColor(), chars: cell.getChars(), width: cell.getWidth() };
  }
}"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless Chromium of this machine; the test fails if there is none."""
    program = shutil.which("chromium") or "/usr/bin/chromium"
    if not os.access(program, os.X_OK):
        pytest.fail("These tests drive a real Chromium and there is none: run 'make browser', which installs it.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS, timeout=TIMEOUT_MS)
        try:
            yield browser
        finally:
            await browser.close()


class ConsolePage:
    """One browser that the console let in, with one page, and a record of all it asked for and complained about."""

    def __init__(self, console: Console, context: BrowserContext, page: Page) -> None:
        self.console = console
        self.context = context
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.keyboard = page.keyboard
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("console", self._noted)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        page.on("websocket", lambda websocket: self.requests.append(websocket.url))
        page.on("crash", lambda _: self.complaints.append("the page crashed"))

    def _noted(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    @property
    def strangers(self) -> list[str]:
        """What it asked of anybody but the console."""
        port = self.console.port
        own = {("http", "127.0.0.1", port), ("ws", "127.0.0.1", port)}
        parts = [(url, urlsplit(url)) for url in self.requests if not url.startswith("data:")]
        return [url for url, part in parts if (part.scheme, part.hostname, part.port) not in own]

    async def describe(self) -> None:
        """Print what it shows."""
        print(f"--- the page ---\n{await self.page.locator('body').inner_text()}\n{self.complaints}")
        for session in await self.page.evaluate("[...(window.clustercode?.terminals ?? new Map()).keys()]"):
            print("\n".join([f"--- terminal {session} ---", *(await ShownTerminal(self, session).lines())[-60:]]))

    async def look_again(self) -> None:
        """Have the list of DevBoxes asked for anew, after something else changed it."""
        await self.find("worker").click()

    def find(self, testid: str, within: Locator | None = None) -> Locator:
        """An element by its data-testid."""
        return (within or self.page).get_by_test_id(testid)

    async def sees(self, testid: str, text: str | None = None) -> Locator:
        """Wait until an element is shown, with this text in it."""
        element = self.find(testid)
        await expect(element).to_be_visible()
        if text is not None:
            await expect(element).to_contain_text(text)
        return element

    # --- DevBoxes ---------------------------------------------------------------------------------------------------

    async def fill_dialog(self, name: str, image: str | None = None) -> None:
        """Open the dialog for a new DevBox and fill it in."""
        await self.find("new-devbox").click()
        await self.sees("create-dialog")
        await self.find("create-name").fill(name)
        if image is not None:
            await self.find("create-image").fill(image)

    def devbox(self, name: str) -> Locator:
        """A DevBox in the list."""
        return self.page.locator(f'[data-testid=devbox][data-name="{name}"]')

    async def is_running(self, name: str) -> str:
        """Wait until the list shows a DevBox as running; returns its id."""
        box = self.devbox(name)
        await expect(self.find("devbox-state", box)).to_have_text("running")
        return str(await box.get_attribute("data-devbox"))

    async def remove(self, name: str) -> None:
        """Remove a DevBox, saying yes when asked, and wait until the list is without it."""
        box = self.devbox(name)
        await self.find("remove", box).click()
        await self.find("remove-yes", box).click()
        await expect(box).to_have_count(0)

    # --- Terminals --------------------------------------------------------------------------------------------------

    async def open_terminal(self, name: str) -> "ShownTerminal":
        """Open one more terminal in a DevBox."""
        tabs = await self.find("tab").count()
        await self.find("open-terminal", self.devbox(name)).click()
        await expect(self.find("tab")).to_have_count(tabs + 1)
        return await self.terminal()

    async def terminal(self, state: str = "live") -> "ShownTerminal":
        """The terminal that is shown, once it is in this state."""
        tab = self.page.locator(f"[data-testid=tab][aria-selected=true][data-state={state}]")
        await expect(tab).to_be_visible()
        return ShownTerminal(self, str(await tab.get_attribute("data-session")))


class ShownTerminal:
    """One xterm.js terminal of a page."""

    def __init__(self, shown_in: ConsolePage, session_id: str) -> None:
        self.session_id = session_id
        self._keyboard = shown_in.keyboard
        self._page = shown_in.page
        self.tab = self._page.locator(f'[data-testid=tab][data-session="{session_id}"]')

    async def type(self, text: str) -> None:
        """Type into it; it must have the focus."""
        await self._keyboard.type(text)

    async def lines(self) -> list[str]:
        """Every line of its buffer."""
        found: list[str] = await self._page.evaluate(_TEXT, self.session_id)
        return found

    async def has_line(self, text: str) -> None:
        """Wait until a line of its buffer is exactly this."""
        await self._page.wait_for_function(_HAS_LINE, arg=[self.session_id, text], polling=_POLL_MS)

    async def shows(self, text: str) -> None:
        """Wait until a line of its buffer has this in it."""
        await self._page.wait_for_function(
            f"([session, wanted]) => ({_TEXT})(session).some((line) => line.includes(wanted))",
            arg=[self.session_id, text],
            polling=_POLL_MS,
        )

    async def line_from(self, start: str) -> str:
        """Wait for a line that begins so; returns the first one."""
        found = await self._page.wait_for_function(
            f"([session, start]) => ({_TEXT})(session).find((line) => line.startsWith(start))",
            arg=[self.session_id, start],
            polling=_POLL_MS,
        )
        return str(await found.json_value())

    async def run(self, command: str, result: str) -> None:
        """Type a command and wait for a line that it prints. The line must not be the command itself."""
        await self.type(f"{command}\n")
        await self.has_line(result)

    async def first_cell(self, line: str) -> dict[str, Any]:
        """How the first character of a line is drawn."""
        found: dict[str, Any] = await self._page.evaluate(_CELL, [self.session_id, line])
        return found

    async def size(self) -> tuple[int, int]:
        """Its rows and columns."""
        rows, cols = await self._page.evaluate(
            "(session) => [clustercode.terminals.get(session).rows, clustercode.terminals.get(session).cols]",
            self.session_id,
        )
        return rows, cols

    async def has_another_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Wait until it has other rows and other columns; returns them."""
        await self._page.wait_for_function(
            "([session, rows, cols]) => clustercode.terminals.get(session).rows !== rows"
            " && clustercode.terminals.get(session).cols !== cols",
            arg=[self.session_id, *size],
        )
        return await self.size()


@asynccontextmanager
async def open_page(
    browser: Browser,
    console: Console,
    *,
    scheme: Literal["dark", "light"] = "dark",
    width: int = 1280,
    height: int = 800,
) -> AsyncIterator[ConsolePage]:
    """A browser of its own that came in by a new one-time address. A failing test shows what it showed."""
    context = await browser.new_context(
        color_scheme=scheme,
        viewport={"width": width, "height": height},
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(TIMEOUT_MS)
    try:
        shown = ConsolePage(console, context, await context.new_page())
        await shown.page.goto(console.new_page_url())
        await expect(shown.find("status")).to_have_text("Connected")
        try:
            yield shown
        finally:
            await shown.describe()
    finally:
        await context.close()
