"""The console's page does by hand what the commands do: driven in a real browser as a new user would."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from console.app import Console
from console.workers import WorkerLink
from tests.integration.conftest import DEVBOX_IMAGE, IMAGE, Podman, Worker, create
from tests.integration.page import TIMEOUT_MS, chromium

ORIGIN = (
    "git init -q -b main origin && cd origin && echo one > README && git add . && "
    "git -c user.name=B -c user.email=b@example.com commit -qm one"
)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@asynccontextmanager
async def opened(browser: Browser, console: Console, *, width: int = 1280) -> AsyncIterator[Page]:
    """A page of its own that the console let in; what it complains of fails the test."""
    complaints: list[str] = []
    page = await browser.new_page(viewport={"width": width, "height": 860})
    try:
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        await page.goto(console.new_page_url())
        await expect(page.get_by_test_id("status")).to_have_text("Connected")
        yield page
    finally:
        await page.close()
    assert complaints == []


def devbox(page: Page, name: str) -> Locator:
    """A DevBox in the list."""
    return page.locator(f'[data-testid=devbox][data-name="{name}"]')


async def details(page: Page, name: str, part: str) -> None:
    """Open a part of a DevBox's details."""
    await devbox(page, name).get_by_test_id("details").click()
    await page.get_by_test_id(f"tab-{part}").click()


async def shows(page: Page, testid: str, text: str) -> None:
    """Wait until an element is shown with this text in it."""
    await expect(page.get_by_test_id(testid)).to_be_visible(timeout=TIMEOUT_MS)
    await expect(page.get_by_test_id(testid)).to_contain_text(text)


async def test_a_devbox_is_set_up_by_hand(browser: Browser, shared_worker: Worker, link: WorkerLink) -> None:
    """Repository, ticket and instructions by the form; what is missing or wrong is said in place."""
    box = await create(link, "set-up", DEVBOX_IMAGE)
    assert shared_worker.console is not None
    await link.request("DevBox.exec", {"devboxId": box, "command": ORIGIN})
    async with opened(browser, shared_worker.console) as page:
        await details(page, "set-up", "setup")
        await page.get_by_test_id("setup-submit").click()
        await shows(page, "setup-error", "Name the repository")
        await page.get_by_test_id("setup-url").fill("https://me:pa55@example.com/x.git")
        await page.get_by_test_id("setup-submit").click()
        await shows(page, "setup-error", "leave the password out")

        await page.get_by_test_id("setup-url").fill("/workspace/origin")
        await page.get_by_test_id("setup-ticket-id").fill("ABC-12")
        await page.get_by_test_id("setup-ticket-title").fill("Make it work")
        await page.get_by_test_id("setup-instructions").fill("Run the tests.")
        await page.get_by_test_id("setup-submit").click()
        await shows(page, "setup-done", "/workspace/origin-work")
        await expect(page.get_by_test_id("setup-error")).to_be_hidden()

    found = await link.request(
        "DevBox.exec", {"devboxId": box, "command": "cat origin-work/README origin-work/CLAUDE.md"}
    )
    assert found["stdout"].startswith("one\n")
    assert "ABC-12: Make it work" in found["stdout"]


async def test_a_command_is_run_by_hand(browser: Browser, shared_worker: Worker, link: WorkerLink) -> None:
    """Both outputs and the exit code are shown; one that goes on is stopped by its button."""
    box = await create(link, "run")
    assert shared_worker.console is not None
    async with opened(browser, shared_worker.console) as page:
        await details(page, "run", "run")
        command = page.get_by_test_id("run-command")
        await command.fill("echo out; echo wrong >&2; exit 3")
        await command.press("Enter")
        await shows(page, "run-ended", "exit code 3")
        await expect(page.get_by_test_id("run-output").locator(".stdout")).to_have_text("out\n")
        await expect(page.get_by_test_id("run-output").locator(".stderr")).to_have_text("wrong\n")

        await command.fill("echo begun; sleep 900")
        await page.get_by_test_id("run-submit").click()
        await shows(page, "run-output", "begun")
        await page.get_by_test_id("run-stop").click()
        await shows(page, "run-error", "Stopped")

    assert "sleep 900" not in (await link.request("DevBox.exec", {"devboxId": box, "command": "ps"}))["stdout"]


async def test_a_background_command_is_followed_and_killed_by_hand(
    browser: Browser, shared_worker: Worker, link: WorkerLink
) -> None:
    """Its output comes as it is written, a page opened later finds it, and its kill ends it."""
    await create(link, "background", DEVBOX_IMAGE)
    assert shared_worker.console is not None
    async with opened(browser, shared_worker.console) as page:
        await details(page, "background", "background")
        await page.get_by_test_id("background-command").fill("echo ready; read x < /dev/zero; sleep 900")
        await page.get_by_test_id("background-submit").click()
        await shows(page, "background-output", "ready")
        await shows(page, "background-state", "running")
    async with opened(browser, shared_worker.console) as page:
        await details(page, "background", "background")
        await page.get_by_test_id("background-watch").click()
        await shows(page, "background-output", "ready")
        await page.get_by_test_id("background-kill").click()
        await shows(page, "background-says", "ended")
        await shows(page, "background-state", "ended")
        await expect(page.get_by_test_id("background-kill")).to_be_hidden()


async def test_images_are_built_looked_up_and_deleted_by_hand(
    browser: Browser, shared_worker: Worker, link: WorkerLink, podman: Podman
) -> None:
    """A build shows its log and steps and stops when asked; an image in use says who uses it."""
    name = f"localhost/cc-page-{secrets.token_hex(4)}"
    await create(link, "user-of-it")
    assert shared_worker.console is not None
    try:
        async with opened(browser, shared_worker.console) as page:
            await page.get_by_test_id("open-images").click()
            used = page.locator(f'[data-testid=image][data-name="{IMAGE}"]')
            await expect(used).to_contain_text("Used by user-of-it")
            await used.get_by_test_id("image-delete").click()
            await used.get_by_test_id("image-delete-yes").click()
            await expect(used.get_by_test_id("image-error")).to_contain_text("operator")

            await page.get_by_test_id("build-name").fill(name)
            await page.get_by_test_id("build-file").fill(f"FROM {IMAGE}\nRUN echo begun && sleep 900")
            await page.get_by_test_id("build-submit").click()
            await shows(page, "build-log", "begun")
            await page.get_by_test_id("build-stop").click()
            await shows(page, "build-error", "Stopped")

            await page.get_by_test_id("build-file").fill(f"FROM {IMAGE}\nRUN echo well-done")
            await page.get_by_test_id("build-submit").click()
            await shows(page, "build-done", f"{name}:latest")
            await expect(page.get_by_test_id("build-log")).to_contain_text("well-done")
            await page.get_by_test_id("image-name").fill(f"{name}:latest")
            await page.get_by_test_id("image-check").click()
            await shows(page, "image-found", "is on this worker")

            built = page.locator(f'[data-testid=image][data-name="{name}:latest"]')
            box = await create(link, "made-of-it", f"{name}:latest")
            await built.get_by_test_id("image-delete").click()
            await built.get_by_test_id("image-delete-yes").click()
            await expect(built.get_by_test_id("image-error")).to_contain_text("made-of-it")
            await link.request("DevBox.remove", {"devboxId": box, "force": True})
            await built.get_by_test_id("image-delete").click()
            await built.get_by_test_id("image-delete-yes").click()
            await expect(built).to_have_count(0)
            await page.get_by_test_id("image-check").click()
            await shows(page, "image-found", "is not on this worker")
    finally:
        podman.run("image", "rm", "--force", "--ignore", name)


async def test_the_details_of_a_devbox_that_does_not_run_say_so(
    browser: Browser, shared_worker: Worker, link: WorkerLink
) -> None:
    """Nothing can be asked of it until it is started; the drawer closes with Escape, also in a narrow window."""
    box = await create(link, "stopped")
    await link.request("DevBox.stop", {"devboxId": box, "timeoutSeconds": 0})
    assert shared_worker.console is not None
    async with opened(browser, shared_worker.console, width=700) as page:
        await page.locator("#menu").click()
        await details(page, "stopped", "run")
        await shows(page, "details-stopped", "Start it")
        await expect(page.get_by_test_id("run-submit")).to_be_disabled()
        await page.get_by_test_id("tab-run").press("Escape")
        await expect(page.get_by_test_id("drawer")).to_be_hidden()
