"""The console's page in a real Chromium, before a real worker: what a person does there, and what must not go wrong."""

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from console.workers import WorkerLink
from tests.integration.conftest import DEVBOX_IMAGE, IMAGE, Podman, Worker, create, eventually
from tests.integration.page import ConsolePage, chromium, open_page

TEXT = "naïve 漢字 🙂 ✓"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest.fixture
async def page(browser: Browser, shared_worker: Worker, link: WorkerLink) -> AsyncIterator[ConsolePage]:
    """A page before the shared worker, which has no DevBoxes. Whatever the test does, it bothers nobody else."""
    assert shared_worker.console is not None
    await eventually(lambda: not link.sessions.all())  # those of the test before end with their DevBoxes
    async with open_page(browser, shared_worker.console) as shown:
        yield shown
    assert_is_quiet(shown)


def assert_is_quiet(shown: ConsolePage) -> None:
    """It asked something of the console, nothing of anybody else, and the browser complained about nothing."""
    assert f"{shown.console.base_url}/static/app.js" in shown.requests
    assert shown.strangers == []
    assert shown.complaints == []


def containers(podman: Podman, devbox_id: str) -> list[str]:
    """The engine's containers and volumes of a DevBox."""
    label = f"label=io.clustercode.devbox={devbox_id}"
    return (
        podman.run("ps", "-aq", "--filter", label).split() + podman.run("volume", "ls", "-q", "--filter", label).split()
    )


# --- The way everybody goes -------------------------------------------------------------------------------------------


def up_to(last: str, lines: list[str]) -> list[str]:
    """The lines that are not empty, to the one that is this."""
    shown = [line for line in lines if line]
    return shown[: shown.index(last) + 1]


async def test_a_devbox_and_its_shell_from_creation_to_removal(page: ConsolePage, podman: Podman) -> None:
    """Created, typed into, resized, found again after a reload with all it knew, removed: by the page alone."""
    await page.find("first-devbox").click()
    await page.find("create-name").fill("through-the-page")
    await expect(page.find("create-image")).to_have_value(DEVBOX_IMAGE)
    await page.find("create-open").uncheck()
    await page.find("create-submit").click()
    devbox_id = await page.is_running("through-the-page")
    assert containers(podman, devbox_id) != []

    terminal = await page.open_terminal("through-the-page")
    await terminal.line_from("through-the-page /workspace $")  # what is typed before the prompt is echoed twice
    await terminal.run(f"printf '\\e[38;2;255;120;1m%s\\e[0m\\n' '{TEXT}'", TEXT)
    assert await terminal.first_cell(TEXT) == {"rgb": True, "colour": 0xFF7801, "chars": "n", "width": 1}
    await terminal.run("printf '\\u6f22\\n'", "漢")
    assert (await terminal.first_cell("漢"))["width"] == 2
    rows, cols = await terminal.size()
    await terminal.run("stty size", f"{rows} {cols}")

    assert page.page.viewport_size == {"width": 1280, "height": 800}
    await page.page.set_viewport_size({"width": 1010, "height": 610})
    rows, cols = await terminal.has_another_size((rows, cols))
    # The size arrives on its own way, so the shell is asked until it has.
    await terminal.run(f'until [ "$(stty size)" = "{rows} {cols}" ]; do sleep 0.05; done; stty size', f"{rows} {cols}")

    await terminal.run(f"KEPT='{TEXT}'; echo \"she\"ll $$; echo s''et", "set")
    shell = await terminal.line_from("shell ")
    before = up_to("set", await terminal.lines())
    await page.page.reload()
    again = await page.terminal()
    assert again.session_id == terminal.session_id
    await again.has_line("set")
    assert up_to("set", await again.lines()) == before
    await again.run('echo "still $KEPT"; echo sa""me shell $$', f"still {TEXT}")
    await again.has_line(f"same {shell}")

    await page.remove("through-the-page")
    await page.terminal("ended")
    await page.find("tab-close").click()
    await page.sees("first-devbox")
    assert containers(podman, devbox_id) == []


async def test_a_devbox_is_stopped_and_started(page: ConsolePage, link: WorkerLink) -> None:
    """Its terminal says that the shell ended, and Enter opens a new one once the DevBox runs again."""
    await create(link, "to-stop", DEVBOX_IMAGE)
    await page.look_again()
    await page.is_running("to-stop")
    terminal = await page.open_terminal("to-stop")
    await terminal.run("cd /workspace; echo kept | tee file", "kept")

    box = page.devbox("to-stop")
    await page.find("stop", box).click()
    await expect(page.find("devbox-state", box)).to_contain_text("stopped")
    await (await page.terminal("ended")).shows("The shell ended")
    await page.find("start", box).click()
    await page.is_running("to-stop")

    await page.find("tab").click()
    await page.keyboard.press("Enter")
    new = await page.terminal()
    assert new.session_id != terminal.session_id
    await new.run("tr a-z A-Z < /workspace/file", "KEPT")
    await new.type("exit 7\n")
    await expect(new.tab).to_have_attribute("data-state", "ended")
    await new.shows("exit code 7")


async def test_copy_and_paste(page: ConsolePage, link: WorkerLink) -> None:
    """Ctrl+Shift+C copies what is selected, Ctrl+Shift+V pastes, multi-byte text too; Ctrl+C interrupts."""
    await create(link, "clipboard", DEVBOX_IMAGE)
    await page.look_again()
    terminal = await page.open_terminal("clipboard")
    await page.page.evaluate("(text) => navigator.clipboard.writeText(text)", f"echo 'pasted: '\"{TEXT}\"")
    await page.keyboard.press("Control+Shift+V")
    await terminal.run("", f"pasted: {TEXT}")

    await page.page.evaluate(
        "(session) => { const term = clustercode.terminals.get(session); const buffer = term.buffer.active;"
        " for (let i = 0; i < buffer.length; i++)"
        "  if (buffer.getLine(i).translateToString(true).startsWith('pasted: ')) term.selectLines(i, i); }",
        terminal.session_id,
    )
    await page.keyboard.press("Control+Shift+C")
    await page.page.wait_for_function(
        "async (text) => (await navigator.clipboard.readText()).trim() === text", arg=f"pasted: {TEXT}"
    )

    await terminal.run("""sh -c 'trap "echo caught; exit" INT; echo waits; sleep 1000 & wait'""", "waits")
    await page.keyboard.press("Control+c")
    await terminal.has_line("^Ccaught")


async def test_two_terminals_are_two_shells_and_closing_a_tab_ends_one(page: ConsolePage, link: WorkerLink) -> None:
    """Each tab keeps to itself, after a reload too; a closed tab's shell is gone on the worker."""
    await create(link, "tabs", DEVBOX_IMAGE)
    await page.look_again()
    first = await page.open_terminal("tabs")
    await first.run("WHO=first; echo I am $WHO", "I am first")
    second = await page.open_terminal("tabs")
    await second.run("echo I am ${WHO:-second}", "I am second")
    assert "I am first" not in await second.lines()

    await page.page.reload()
    await expect(page.page.locator("[data-testid=tab][data-state=live]")).to_have_count(2)
    assert (await page.terminal()).session_id == second.session_id, "the tab that was shown is shown again"
    await page.find("tab-close", second.tab).click()
    await expect(page.find("tab")).to_have_count(1)
    await page.find("tab").click()
    await first.run("ps -o tty= -u $(id -u) | sort -u | grep -c pts; echo still $WHO", "still first")
    assert [session.session_id for session in link.sessions.all()] == [first.session_id]


# --- Cuts -------------------------------------------------------------------------------------------------------------

# Numbers until a line is typed, three times over, then some more; nothing is echoed in between.
_COUNTS = """\
stty -echo; n=0; number() { for _ in $(seq $1); do n=$((n+1)); echo "n $n"; done; }; \
for cut in 1 2 3; do until read -t 0; do number 10; sleep 0.01; done; read -r typed; echo "typed $cut: $typed"; done; \
number 1000; echo "last $n"; stty echo
"""


async def test_nothing_is_lost_or_doubled_when_a_connection_is_cut(browser: Browser, worker: Worker) -> None:
    """The worker is cut off, the gateway is killed, the page is cut off, each in mid-output with keys typed meanwhile.

    The page's buffer has every number once and in order, and each line that was typed reached the program once.
    """
    console = worker.console
    assert console is not None
    await create(await worker.link(), "cuts", DEVBOX_IMAGE)
    async with open_page(browser, console) as page:
        terminal = await page.open_terminal("cuts")
        await page.page.evaluate(
            "(session) => { clustercode.terminals.get(session).options.scrollback = 1_000_000; window.states = [];"
            " const tab = document.querySelector(`[data-session='${session}']`);"
            " const note = () => states.push(tab.dataset.state);"
            " new MutationObserver(note).observe(tab, { attributeFilter: ['data-state'] }); }",
            terminal.session_id,
        )
        await terminal.type(_COUNTS)

        await terminal.has_line("n 200")
        await console.worker_socket.disconnect(worker.worker_id)
        await terminal.type(f"cut off, {TEXT}\n")
        await terminal.has_line(f"typed 1: cut off, {TEXT}")

        await worker.gateway.kill()
        await expect(terminal.tab).to_have_attribute("data-state", "away")
        await page.sees("overlay", "by itself when it returns")
        await terminal.type(f"gateway gone, {TEXT}\n")
        await worker.gateway.start()
        await terminal.has_line(f"typed 2: gateway gone, {TEXT}")

        await console.browser_socket.disconnect_all()
        await terminal.type(f"page cut off, {TEXT}\n")
        await terminal.has_line(f"typed 3: page cut off, {TEXT}")
        last = await terminal.line_from("last ")
        lines = await terminal.lines()
        states = await page.page.evaluate("states")
    assert_is_quiet(page)
    numbers = [int(line.removeprefix("n ")) for line in lines if line.startswith("n ")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert last == f"last {len(numbers)}"
    assert [line for line in lines if line.startswith("typed ")] == [
        f"typed {number}: {what}, {TEXT}" for number, what in ((1, "cut off"), (2, "gateway gone"), (3, "page cut off"))
    ]
    assert not [line for line in lines if "dropped" in line]
    assert states.count("away") >= 3, states


# --- Wrong input ------------------------------------------------------------------------------------------------------


async def test_a_refused_creation_is_told_where_it_was_asked_for(page: ConsolePage, link: WorkerLink) -> None:
    """Each wrong input gets a sentence in the dialog, which stays open as it was; the next try works."""
    await create(link, "taken", DEVBOX_IMAGE)
    await page.look_again()
    await page.is_running("taken")
    await page.fill_dialog("mine", "localhost/no-such-image:latest")
    submit, name, image = (page.find(f"create-{what}") for what in ("submit", "name", "image"))

    await submit.click()
    await page.sees("create-error", "The image localhost/no-such-image:latest is not on this worker")
    await image.fill("  ")
    await submit.click()
    await page.sees("create-error", "Name the image")
    await image.fill("localhost/Not An Image")
    await submit.click()
    await page.sees("create-error", "image")
    await expect(submit).to_be_enabled()

    await image.fill(IMAGE)
    for wrong in ("", "-dash", "with space", "é"):
        await name.fill(wrong)
        await submit.click()
        await page.sees("create-error", "A name begins with a letter or digit")
        await expect(name).to_be_focused()
    await name.fill("taken")
    await submit.click()
    await page.sees("create-error", "There is a DevBox taken")
    await expect(name).to_have_value("taken")

    await name.fill("mine")
    await page.find("create-open").uncheck()
    await submit.click()
    await page.is_running("mine")
    await expect(page.find("create-dialog")).to_be_hidden()
    await page.remove("taken")
    await page.remove("mine")


async def test_the_worker_has_the_last_word_on_a_name(page: ConsolePage, link: WorkerLink) -> None:
    """A name that was taken while the dialog was open: the worker's refusal is shown in its place."""
    await page.fill_dialog("raced")
    devbox_id = await create(link, "raced", IMAGE)
    await page.find("create-submit").click()
    await page.sees("create-error", f"There is a DevBox raced with another specification ({devbox_id})")
    await page.sees("create-error", "ALREADY_EXISTS")
    await page.find("create-name").fill("not-raced")
    await page.find("create-submit").click()
    await page.is_running("not-raced")


async def test_a_devbox_that_is_gone_is_told_in_its_place(page: ConsolePage, link: WorkerLink) -> None:
    """Somebody else removes it: its terminal ends, a new shell there is refused with a sentence, the page goes on."""
    devbox_id = await create(link, "gone", DEVBOX_IMAGE)
    await page.look_again()
    terminal = await page.open_terminal("gone")
    await terminal.run("echo he''re", "here")
    await link.request("DevBox.remove", {"devboxId": devbox_id, "force": True})
    await page.terminal("ended")
    await page.find("tab").click()
    await page.keyboard.press("Enter")
    await page.sees("overlay", f"There is no DevBox {devbox_id}")
    await page.sees("try-again")

    await expect(page.devbox("gone")).to_have_count(0)
    await page.find("tab-close").click()
    await page.sees("first-devbox")


# --- Who may come in, and where requests go ---------------------------------------------------------------------------


async def test_a_used_address_says_what_to_do(browser: Browser, shared_worker: Worker) -> None:
    """Each printed address lets one browser in, for good; who comes with a used one, or none, reads what to do."""
    console = shared_worker.console
    assert console is not None
    context = await browser.new_context()
    other = await browser.new_context()
    try:
        url = console.new_page_url()
        page = await context.new_page()
        await page.goto(url)
        await expect(page.get_by_test_id("status")).to_have_text("Connected")
        assert page.url == f"{console.base_url}/", "the token does not stay in the address"
        await page.goto(url)
        await expect(page.get_by_test_id("status")).to_have_text("Connected")

        stranger = await other.new_page()
        for address, says in (
            (url, "This address was used already"),
            (f"{console.base_url}/?token=wrong", "This address was used already"),
            (console.base_url, "Open the address that the console printed"),
        ):
            answer = await stranger.goto(address)
            assert answer is not None
            assert answer.status == 401
            await expect(stranger.get_by_role("heading")).to_have_text(says)
            await expect(stranger.locator("p")).to_contain_text("run it again")
        assert await other.cookies() == []
        answer = await stranger.goto(f"{console.base_url}/static/app.js")
        assert answer is not None
        assert answer.status == 401
    finally:
        await context.close()
        await other.close()


async def test_other_names_for_this_machine_are_refused(page: ConsolePage) -> None:
    """A page of another site whose name was pointed at 127.0.0.1 (DNS rebinding) gets nothing."""
    port = page.console.port
    async with aiohttp.ClientSession() as session:
        for host, status in (
            (f"127.0.0.1:{port}", 401), (f"localhost:{port}", 401), (f"[::1]:{port}", 401),
            ("evil.example", 421), (f"evil.example:{port}", 421), (f"localhost.evil.example:{port}", 421),
            ("127.0.0.1", 421), (f"127.0.0.1:{port + 1}", 421), (f"127.0.0.1:{port}@evil.example", 421),
        ):  # fmt: skip
            async with session.get(page.console.base_url, headers={"Host": host}) as answer:
                assert (host, answer.status) == (host, status)


async def test_a_page_of_another_origin_is_refused(page: ConsolePage) -> None:
    """Another server on this machine shares our cookies, as they ignore ports: its page still gets nowhere."""

    async def attack(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Another page</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", attack)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        other = await page.context.new_page()
        await other.goto(address)
        base = page.console.base_url
        opened = await other.evaluate(
            "(url) => new Promise((done) => { const socket = new WebSocket(url);"
            " socket.onopen = () => done('opened'); socket.onclose = ({ code }) => done(code); })",
            f"{base.replace('http', 'ws')}/ws/browser?page=00000000-aaaa",
        )
        read = await other.evaluate(
            "(url) => fetch(url, { credentials: 'include' }).then(() => 'read', () => 'refused')", base
        )
        frame = await other.evaluate(
            "(url) => new Promise((done) => { const frame = document.createElement('iframe'); frame.src = url;"
            " frame.onload = () => done(frame.contentDocument ? 'read' : 'refused');"
            " document.body.append(frame); })",
            base,
        )
        await other.close()
    finally:
        await runner.cleanup()
    assert (opened, read, frame) == (1006, "refused", "refused")
    assert any("frame-ancestors" in text for text in page.complaints), page.complaints
    assert page.strangers == [address]
    page.complaints.clear()  # those of the other page
    page.requests.remove(address)

    cookies = {cookie["name"]: cookie["value"] for cookie in await page.context.cookies()}
    async with aiohttp.ClientSession(cookies=cookies) as session:
        own = f"{base}/ws/browser?page=00000000-aaaa"
        for origin in ({"Origin": "http://evil.example"}, {"Origin": f"{base}0"}, {"Origin": "null"}, {}):
            async with session.get(own, headers=origin) as answer:
                assert (origin, answer.status) == (origin, 403)
        async with session.ws_connect(own, headers={"Origin": base}) as socket:
            assert json.loads(await socket.receive_str())["type"] == "hello"
        async with aiohttp.ClientSession() as stranger, stranger.get(own, headers={"Origin": base}) as answer:
            assert answer.status == 401


async def test_the_page_can_ask_nobody_but_the_console(page: ConsolePage) -> None:
    """Every test here sees that it asks nobody else; were our code to, the browser would refuse, and be heard."""
    for attempt in (
        "fetch('http://198.51.100.1/')",
        "import('http://198.51.100.1/x.js')",
        "new Promise((_, no) => { new WebSocket('ws://198.51.100.1/').onerror = no; })",
        "new Promise((_, no) => { const image = new Image(); image.onerror = no; image.src = 'http://198.51.100.1'; })",
    ):
        page.complaints.clear()
        assert await page.page.evaluate(f"() => {attempt}.then(() => false, () => true)"), attempt
        assert any("Content Security Policy" in text for text in page.complaints), (attempt, page.complaints)
    page.complaints.clear()
    page.requests[:] = [url for url in page.requests if "198.51.100.1" not in url]
