"""Answers: every value of the contract has its name on the wire, and an exec's answer fits a message."""

import base64
from typing import get_args

import pytest

from gateway import answers
from protos import executor_pb2 as pb
from protos import limits, messages, wire


def test_every_profile_has_its_name() -> None:
    """Each profile but the unspecified one goes there and back."""
    assert set(answers.PROFILES) == set(get_args(wire.Profile))
    names = {answers.profile_name(getattr(pb, name)) for name, _ in pb.Profile.items()}

    assert names == {*get_args(wire.Profile), None}


@pytest.mark.parametrize("state", get_args(wire.State))
def test_every_state_has_its_name(state: str) -> None:
    """The contract's states are the wire's."""
    box = pb.DevBox(id="b", name="n", tenant_id="t", state=f"DEV_BOX_STATE_{state.upper()}", engine="podman")

    assert answers.devbox(box).state == state


def test_absent_fields_stay_absent() -> None:
    """A DevBox that never started has neither start nor exit code on the wire."""
    box = answers.devbox(pb.DevBox(id="b", name="n", tenant_id="t", engine="docker"))
    text = messages.answer_json("1", wire.DevBoxAnswer(devbox=box))

    assert b"startedAt" not in text
    assert b"exitCode" not in text
    assert b"missingLimits" not in text


@pytest.mark.parametrize("byte", [b"a", b"\x01", b"\xff", "é".encode()])
@pytest.mark.parametrize("as_base64", [False, True])
def test_an_exec_answer_fits_a_message_and_counts_what_is_cut(byte: bytes, *, as_base64: bool) -> None:
    """Whatever the bytes become in JSON, the answer fits, and sent plus cut is what there was."""
    full = byte * (512 * 1024 // len(byte))
    answer = answers.exec_answer(pb.ExecResult(stdout=full, stderr=full, stdout_cut=10), as_base64=as_base64)

    assert len(messages.answer_json("x" * 128, answer)) <= limits.MAX_MESSAGE_BYTES
    assert answer.truncated is not False
    if as_base64:
        assert len(base64.b64decode(answer.stdout)) + answer.truncated.stdout == len(full) + 10
        assert len(base64.b64decode(answer.stderr)) + answer.truncated.stderr == len(full)


def test_small_output_is_whole() -> None:
    """Bytes that are not UTF-8 are replaced in text and exact in base64."""
    result = pb.ExecResult(stdout=b"ok\xff", exit_code=3, duration_ms=5)

    assert answers.exec_answer(result, as_base64=False).stdout == "ok\N{REPLACEMENT CHARACTER}"
    assert base64.b64decode(answers.exec_answer(result, as_base64=True).stdout) == b"ok\xff"
    assert answers.exec_answer(result, as_base64=False).truncated is False


def test_progress_of_output_is_base64_once() -> None:
    """An orchestrator that decodes it gets the bytes of the command."""
    frame = messages.to_json("progress", answers.exec_progress(pb.ExecChunk(stderr=True, data=b"\x00\xff")), "1")
    progress = messages.parse_from_worker(frame)

    assert isinstance(progress, messages.Progress)
    assert progress.payload == {"stream": "stderr", "data": base64.b64encode(b"\x00\xff").decode()}
