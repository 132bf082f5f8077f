"""Persistent shells: in tmux in the box, so that they outlive the executor, and are found again by name."""

import asyncio
import re

import pytest

from console.terminal_client import Terminal
from console.workers import WorkerLink
from protos.errors import FailedPrecondition, InvalidArgument
from tests.integration.conftest import DEVBOX_IMAGE, Podman, Worker, answers, create, eventually


async def tmux(link: WorkerLink, box: str) -> str:
    """Which tmux servers run in the box."""
    answer = await link.request("DevBox.exec", {"devboxId": box, "command": "pgrep -af '^tmux.*new-session' || true"})
    return "\n".join(line for line in str(answer["stdout"]).splitlines() if "pgrep" not in line)


async def test_a_persistent_shell_outlives_the_executor(worker: Worker) -> None:
    """Killed or stopped, the next executor finds the shell by its name, with its variables and what runs in it."""
    link = await worker.link()
    box = await create(link, image=DEVBOX_IMAGE)
    terminal = await Terminal(link, box, persistent="main").open()
    await terminal.write(b"kept=4; sleep 873 & echo is-$((kept + 3))\n")
    await terminal.read_until(b"is-7")
    for end in (worker.executor.kill, worker.executor.stop):
        await end()
        await worker.executor.start()
        await eventually(lambda: answers(link), 60)
        terminal = await Terminal(link, box, persistent="main").open()
        assert terminal.answer is not None
        assert not terminal.answer.resumed
        await terminal.read_until(b"is-7")  # tmux paints what was on the screen
        # That one alone: the executor's search for leftovers sleeps too.
        await terminal.write(b"echo again-$((kept + 38)) $(pgrep -fc 'sleep 87[3]')\n")
        await terminal.read_until(b"again-42 1")

    await terminal.close()

    async def gone() -> bool:  # the server goes first, its shell hears of it
        shells = await link.request("DevBox.exec", {"devboxId": box, "command": "pgrep -c bash || true"})
        return shells["stdout"].strip() == "0" and not await tmux(link, box)

    await eventually(gone)


async def test_what_a_persistent_shell_wrote_meanwhile_is_there(worker: Worker, podman: Podman) -> None:
    """Lines that left the screen, also while no executor ran, come before the screen: in order, each once."""
    link = await worker.link()
    box = await create(link, image=DEVBOX_IMAGE)
    write = "for i in $(seq {} {}); do printf '\\033[1mline-%d\\033[m-\\n' $i; done"
    script = f"{write.format(1, 30)}; until [ -e go ]; do sleep 0.05; done; {write.format(31, 3000)}; exec cat"
    first = await Terminal(link, box, persistent="main", command=script, workdir="/workspace").open()
    await first.read_until(b"line-30")

    second = await Terminal(link, box, persistent="main").open()
    history, screen = parted(await second.read_until(b"line-30"))
    assert numbers(history) == [*range(1, 8)]
    assert list(dict.fromkeys(numbers(screen))) == [*range(8, 31)]
    assert (
        history.partition(b"line-7")[2].count(b"\n") == 1 + 23
    )  # all of it leaves the screen, and no blank line with it

    await worker.executor.kill()
    podman.run("exec", f"clustercode-{box}", "touch", "/workspace/go")
    shown = ("exec", f"clustercode-{box}", "tmux", "-L", "clustercode-main", "capture-pane", "-pt", "main")
    await eventually(lambda: "line-3000" in podman.run(*shown))
    await worker.executor.start()
    await eventually(lambda: answers(link), 60)
    third = await Terminal(link, box, persistent="main").open()
    history, screen = parted(await third.read_until(b"line-3000"))
    assert numbers(history) == [*range(1, 2978)]
    assert list(dict.fromkeys(numbers(screen))) == [*range(2978, 3001)]
    await third.close()


def parted(output: bytes) -> tuple[bytes, bytes]:
    """What came before tmux cleared the screen, and after."""
    history, _, screen = output.partition(b"\x1b[H\x1b[2J")
    return history, screen


def numbers(output: bytes) -> list[int]:
    """The numbers of the lines that were shown, in order."""
    return [int(number) for number in re.findall(rb"line-(\d+)", output)]


async def test_what_scrolls_in_a_persistent_shell_reaches_the_viewers_scrollback(link: WorkerLink) -> None:
    """Many lines at once come as lines: a terminal forgets what is scrolled by CSI S, as tmux does if it may."""
    box = await create(link, image=DEVBOX_IMAGE)
    script = "seq 1000; echo full; read -r _; seq -f line-%g 1001 1010; cat"
    async with Terminal(link, box, persistent="main", command=script) as terminal:
        await terminal.read_until(b"full")
        await terminal.write(b"\n")
        assert not re.search(rb"\x1b\[\d*S", await terminal.read_until(b"line-1010"))


async def test_a_persistent_shell_is_found_by_name_and_moves_to_whoever_opens_it(link: WorkerLink) -> None:
    """Another name is another shell; the same name in a second terminal takes it from the first; leaving keeps it."""
    box = await create(link, image=DEVBOX_IMAGE)
    one = await Terminal(link, box, persistent="one").open()
    other = await Terminal(link, box, persistent="oth.er").open()
    for terminal, number in ((one, b"1"), (other, b"2")):
        await terminal.write(b"x=" + number + b"; echo mine-$((x * 11))\n")
        await terminal.read_until(b"mine-" + 2 * number)

    second = await Terminal(link, box, persistent="one").open()

    await second.read_until(b"mine-11")
    assert await one.wait_exit() == 0
    await second.write(b"echo still-$((x * 111))\n")
    await second.read_until(b"still-111")
    await second.write(b"exit\n")
    assert await second.wait_exit() == 0
    await other.close()


async def test_a_persistent_shell_behaves_like_a_plain_one(link: WorkerLink) -> None:
    """No status line, all keys go to the program, the alternate screen stays the viewer's own, resizes arrive."""
    box = await create(link, image=DEVBOX_IMAGE)
    async with Terminal(link, box, persistent="plain", cols=80, rows=24, env={"A": "b"}, workdir="/tmp") as terminal:
        await terminal.write(b"echo size-$(stty size | tr ' ' x) $A $PWD $COLORTERM\n")
        output = await terminal.read_until(b"size-24x80 b /tmp truecolor")
        assert b"\x1b[?1049h" not in output
        assert not re.search(rb"\[main\] *0:", output)
        terminal.resize(100, 30)
        async with asyncio.timeout(60):
            while True:
                await terminal.write(b"echo now-$(stty size | tr ' ' x)-\n")
                if b"now-30x100-" in await terminal.read_until(b"-\r\n"):
                    break
        await terminal.write(b"sh -c 'trap \"echo int-$((40 + 2))\" INT; cat -A; true'\n\x02c\x02%\n")
        await terminal.read_until(b"^Bc^B%$")  # cat's own, not the terminal's echo: only then is a Ctrl-C for cat
        await terminal.write(b"\x03")
        await terminal.read_until(b"int-42")  # until then the terminal throws away what was typed
        await terminal.write(b"echo 'a;b' \\; done-$((1 + 1))\n")
        await terminal.read_until(b"done-2")


async def test_a_program_of_its_own_gets_its_arguments_as_they_are(link: WorkerLink) -> None:
    """Semicolons, spaces and quotes in arguments mean nothing to tmux; the end of the program ends the session."""
    box = await create(link, image=DEVBOX_IMAGE)
    terminal = await Terminal(
        link, box, persistent="p", command=["printf", "<%s>\\n", "a b", "c;", ";", '"d"', "#{pid}", "end"]
    ).open()
    output = await terminal.read_until(b"<end>")
    assert b'<a b>\r\n<c;>\r\n<;>\r\n<"d">\r\n<#{pid}>\r\n<end>' in output.replace(b"\x1b[K", b"")
    assert await terminal.wait_exit() == 0


async def test_a_box_without_tmux_says_so(link: WorkerLink) -> None:
    """BusyBox has none: the refusal names what to do, and nothing was opened; a wrong name is refused too."""
    box = await create(link)
    with pytest.raises(FailedPrecondition, match="no tmux"):
        await Terminal(link, box, persistent="main").open()
    with pytest.raises(InvalidArgument, match="persistent"):
        await Terminal(link, box, persistent="a b").open()
