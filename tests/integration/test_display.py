"""Displays against a real VNC server in a real DevBox, through gateway and executor."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from console.app import serve
from console.config import ConsoleConfig
from console.display_client import DisplayClient
from console.workers import WorkerLink
from protos.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from protos.limits import DEFAULT_WINDOW_BYTES
from tests.integration.conftest import OTHER_TENANT, Podman, Worker, create, running_worker
from tests.integration.rfb import EXTENDED_DESKTOP_SIZE, Rfb

DISPLAY_IMAGE = "localhost/devbox-display:latest"
RELAYS = "pgrep -fc '^socat -b65536'"


async def run(link: WorkerLink, box: str, command: str, **more: object) -> str:
    """Run a command; returns what it prints."""
    answer = await link.request("DevBox.exec", {"devboxId": box, "command": command, **more})
    return str(answer["stdout"])


async def paint(link: WorkerLink, box: str, colour: str) -> None:
    """Colour the desktop, after it has coloured itself."""
    await run(link, box, f"until pgrep -x openbox; do sleep 0.05; done; xsetroot -solid '{colour}'", timeoutMs=60_000)


async def until(holds: Callable[[], Awaitable[bool]], timeout_s: float = 60) -> None:
    """Wait for what nothing tells us of: the state of a box."""
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await asyncio.sleep(0.05)


async def relays(link: WorkerLink, box: str, wanted: int) -> None:
    """Wait until a box has so many relays, one for each viewer."""

    async def holds() -> bool:
        return int(await run(link, box, RELAYS)) == wanted

    await until(holds)


@pytest.fixture
async def box(link: WorkerLink) -> str:
    """A DevBox with a display that nobody has opened yet."""
    return await create(link, image=DISPLAY_IMAGE)


async def test_a_display_is_started_and_speaks_rfb(link: WorkerLink, podman: Podman, box: str) -> None:
    """The whole handshake, the size that was asked for, and pixels; without any network in the box."""
    assert (await link.request("DevBox.list"))["devboxes"][0]["display"] is True

    async with DisplayClient(link, box, width=640, height=480) as display:
        rfb = Rfb(display)
        screen = await rfb.handshake()
        await paint(link, box, "#12ab34")
        assert await rfb.pixel(5, 5) == 0x12AB34

    assert (rfb.version, rfb.security) == (b"RFB 003.008\n", b"\x01")
    assert (screen.width, screen.height) == (640, 480)
    assert podman.run("inspect", f"clustercode-{box}", "--format", "{{.HostConfig.NetworkMode}}") == "none\n"
    listening = await run(link, box, "cat /proc/net/tcp /proc/net/tcp6 /proc/net/unix")
    assert " 0A " not in listening  # no TCP socket listens
    assert "@" not in listening  # no abstract socket, which boxes with the machine's network would share


async def test_two_viewers_look_at_one_display(link: WorkerLink, box: str) -> None:
    """Opened at the same time they start one server, see the same, and one of them leaving disturbs nobody."""
    first, second = DisplayClient(link, box, width=640, height=480), DisplayClient(link, box, width=640, height=480)
    await asyncio.gather(first.open(), second.open())
    views = [Rfb(first), Rfb(second)]
    for rfb in views:
        await rfb.handshake(shared=False)  # asks to be alone, and is not
    await relays(link, box, 2)
    assert await run(link, box, "pgrep -c Xvnc || pgrep -c Xtigervnc") == "1\n"

    await paint(link, box, "#010203")
    assert [await rfb.pixel(5, 5) for rfb in views] == [0x010203] * 2
    first.close()
    await relays(link, box, 1)
    await paint(link, box, "#040506")
    assert await views[1].pixel(5, 5) == 0x040506
    second.close()
    await relays(link, box, 0)


async def test_a_closed_display_is_found_again_as_it_was(link: WorkerLink, box: str) -> None:
    """Closing ends the relay and not the desktop: its programs go on and its size stays."""
    async with DisplayClient(link, box, width=640, height=480) as display:
        await Rfb(display).handshake()
    await relays(link, box, 0)
    server = await run(link, box, "pgrep -x Xvnc || pgrep -x Xtigervnc")

    async with DisplayClient(link, box, width=1000, height=900) as display:
        screen = await Rfb(display).handshake()

    assert (screen.width, screen.height) == (640, 480)
    assert await run(link, box, "pgrep -x Xvnc || pgrep -x Xtigervnc") == server


async def test_the_viewer_gives_the_desktop_its_size(link: WorkerLink, box: str) -> None:
    """RFB's SetDesktopSize works; the server tells the new size and X programs see it."""
    async with DisplayClient(link, box, width=640, height=480) as display:
        rfb = Rfb(display)
        await rfb.handshake(resizes=True)
        rfb.ask(0, 0, 640, 480)
        await rfb.update()
        rfb.resize(720, 500)
        rfb.ask(0, 0, 720, 500, incremental=True)
        async with asyncio.timeout(60):
            while True:
                sizes = [tuple(rect[2:4]) for rect in await rfb.update() if rect[4] == EXTENDED_DESKTOP_SIZE]
                if (720, 500) in sizes:
                    break
                rfb.ask(0, 0, 720, 500, incremental=True)
        assert "720 x 500" in await run(link, box, "xrandr | head -1")


@pytest.mark.parametrize("profile", ["strict", "offline"])
async def test_a_box_with_a_read_only_root_has_a_display(link: WorkerLink, profile: str) -> None:
    """All that the display writes is under /tmp."""
    box = await create(link, image=DISPLAY_IMAGE, profile=profile)

    async with DisplayClient(link, box, width=640, height=480) as display:
        screen = await Rfb(display).handshake()
        assert (screen.width, screen.height) == (640, 480)


async def test_a_display_comes_back_after_a_stop(link: WorkerLink, box: str) -> None:
    """A stop ends the viewers with a reason; after a start the display is started anew, whatever lies in /tmp."""
    async with DisplayClient(link, box) as display:
        await Rfb(display).handshake()
        await link.request("DevBox.stop", {"devboxId": box, "timeoutSeconds": 0})
        assert "stopped" in await display.wait_closed()
    with pytest.raises(FailedPrecondition, match="start it first"):
        await DisplayClient(link, box).open()
    await link.request("DevBox.start", {"devboxId": box})

    async with DisplayClient(link, box, width=800, height=600) as display:
        assert (await Rfb(display).handshake()).width == 800


async def test_a_box_without_a_display_says_which_image_has_one(link: WorkerLink) -> None:
    """FAILED_PRECONDITION, and nothing is started."""
    box = await create(link)

    with pytest.raises(FailedPrecondition, match=DISPLAY_IMAGE):
        await DisplayClient(link, box).open()


async def test_an_image_that_promises_too_much_is_told_of(link: WorkerLink, podman: Podman, tmp_path: Path) -> None:
    """The label without the server: the refusal names the program that is missing."""
    image = "localhost/clustercode-test-no-server:latest"
    (tmp_path / "Containerfile").write_text(
        "FROM localhost/clustercode-test:latest\nLABEL io.clustercode.display=true\n"
    )
    podman.run("build", "--pull=false", "--layers=false", "--tag", image, str(tmp_path))
    try:
        box = await create(link, image=image)
        with pytest.raises(FailedPrecondition, match="lacks Xvnc"):
            await DisplayClient(link, box).open()
        await link.request("DevBox.remove", {"devboxId": box, "force": True})
    finally:
        podman.run("rmi", "-f", image)


async def test_another_tenants_display_is_not_found(link: WorkerLink, box: str) -> None:
    """The same answer as for a DevBox that is not there."""
    with pytest.raises(NotFound, match=r"DevBox\.list"):
        await DisplayClient(link, box, tenantId=OTHER_TENANT).open()
    with pytest.raises(NotFound, match=r"DevBox\.list"):
        await DisplayClient(link, "abcdefabcdef").open()
    with pytest.raises(NotFound, match="does not know that tenant"):
        await DisplayClient(link, box, tenantId="stranger").open()


async def test_a_size_that_makes_no_sense_is_refused(link: WorkerLink, box: str) -> None:
    """INVALID_ARGUMENT names the field."""
    for field, value in (("width", 0), ("height", 20_000), ("width", "640")):
        with pytest.raises(InvalidArgument, match=field):
            await DisplayClient(link, box, **{field: value}).open()


async def test_messages_to_a_display_that_is_not_open_are_refused(link: WorkerLink, box: str) -> None:
    """A closed viewer is closed: another close, bytes and acknowledgements find nothing."""
    async with DisplayClient(link, box) as display:
        await link.request("display.close", {"sessionId": display.session_id})
        for kind, more in (("close", {}), ("ack", {"offset": 1}), ("data", {"data": ""})):
            with pytest.raises(NotFound, match=r"display\.open"):
                await link.request(f"display.{kind}", {"sessionId": display.session_id, **more})
    await relays(link, box, 0)


async def test_an_opening_can_be_cancelled(link: WorkerLink, box: str) -> None:
    """The answer is CANCELLED, and no relay is left."""
    request_id = "cancelled-display"

    async def cancel() -> None:
        link.cancel(request_id)

    with pytest.raises(Cancelled):
        await asyncio.gather(link.request("display.open", {"devboxId": box}, request_id=request_id), cancel())
    await relays(link, box, 0)


async def test_nothing_is_sent_beyond_the_window(link: WorkerLink, box: str) -> None:
    """A viewer that acknowledges nothing gets one window; others go on; an acknowledgement lets it go on too."""
    lazy = await DisplayClient(link, box, width=1000, height=800, auto_ack=False).open()
    rfb = Rfb(lazy)
    await rfb.handshake()
    rfb.ask(0, 0, 1000, 800)  # 3.2 MB of pixels
    before = lazy.position
    await lazy.wait_held(DEFAULT_WINDOW_BYTES - before)

    async with DisplayClient(link, box) as other:
        view = Rfb(other)
        await view.handshake()
        await paint(link, box, "#102030")
        assert await view.pixel(5, 5) == 0x102030
    assert lazy.position + lazy.held_bytes == DEFAULT_WINDOW_BYTES
    lazy.ack(DEFAULT_WINDOW_BYTES // 2)
    await lazy.wait_held(DEFAULT_WINDOW_BYTES // 2 + DEFAULT_WINDOW_BYTES - before)
    assert lazy.position + lazy.held_bytes == DEFAULT_WINDOW_BYTES * 3 // 2
    lazy.close()  # while its relay is stuck in the middle of a write
    await relays(link, box, 0)


async def test_a_wrong_acknowledgement_ends_the_viewer(link: WorkerLink, box: str) -> None:
    """Acknowledging bytes that were never sent is told as the reason."""
    async with DisplayClient(link, box) as display:
        display.ack(10_000_000)
        assert "Acknowledged 10000000" in await display.wait_closed()
    await relays(link, box, 0)


async def test_the_servers_end_is_told(link: WorkerLink, box: str) -> None:
    """A VNC server that dies ends its viewers with a reason, and the next viewer starts another."""
    async with DisplayClient(link, box) as display:
        await Rfb(display).handshake()
        await run(link, box, "pkill -9 Xvnc || pkill -9 Xtigervnc")
        assert "closed the connection" in await display.wait_closed()

    async with DisplayClient(link, box, width=500, height=400) as display:
        assert (await Rfb(display).handshake()).width == 500


@pytest.fixture
async def own_box(worker: Worker) -> tuple[WorkerLink, str]:
    """A DevBox with a display on a worker that the test may cut and kill."""
    link = await worker.link()
    return link, await create(link, image=DISPLAY_IMAGE)


async def test_a_cut_ends_viewers_and_nothing_else(worker: Worker, own_box: tuple[WorkerLink, str]) -> None:
    """The viewer ends with `display.closed`, its relay is gone, and a new viewer finds the desktop as it was."""
    link, box = own_box
    told: list[str] = []
    closed = link.displays.closed
    link.displays.closed = lambda session_id, reason: (told.append(reason), closed(session_id, reason))[1]  # type: ignore[method-assign]
    async with DisplayClient(link, box, width=640, height=480) as display:
        await Rfb(display).handshake()
        assert worker.console is not None
        await worker.console.worker_socket.disconnect(link.id)
        await display.wait_closed()
    await link.wait_connected(60)

    await relays(link, box, 0)
    assert any("open the display again" in reason for reason in told)
    async with DisplayClient(link, box) as display:
        assert (await Rfb(display).handshake()).width == 640


async def test_a_killed_gateway_leaves_no_relay(worker: Worker, own_box: tuple[WorkerLink, str]) -> None:
    """Its viewers end with their streams."""
    link, box = own_box
    async with DisplayClient(link, box) as display:
        await Rfb(display).handshake()
        await worker.gateway.kill()
        await display.wait_closed()
    await worker.gateway.start()
    await link.wait_connected(60)

    await relays(link, box, 0)


async def test_a_killed_executor_leaves_no_relay_and_finds_the_display(
    worker: Worker, own_box: tuple[WorkerLink, str]
) -> None:
    """The viewer is told; the next executor reaps the relay and spares the display."""
    link, box = own_box
    async with DisplayClient(link, box, width=640, height=480) as display:
        await Rfb(display).handshake()
        await worker.executor.kill()
        await display.wait_closed()
    await worker.executor.start()

    async def answers() -> bool:
        try:
            await run(link, box, "true")
        except Exception:  # noqa: BLE001 - not yet
            return False
        return True

    await until(answers)
    await relays(link, box, 0)
    async with DisplayClient(link, box) as display:
        assert (await Rfb(display).handshake()).width == 640


async def test_an_orchestrator_of_the_plain_protocol_has_displays(podman: Podman, directory: Path) -> None:
    """Base64 in both directions, pongs in the place of acknowledgements: more than a window of pixels arrives."""
    config = ConsoleConfig(data_dir=directory / "console", port=0, dialect="plain")
    async with serve(config) as console, running_worker(podman, console, directory) as worker:
        link = await worker.link()
        box = await create(link, image=DISPLAY_IMAGE)
        async with DisplayClient(link, box, width=640, height=480) as display:
            rfb = Rfb(display)
            await rfb.handshake()
            await paint(link, box, "#aabbcc")
            assert await rfb.pixel(5, 5) == 0xAABBCC
            rfb.ask(0, 0, 640, 480)
            assert sum(len(rect[5]) for rect in await rfb.update()) == 640 * 480 * 4
