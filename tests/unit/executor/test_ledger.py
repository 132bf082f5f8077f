"""A request id runs at most once per tenant; its answer is kept; its progress waits for listeners."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from executor import ledger as ledger_module
from executor.ledger import Ledger, Work
from protos.errors import Cancelled, Internal, InvalidArgument, NotFound, ResourceExhausted, Unavailable


class Clock:
    """A clock the test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def a_ledger(clock: Clock | None = None) -> AsyncIterator[Ledger]:
    async with asyncio.TaskGroup() as tasks:
        yield Ledger(tasks, clock or Clock())


class Job:
    """Counts its runs and waits to be let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.go = asyncio.Event()

    async def __call__(self, work: Work[str, int]) -> str:
        self.runs += 1
        await self.go.wait()
        for step in range(3):
            await work.progress(step)
        return f"answer {self.runs}"


async def test_a_repeat_joins_the_work_in_flight_and_gets_its_answer_later() -> None:
    """One run, whoever asks and when."""
    job = Job()
    async with a_ledger() as ledger:
        first, second = (ledger.begin("t", "1", "same", job) for _ in range(2))
        job.go.set()

        assert [await first.result(), await second.result()] == ["answer 1", "answer 1"]
        assert await ledger.begin("t", "1", "same", job).result() == "answer 1"
    assert job.runs == 1


async def test_another_tenant_or_id_is_other_work() -> None:
    """Ids are scoped by tenant; without an id there is no promise."""
    job = Job()
    job.go.set()
    async with a_ledger() as ledger:
        for tenant, request_id in (("t", "1"), ("u", "1"), ("t", "2"), ("t", ""), ("t", "")):
            await ledger.begin(tenant, request_id, "same", job).result()
    assert job.runs == 5


async def test_an_id_used_for_something_else_is_refused() -> None:
    """Otherwise the caller would get the answer to another question."""
    job = Job()
    job.go.set()
    async with a_ledger() as ledger:
        await ledger.begin("t", "1", "one", job).result()
        with pytest.raises(InvalidArgument, match="id of its own"):
            ledger.begin("t", "1", "other", job)


async def test_progress_reaches_all_who_listen_and_ends_with_the_work() -> None:
    """In order, to the end, to each."""
    job = Job()
    async with a_ledger() as ledger:
        work = ledger.begin("t", "1", "x", job)

        async def listen() -> list[int]:
            return [step async for step in work.steps()]

        async with asyncio.TaskGroup() as group:
            listeners = [group.create_task(listen()) for _ in range(2)]
            await asyncio.sleep(0)
            job.go.set()
    assert [task.result() for task in listeners] == [[0, 1, 2], [0, 1, 2]]


async def test_a_listener_that_leaves_holds_nothing_up() -> None:
    """The work ends though one who listened never took a step."""
    job = Job()
    async with a_ledger() as ledger:
        work = ledger.begin("t", "1", "x", job)
        steps = work.steps()
        job.go.set()
        assert await anext(steps) == 0
        await asyncio.sleep(0)
        await steps.aclose()

        assert await work.result() == "answer 1"


async def test_cancelled_work_answers_cancelled() -> None:
    """And what is not under way cannot be cancelled."""
    job = Job()
    async with a_ledger() as ledger:
        work = ledger.begin("t", "1", "x", job)
        await asyncio.sleep(0)

        assert ledger.cancel("t", "1")
        with pytest.raises(Cancelled):
            await work.result()
        assert not ledger.cancel("t", "1")
        assert not ledger.cancel("u", "1")


async def test_work_that_a_stop_cuts_short_answers_that_it_may_be_sent_again() -> None:
    async with a_ledger() as ledger:
        work = ledger.begin("t", "1", "build", Job())
        await asyncio.sleep(0)

        assert not await ledger.drain(0)

        with pytest.raises(Unavailable, match="send it again"):
            await work.result()


async def test_how_it_failed_is_the_answer_too() -> None:
    """A refusal is kept as it is; a defect of ours says no more than that."""

    async def refuses(_: Work[str, int]) -> str:
        raise NotFound("gone")

    async def breaks(_: Work[str, int]) -> str:
        raise ZeroDivisionError("secret detail")

    async with a_ledger() as ledger:
        with pytest.raises(NotFound, match="gone"):
            await ledger.begin("t", "1", "x", refuses).result()
        with pytest.raises(Internal) as error:
            await ledger.begin("t", "2", "x", breaks).result()
    assert "secret" not in str(error.value)


async def test_an_answer_is_kept_for_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the id may be used again; and there is a bound on how many are kept."""
    clock = Clock()
    job = Job()
    job.go.set()
    async with a_ledger(clock) as ledger:
        await ledger.begin("t", "1", "x", job).result()
        clock.now = ledger_module.KEEP_S + 1
        assert await ledger.begin("t", "1", "x", job).result() == "answer 2"

        monkeypatch.setattr(ledger_module, "MAX_ENTRIES", 3)
        for request_id in ("2", "3", "4", "5"):
            await ledger.begin("t", request_id, "x", job).result()
        assert len(ledger._entries) == 3


async def test_a_cancel_before_the_work_began_counts() -> None:
    """It then never begins."""
    job = Job()
    async with a_ledger() as ledger:
        work = ledger.begin("t", "1", "x", job)
        assert ledger.cancel("t", "1")
        with pytest.raises(Cancelled):
            await work.result()
    assert job.runs == 0


async def test_heavy_answers_are_let_go_but_never_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first; a repeat is told that it was done."""
    monkeypatch.setattr(ledger_module, "MAX_KEPT_BYTES", 250)
    runs: list[str] = []

    async def heavy(work: Work[str, int]) -> str:
        runs.append("x")
        work.weight_bytes = 100
        return "answer"

    async with a_ledger() as ledger:
        for request_id in ("1", "2", "3"):
            await ledger.begin("t", request_id, "x", heavy).result()
            await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="no longer kept"):
            await ledger.begin("t", "1", "x", heavy).result()
        assert await ledger.begin("t", "3", "x", heavy).result() == "answer"
    assert len(runs) == 3


async def test_too_much_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in flight is never forgotten to make room."""
    monkeypatch.setattr(ledger_module, "MAX_RUNNING", 2)
    job = Job()
    async with a_ledger() as ledger:
        for request_id in ("1", "2"):
            ledger.begin("t", request_id, "x", job)
        with pytest.raises(ResourceExhausted):
            ledger.begin("t", "3", "x", job)
        job.go.set()
