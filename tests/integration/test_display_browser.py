"""Shown by 3: the desktop of a DevBox in the console's page, in real headless Chromium."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from console.workers import WorkerLink
from tests.integration.conftest import Podman, Worker, create
from tests.integration.page import TIMEOUT_MS, chromium
from tests.integration.test_display import DISPLAY_IMAGE, paint, relays

SHOTS = os.environ.get("DISPLAY_SHOTS")
"""A folder for screenshots, to be looked at."""

PIXEL = """([x, y]) => {
  const canvas = document.querySelector("[data-testid=display-panel]:not([hidden]) canvas");
  if (!canvas) return null;
  if (x < 0) x += canvas.width;
  if (y < 0) y += canvas.height;
  return Array.from(canvas.getContext("2d").getImageData(x, y, 1, 1).data.slice(0, 3));
}"""


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest.fixture
async def page(shared_worker: Worker, browser: Browser) -> AsyncIterator[Page]:
    """The console's page with the shared worker; whatever it complains of fails the test."""
    assert shared_worker.console is not None
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    page = await context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await page.goto(shared_worker.console.new_page_url())
    yield page
    await context.close()
    assert complaints == []


async def colour(page: Page, x: int, y: int, wanted: tuple[int, int, int], timeout_s: float = 60) -> None:
    """Wait until a pixel of the picture has a colour; negative places count from the other side."""
    found = None
    try:
        async with asyncio.timeout(timeout_s):
            while (found := await page.evaluate(PIXEL, [x, y])) != list(wanted):
                await asyncio.sleep(0.05)
    except TimeoutError:
        await shot(page, "0-failed")
        pytest.fail(f"the pixel at {x}, {y} is {found}, not {wanted}")


async def shot(page: Page, name: str) -> None:
    if SHOTS:
        await page.screenshot(path=Path(SHOTS) / f"{name}.png")


async def show(page: Page, box: str) -> None:
    """Press the button and wait for the desktop."""
    await page.locator(f'[data-devbox="{box}"] [data-testid=open-display]').click()
    await expect(page.locator('[data-testid=tab][aria-selected=true][data-state="live"]')).to_be_visible(timeout=60_000)


async def run(link: WorkerLink, box: str, command: str) -> str:
    return str(
        (await link.request("DevBox.exec", {"devboxId": box, "command": command, "timeoutMs": 60_000}))["stdout"]
    )


async def test_the_desktop_appears_and_takes_keys_without_a_network(
    link: WorkerLink, podman: Podman, page: Page
) -> None:
    """A window of a known colour is seen in the canvas, and what is typed in the page reaches a program in the box."""
    box = await create(link, image=DISPLAY_IMAGE)
    await show(page, box)
    await paint(link, box, "#2468ac")
    reads = "touch /tmp/reads; read line; echo $line > /workspace/typed; sleep 600"
    await run(
        link,
        box,
        f"setsid xterm -bg '#d02090' -geometry 20x5-20-20 -e sh -c '{reads}' >/tmp/xterm.log 2>&1 & "
        "until [ -e /tmp/reads ]; do sleep 0.1; done",
    )

    await colour(page, -5, -5, (0x24, 0x68, 0xAC))
    await colour(page, -100, -60, (0xD0, 0x20, 0x90))
    await shot(page, "1-desktop")
    canvas = page.locator("[data-testid=display-panel] canvas")
    size = await canvas.bounding_box()
    assert size is not None
    await canvas.click(position={"x": size["width"] - 100, "y": size["height"] - 60})
    # The window manager gives the window the focus in its own time, and colours its title bar.
    async with asyncio.timeout(60):
        while not ((title := await page.evaluate(PIXEL, [-160, -137])) and title[2] - title[0] > 20):
            await asyncio.sleep(0.05)
    await page.keyboard.type("Hello, DevBox!")
    await page.keyboard.press("Enter")
    typed = ""
    async with asyncio.timeout(60):
        while not typed:
            typed = await run(link, box, "cat /workspace/typed 2>/dev/null || :")
    assert typed == "Hello, DevBox!\n"
    await shot(page, "2-typed")
    assert podman.run("inspect", f"clustercode-{box}", "--format", "{{.HostConfig.NetworkMode}}") == "none\n"
    assert (await run(link, box, "ls /sys/class/net")).split() == ["lo"]


async def test_a_display_comes_back_by_itself_after_a_cut(link: WorkerLink, shared_worker: Worker, page: Page) -> None:
    """Neither a cut of the worker's connection nor a reload of the page takes more than a moment of the picture."""
    box = await create(link, image=DISPLAY_IMAGE)
    await show(page, box)
    await paint(link, box, "#113355")
    await colour(page, -5, -5, (0x11, 0x33, 0x55))
    assert shared_worker.console is not None
    await shared_worker.console.worker_socket.disconnect(link.id)
    await link.wait_disconnected()
    await link.wait_connected(60)
    await paint(link, box, "#557799")
    await colour(page, -5, -5, (0x55, 0x77, 0x99))

    await page.reload()
    await colour(page, -5, -5, (0x55, 0x77, 0x99))
    await page.locator("[data-testid=tab-close]").click()
    await expect(page.locator("[data-testid=display-panel]")).to_have_count(0)
    await relays(link, box, 0)


async def test_the_desktop_fits_the_window_and_shares_its_clipboard(link: WorkerLink, page: Page) -> None:
    """It follows the window's size or is scaled, goes full screen, and text is copied in both directions."""
    box = await create(link, image=DISPLAY_IMAGE)
    await show(page, box)
    canvas = page.locator("[data-testid=display-panel] canvas")
    area = await page.locator("[data-testid=desktop]").bounding_box()
    assert area is not None
    size = f"{round(area['width'])} x {round(area['height'])}"
    assert size in await run(link, box, "xrandr | head -1")

    await page.set_viewport_size({"width": 1000, "height": 700})
    smaller = {"width": area["width"] - 280, "height": area["height"] - 100}
    wanted = f"{round(smaller['width'])} x {round(smaller['height'])}"
    async with asyncio.timeout(60):
        while wanted not in await run(link, box, "xrandr | head -1"):
            await asyncio.sleep(0.1)
    await page.locator("[data-testid=display-size]").select_option("scale")
    await page.set_viewport_size({"width": 800, "height": 700})
    await expect(canvas).to_have_css("width", re.compile(rf"^{round(area['width']) - 480}"))
    assert wanted in await run(link, box, "xrandr | head -1")

    await page.locator("[data-testid=display-clipboard-open]").click()
    text = page.locator("[data-testid=display-clipboard-text]")
    await text.fill("from the page: Ünïcödé")
    async with asyncio.timeout(60):
        while await run(link, box, "timeout 5 xclip -o -selection clipboard || :") != "from the page: Ünïcödé":
            await asyncio.sleep(0.1)
    await run(link, box, "printf 'from the desktop: Ünïcödé' | xclip -selection clipboard >/dev/null 2>&1")
    await expect(text).to_have_value("from the desktop: Ünïcödé", timeout=60_000)
    await shot(page, "3-clipboard")
    await page.locator("[data-testid=display-full]").click()
    await page.wait_for_function("document.fullscreenElement?.dataset.testid === 'display'")
    await shot(page, "4-full-screen")


async def test_a_box_without_a_display_has_no_such_button(link: WorkerLink, page: Page) -> None:
    """The button is for DevBoxes whose image brings a display."""
    box = await create(link)
    await expect(page.locator(f'[data-devbox="{box}"] [data-testid=open-terminal]')).to_be_visible()

    await expect(page.locator(f'[data-devbox="{box}"] [data-testid=open-display]')).to_be_hidden()
