"""What a box says of its background commands is bounded and checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.background import _listed, _parsed, shortened
from executor.background_start import Launch
from executor.oom_kills import count


def test_a_state_is_read() -> None:
    """State, code, offsets, user, then the bytes, whatever they are."""
    state = _parsed(b"ended 137 5 90 7 broken dev:users\n\x00\nend", 10)
    assert state is not None
    assert (state.running, state.exit_code, state.oldest, state.end, state.offset) == (False, 137, 5, 90, 7)
    assert (state.broken, state.user, state.data) == (True, "dev:users", b"\x00\nend")


@pytest.mark.parametrize(
    "output",
    [b"", b"\n", b"running - 0 0\n", b"maybe - 0 0 0 - \n", b"ended 1e9 0 0 0 - \n", b"ended - 0 -1 0 - \n",
     b"ended - 0 9999999999999999999 0 - \n", b"ended - 0 9 0 - \nmore than asked for"],
)  # fmt: skip
def test_what_the_script_never_prints_is_no_state(output: bytes) -> None:
    """Nonsense is refused, not guessed at."""
    assert _parsed(output, 4) is None


def test_a_user_that_is_none_is_not_taken() -> None:
    """It would reach the engine."""
    state = _parsed(b"running - 0 0 0 - root; rm -rf /\n", 0)
    assert state is not None
    assert state.user == ""


@given(st.binary(max_size=300))
def test_anything_else_is_read_without_harm(output: bytes) -> None:
    """A box may print what it likes."""
    _parsed(output, 100)
    assert _listed(output) == []


def test_a_list_leaves_out_what_is_none() -> None:
    """Lines with other ids or sizes are dropped; control characters do not pass."""
    good = b"b-" + b"a" * 24
    lines = [
        good + b"\trunning\t-\t12\t2026-01-01T00:00:00Z\tmake \x1b[31mall",
        b"b-../../etc\trunning\t-\t12\t\tx",
        good + b"\tended\t1\tmany\t\tx",
        good + b"\tended\tx\t1\tnever\tlast\tone",
    ]
    first, second = _listed(b"\n".join(lines))
    assert {first.command, second.command} == {"make [31mall", "lastone"}
    assert {first.started_at, second.started_at} == {"", "2026-01-01T00:00:00Z"}


def test_a_command_is_shown_shortened() -> None:
    """A shell's as it was typed, on one line; long ones end with an ellipsis."""
    assert shortened(("/bin/sh", "-c", "make\nall")) == "make all"
    assert shortened(("ls", "-l")) == "ls -l"
    assert len(shortened(("x" * 1000,))) == 200


@pytest.mark.parametrize(("log_bytes", "piece"), [(2**20, 2**16), (2**26, 2**22), (2**30, 2**22), (2**24, 2**20)])
def test_the_log_goes_in_pieces(log_bytes: int, piece: int) -> None:
    """A sixteenth, in whole blocks, at most 4 MiB."""
    asked = Launch("b-1", ("true",), "", "", {}, log_bytes, ())
    assert asked.piece_bytes == piece


def test_kills_for_want_of_memory_are_counted_in_both_kinds_of_cgroups(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Version 1 and 2; None where there is nothing to read, and never a path that leads out."""
    root = tmp_path_factory.mktemp("root")
    cases = {
        1: (
            "9:memory:/pod/one\n0::/\n",
            "sys/fs/cgroup/memory/pod/one/memory.oom_control",
            "under_oom 0\noom_kill 3\n",
        ),
        2: ("0::/pod/two\n", "sys/fs/cgroup/pod/two/memory.events", "oom 4\noom_kill 5\n"),
        3: ("0::/../three\n", "sys/fs/three/memory.events", "oom_kill 5\n"),
    }
    for pid, (groups, path, content) in cases.items():
        (root / "proc" / str(pid)).mkdir(parents=True)
        (root / "proc" / str(pid) / "cgroup").write_text(groups)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    assert [count(pid, root) for pid in (0, 1, 2, 3, 4)] == [None, 3, 5, None, None]
