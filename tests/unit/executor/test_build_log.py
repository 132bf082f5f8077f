"""From what an engine says of a build to steps and lines."""

from hypothesis import given
from hypothesis import strategies as st

from executor.build_log import MAX_LINES_CHARACTERS, BuildLines, BuildLog, BuildStep


def test_steps_of_both_engines() -> None:
    """Podman's, Docker's, and Podman's with stages; a pinned image has its name again."""
    log = BuildLog({"abc": "debian:12"})
    assert list(log.feed("STEP 1/4: FROM abc\n")) == [
        BuildStep("Step 1 of 4: FROM debian:12", 0.0),
        BuildLines("STEP 1/4: FROM debian:12"),
    ]
    assert next(log.feed("Step 3/4 : RUN x\n")) == BuildStep("Step 3 of 4: RUN x", 0.5)
    assert next(log.feed("[2/2] STEP 2/4: RUN y\n")) == BuildStep("Step 2 of 4 of stage 2: RUN y", 0.625)


def test_lines_wait_until_they_are_whole() -> None:
    """Pieces of a line are told as one; the last one at the end."""
    log = BuildLog({})
    assert list(log.feed("one\ntw")) == [BuildLines("one")]
    assert list(log.feed("o\n\nthree")) == [BuildLines("two\n")]
    assert list(log.end()) == [BuildLines("three")]
    assert list(log.end()) == []


def test_numbers_that_a_build_prints_itself_break_nothing() -> None:
    """A step's output may look like a step."""
    events = list(BuildLog({}).feed("STEP 9/0: x\nSTEP 99999/1: y\n[9/1] STEP 9/1: z\n"))
    assert all(0 <= (event.fraction or 0) <= 1 for event in events if isinstance(event, BuildStep))


@given(st.lists(st.text(alphabet="ab\n", max_size=30)))
def test_nothing_is_lost_or_doubled(pieces: list[str]) -> None:
    """However it is cut, the lines together are the log."""
    log = BuildLog({})
    events = [event for piece in pieces for event in log.feed(piece)] + list(log.end())
    told = "".join(f"{event.text}\n" for event in events if isinstance(event, BuildLines))
    assert told.rstrip("\n") == "".join(pieces).rstrip("\n")


def test_a_line_without_end_is_cut() -> None:
    """Nothing grows without bound."""
    events = list(BuildLog({}).feed("x" * (3 * MAX_LINES_CHARACTERS)))
    assert [len(event.text) for event in events if isinstance(event, BuildLines)] == [MAX_LINES_CHARACTERS] * 3
