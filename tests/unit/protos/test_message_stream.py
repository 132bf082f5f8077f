"""Message streams over real socket pairs, on both event loops that carry them: framing, bounds, and both ends' ends."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from protos import executor_pb2 as pb
from protos import message_stream
from protos.errors import InvalidArgument, ResourceExhausted
from protos.message_stream import MAX_MESSAGE_BYTES, Budget, MessageStream

KIB = 1024
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
Run = Callable[[Coroutine[Any, Any, None]], None]
Stream = MessageStream[pb.AttachTerminalRequest, pb.AttachTerminalRequest]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a case to its end on a loop of its own."""

    def on_loop(case: Coroutine[Any, Any, None]) -> None:
        loop = LOOPS[request.param]()
        try:
            loop.run_until_complete(asyncio.wait_for(case, 60))
        finally:
            loop.close()

    return on_loop


class Peer:
    """The other end, as bytes."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    def send_what_fits(self, data: bytes) -> int:
        """Return how much the socket takes now."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def receive(self, count: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        data = b""
        while len(data) < count:
            try:
                piece = await asyncio.get_running_loop().sock_recv(self._socket, count - len(data))
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
        return data

    def hang_up(self) -> None:
        self._socket.close()


@asynccontextmanager
async def connected(budget: Budget | None = None) -> AsyncIterator[tuple[Stream, Peer]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    stream: Stream = MessageStream(pb.AttachTerminalRequest, budget)
    await asyncio.get_running_loop().create_unix_connection(lambda: stream, sock=ours)
    try:
        yield stream, Peer(theirs)
    finally:
        stream.abort()
        await stream.finish()
        theirs.close()


def typed(data: bytes) -> pb.AttachTerminalRequest:
    return pb.AttachTerminalRequest(input=pb.TerminalInput(data=data))


def framed(*messages: pb.AttachTerminalRequest) -> bytes:
    bodies = [message.SerializeToString() for message in messages]
    return b"".join(struct.pack("!I", len(body)) + body for body in bodies)


async def turn() -> None:
    """Let the loop hand over what has arrived."""
    for _ in range(5):
        await asyncio.sleep(0)


async def fill(peer: Peer, data: bytes) -> int:
    """Send until nobody takes more; returns how much was taken."""
    taken = 0
    while True:
        before = taken
        for _ in range(20):
            taken += peer.send_what_fits(data[taken : taken + 64 * KIB])
            await turn()
        if taken == before:
            return taken


def test_messages_come_out_whole_wherever_they_are_cut(run: Run) -> None:
    """At each byte, and at random places; longer ones than a read too."""
    small = [typed(b""), typed(b"a"), pb.AttachTerminalRequest(), typed(b"\0\0\0\0"), typed(b"x" * 300)]
    large = [typed(random.Random(1).randbytes(700 * KIB)), typed(b"end")]  # noqa: S311 - to be repeated

    async def case() -> None:
        async with connected() as (stream, peer):
            data = framed(*small)
            for end in range(1, len(data)):
                await peer.send(data[:end])
                await turn()
                await peer.send(data[end:])
                assert [await stream.read() for _ in small] == small
            for byte in data:
                await peer.send(bytes([byte]))
                await turn()
            assert [await stream.read() for _ in small] == small
            async with asyncio.TaskGroup() as group:
                group.create_task(peer.send(framed(*large, *large)))
                assert [await stream.read() for _ in (*large, *large)] == [*large, *large]

    run(case())


def test_many_messages_in_one_read(run: Run) -> None:
    """And a part of one behind them, which waits for its rest."""
    sent = [typed(b"%d" % number) for number in range(300)]

    async def case() -> None:
        async with connected() as (stream, peer):
            data = framed(*sent)
            await peer.send(data[:-1])
            assert [await stream.read() for _ in sent[:-1]] == sent[:-1]
            await peer.send(data[-1:])
            assert await stream.read() == sent[-1]

    run(case())


@pytest.mark.parametrize("size", [0, 1, 1000, 100 * KIB])
def test_what_waits_is_bounded(run: Run, size: int) -> None:
    """While nobody reads, a peer that sends is left waiting, also with messages of nothing; then all of it comes."""
    message = typed(b"x" * size) if size else pb.AttachTerminalRequest()
    count = 4_000_000 // len(framed(message))

    async def case() -> None:
        async with connected() as (stream, peer):
            data = framed(message) * count
            taken = await fill(peer, data)
            assert taken < len(data)
            waits = len(stream._unread) * message_stream._OVERHEAD_BYTES
            assert waits + stream._unread_bytes < 1024 * KIB
            assert len(stream._partial) < 512 * KIB
            async with asyncio.TaskGroup() as group:
                group.create_task(peer.send(data[taken:]))
                for _ in range(count):
                    assert await stream.read() == message
            assert await fill(peer, framed(message)) == len(framed(message))  # it reads on
            assert await stream.read() == message

    run(case())


def test_without_pauses_only_what_is_waited_for_may_be_long(run: Run) -> None:
    """The first message, however long it is, and nothing behind it; an end is seen."""
    longest = typed(b"x" * 1000 * KIB)

    async def case() -> None:
        for behind in (b"", framed(longest)[: 300 * KIB], framed(typed(b"x" * 300 * KIB)), bytes(4) * 100_000):
            async with connected() as (stream, peer):
                stream.pauses = False
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(stream.read())
                    await turn()
                    assert await fill(peer, framed(longest)) == len(framed(longest))
                assert reading.result() == longest
                await fill(peer, behind)
                if len(behind) > 300 * KIB:
                    with pytest.raises(ResourceExhausted, match="wait for `opened`"):
                        await stream.ended()
                else:
                    peer.hang_up()
                    await stream.ended()

    run(case())


def test_others_have_their_turn_while_many_are_handed_over(run: Run) -> None:
    """A read of tens of thousands of messages of nothing does not stop the loop; they come in order, and all."""
    sent = [typed(b"%d" % number) if number % 1000 == 0 else pb.AttachTerminalRequest() for number in range(40_000)]

    async def case() -> None:
        async with connected() as (stream, peer):
            found: list[pb.AttachTerminalRequest] = []
            stream.deliver(found.append)
            most = 0
            async with asyncio.TaskGroup() as group:
                group.create_task(peer.send(framed(*sent)))
                while len(found) < len(sent):
                    before = len(found)
                    await asyncio.sleep(0)
                    most = max(most, len(found) - before)
            assert found == sent
            assert most <= 2 * message_stream._TURN_MESSAGES
            await peer.send(framed(typed(b"more")))
            while len(found) == len(sent):
                await asyncio.sleep(0)

    run(case())


def test_streams_with_one_budget_hold_no_more_than_that(run: Run) -> None:
    """Who would hold more is broken, and then holds nothing; ordinary messages are taken all the same."""
    budget = Budget(512 * KIB)
    long, short = framed(typed(b"x" * 400 * KIB)), framed(typed(b"x" * 50 * KIB))

    async def case() -> None:
        async with connected(budget) as (first, one), connected(budget) as (second, two):
            assert await fill(one, long[:-1]) == len(long) - 1
            assert await fill(two, long[:-1]) == len(long) - 1
            with pytest.raises(ResourceExhausted, match="send short ones, or later"):
                await second.read()
            with pytest.raises(ResourceExhausted):
                await second.ended()
            assert not second._partial
            async with connected(budget) as (third, three):
                assert await fill(three, short[:-1]) == len(short) - 1
                await three.send(short[-1:])
                assert await third.read() == typed(b"x" * 50 * KIB)
            await one.send(long[-1:])
            assert await first.read() == typed(b"x" * 400 * KIB)
            assert budget.left == 512 * KIB

    run(case())


@pytest.mark.parametrize("by", ["read", "deliver", "hang up", "finish"])
def test_what_is_no_longer_held_goes_back_to_the_budget(run: Run, by: str) -> None:
    """Whatever becomes of it: it is read, handed over in turns, or let go of."""
    budget = Budget(1024 * KIB)
    count = 300 if by == "read" else 40_000
    message = typed(b"x" * KIB) if by == "read" else pb.AttachTerminalRequest()

    async def case() -> None:
        async with connected(budget) as (stream, peer):
            data = framed(message) * count + framed(typed(b"x" * 300 * KIB))[:-1]
            taken = await fill(peer, data)
            assert budget.left < 1024 * KIB
            match by:
                case "hang up":
                    peer.hang_up()
                    stream.abort()
                    await stream.ended()
                case "finish":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(stream.finish())
                        await peer.send(data[taken:])
                        peer.hang_up()
                case _:
                    found: list[pb.AttachTerminalRequest] = []
                    if by == "deliver":
                        stream.deliver(found.append)
                    async with asyncio.TaskGroup() as group:
                        group.create_task(peer.send(data[taken:]))
                        while len(found) < count:
                            if by == "read":
                                found.append((await stream.read()) or message)
                            await asyncio.sleep(0)
                    while len(stream._partial) < 300 * KIB:
                        await asyncio.sleep(0)
                    assert 700 * KIB < budget.left < 800 * KIB
                    await peer.send(b"x")
                    if by == "read":
                        assert await stream.read() is not None
                    while stream._partial:
                        await asyncio.sleep(0)
            assert budget.left == 1024 * KIB

    run(case())


@pytest.mark.parametrize("length", [MAX_MESSAGE_BYTES + 1, 2**31, 2**32 - 1])
def test_a_message_over_the_limit_is_refused(run: Run, length: int) -> None:
    """As soon as its length is known, after those before it; one at the limit is taken."""
    longest = typed(b"x" * (MAX_MESSAGE_BYTES - 10))
    assert MAX_MESSAGE_BYTES - 4 <= len(longest.SerializeToString()) <= MAX_MESSAGE_BYTES

    async def case() -> None:
        async with connected() as (stream, peer):
            async with asyncio.TaskGroup() as group:
                group.create_task(peer.send(framed(longest, typed(b"a")) + struct.pack("!I", length)))
                assert await stream.read() == longest
                assert await stream.read() == typed(b"a")
            for _ in range(2):
                with pytest.raises(ResourceExhausted, match=f"at most {MAX_MESSAGE_BYTES} bytes; send it in pieces"):
                    await stream.read()
            assert not stream._partial

    run(case())


def test_what_is_no_message_is_refused(run: Run) -> None:
    """After those before it; nothing that follows counts or is kept, and its sender does not have to wait."""

    async def case() -> None:
        async with connected() as (stream, peer):
            await peer.send(framed(typed(b"a")) + struct.pack("!I", 3) + b"\xff\xff\xff" + framed(typed(b"b")))
            assert await stream.read() == typed(b"a")
            with pytest.raises(InvalidArgument, match="no message of the contract"):
                await stream.read()
            await peer.send(framed(typed(b"x" * KIB)) * 4 * KIB)
            await turn()
            assert not stream._unread
            assert not stream._partial

    run(case())


def test_the_end_comes_after_what_was_sent(run: Run) -> None:
    """A message that is cut off is none; a stream that has ended takes no more and says nothing of it."""

    async def case() -> None:
        async with connected() as (stream, peer):
            await peer.send(framed(typed(b"a"), typed(b"b")) + framed(typed(b"c"))[:-1])
            peer.hang_up()
            await stream.ended()
            assert [await stream.read() for _ in range(4)] == [typed(b"a"), typed(b"b"), None, None]
            assert not stream.is_writable
            stream.write(typed(b"x"))
            await stream.send(typed(b"x"))
            await stream.finish()
            stream.close()
            stream.close()
            stream.abort()

    run(case())


def test_a_reader_that_waits_learns_of_the_end(run: Run) -> None:
    async def case() -> None:
        async with connected() as (stream, peer):
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(stream.read())
                await turn()
                assert not reading.done()
                peer.hang_up()
            assert reading.result() is None

    run(case())


def test_what_waited_when_the_connection_broke_is_read(run: Run) -> None:
    """Also while reading is paused and the end is only noticed because something is written."""
    message = typed(b"x" * KIB)

    async def case() -> None:
        async with connected() as (stream, peer):
            taken = await fill(peer, framed(message) * 4 * KIB)
            peer.hang_up()
            while not stream._lost:
                stream.write(typed(b"y"))
                await turn()
            read = 0
            while (found := await stream.read()) is not None:
                assert found == message
                read += 1
            assert 100 < read <= taken // len(framed(message))

    run(case())


def test_a_peer_that_does_not_read_is_noticed(run: Run) -> None:
    """`is_writable` says so, `send` waits, and both go on once it reads; nothing is lost."""
    message = typed(b"x" * 64 * KIB)

    async def case() -> None:
        async with connected() as (stream, peer):
            room = asyncio.Event()
            stream.on_writable = room.set
            written = 0
            while stream.is_writable:
                stream.write(message)
                written += 1
                await turn()
            assert written < 100
            assert not room.is_set()
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(stream.send(typed(b"last")))
                await turn()
                assert not sending.done()
                expected = framed(message) * written + framed(typed(b"last"))
                assert await peer.receive(len(expected)) == expected
            await room.wait()
            assert stream.is_writable

    run(case())


@pytest.mark.parametrize("by", ["peer", "close", "abort"])
def test_a_sender_that_waits_learns_of_the_end(run: Run, by: str) -> None:
    """Whoever ends it."""

    async def case() -> None:
        async with connected() as (stream, peer):
            while stream.is_writable:
                stream.write(typed(b"x" * 64 * KIB))
                await turn()
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(stream.send(typed(b"last")))
                await turn()
                assert not sending.done()
                if by == "abort":
                    stream.abort()
                else:
                    if by == "close":
                        stream.close()
                    peer.hang_up()

    run(case())


def test_a_peer_that_writes_all_the_while_reads_the_last_it_was_told(run: Run) -> None:
    """`finish` leaves the end to the peer, and throws away what comes until then, also where reading was paused."""
    noise = framed(typed(b"x" * KIB)) * 2 * KIB

    async def case() -> None:
        async with connected() as (stream, peer):
            taken = await fill(peer, noise)
            stream.write(typed(b"last"))
            async with asyncio.TaskGroup() as group:
                finishing = group.create_task(stream.finish())
                await peer.send(noise[taken:])
                await peer.send(noise)
                last = framed(typed(b"last"))
                assert await peer.receive(len(last) + 1) == last
                assert not finishing.done()
                peer.hang_up()

    run(case())


def test_both_ends_are_streams(run: Run, tmp_path: Path) -> None:
    """Over a listening socket, as between the processes: connected is told before anything is read."""

    async def case() -> None:
        accepted: asyncio.Queue[Stream] = asyncio.Queue()

        def accept() -> Stream:
            stream: Stream = MessageStream(pb.AttachTerminalRequest)

            def greet() -> None:
                stream.write(typed(b"welcome"))
                accepted.put_nowait(stream)

            stream.on_connected = greet
            return stream

        loop = asyncio.get_running_loop()
        path = str(tmp_path / "socket")
        server = await loop.create_unix_server(accept, path)
        ours: Stream = MessageStream(pb.AttachTerminalRequest)
        assert not ours.is_writable
        await loop.create_unix_connection(lambda: ours, path)
        assert await ours.read() == typed(b"welcome")
        theirs = await accepted.get()
        for data in (b"", b"x" * 1024 * KIB, b"y"):
            async with asyncio.TaskGroup() as group:
                group.create_task(ours.send(typed(data)))
                assert await theirs.read() == typed(data)
        async with asyncio.TaskGroup() as group:
            group.create_task(theirs.finish())
            assert await ours.read() is None
        await ours.ended()
        server.close()
        await server.wait_closed()

    run(case())
