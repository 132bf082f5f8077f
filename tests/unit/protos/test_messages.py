"""Reading the WebSocket protocol: what is right is understood, what is wrong is explained and never breaks."""

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import errors, limits, messages, wire


def refused(text: str | bytes) -> messages.BadMessage:
    with pytest.raises(messages.BadMessage) as error:
        messages.parse_from_orchestrator(text)
    return error.value


def message(kind: str, payload: object, **more: object) -> str:
    return json.dumps({"type": kind, "payload": payload, **more})


def test_a_command_is_read_with_unknown_fields_ignored() -> None:
    """Fields are camelCase; what a newer orchestrator adds does no harm."""
    read = messages.parse_from_orchestrator(
        message("terminal.open", {"tenantId": "t", "devboxId": "d", "cols": 80, "rows": 24, "new": 1}, id="7", x=[])
    )

    assert (read.type, read.id) == ("terminal.open", "7")
    assert isinstance(read.payload, wire.TerminalOpen)
    assert (read.payload.devbox_id, read.payload.cols, read.payload.from_offset) == ("d", 80, None)


@pytest.mark.parametrize(
    ("text", "code", "says", "request_id"),
    [
        ("{", "INVALID_ARGUMENT", "not a JSON message", None),
        ("[]", "INVALID_ARGUMENT", "JSON object", None),
        ("null", "INVALID_ARGUMENT", "JSON object", None),
        (message("DevBox.fly", {}, id="1"), "UNIMPLEMENTED", "DevBox.fly", "1"),
        (message("DevBox.list", {}, id="1"), "INVALID_ARGUMENT", "payload.tenantId: Field required", "1"),
        (json.dumps({"type": "DevBox.list", "id": "1"}), "INVALID_ARGUMENT", "payload: Field required", "1"),
        (json.dumps({"id": "1"}), "INVALID_ARGUMENT", "type", "1"),
        (message("terminal.resize", {"sessionId": "s", "cols": 0, "rows": 1}), "INVALID_ARGUMENT", "cols", None),
        (message("terminal.resize", {"sessionId": "s", "cols": 100000, "rows": 1}), "INVALID_ARGUMENT", "2000", None),
        (message("terminal.resize", {"sessionId": "s", "cols": "80", "rows": 1}), "INVALID_ARGUMENT", "integer", None),
        (message("terminal.input", {"sessionId": "s", "data": "@@@@"}), "INVALID_ARGUMENT", "base64", None),
        (message("DevBox.start", {"tenantId": "t", "devboxId": "../x"}, id="1"), "INVALID_ARGUMENT", "devboxId", "1"),
        (message("DevBox.list", {"tenantId": "t"}, id="no spaces"), "INVALID_ARGUMENT", "id", None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_explained(text: str, code: str, says: str, request_id: str | None) -> None:
    """With a stable code, the field's path, and the id where it could be read."""
    error = refused(text)

    assert error.refusal.code == code
    assert says in error.refusal.message
    assert error.request_id == request_id


def test_size_and_depth_are_bounded() -> None:
    """Before anything is parsed."""
    assert refused(b" " * (limits.MAX_MESSAGE_BYTES + 1)).refusal.code == "RESOURCE_EXHAUSTED"
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    assert "deep" in refused(message("DevBox.list", {"tenantId": "t", "x": deep})).refusal.message
    wide = {"tenantId": "t", "x": [[] for _ in range(200)], "y": '[{"' * 50}
    assert messages.parse_from_orchestrator(message("DevBox.list", wide)).type == "DevBox.list"


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_garbage_is_a_bad_message_and_nothing_else(garbage: bytes | str) -> None:
    """Whatever the bytes: one kind of error."""
    with contextlib.suppress(messages.BadMessage):
        messages.parse_from_orchestrator(garbage)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
_fields = st.sampled_from(["tenantId", "devboxId", "sessionId", "cols", "rows", "data", "command", "env", "offset"])


@given(
    kind=st.sampled_from(sorted(wire.FROM_ORCHESTRATOR)), payload=st.dictionaries(_fields, _json, max_size=6) | _json,
    request_id=_json,
)  # fmt: skip
def test_any_json_is_read_or_explained(kind: str, payload: object, request_id: object) -> None:
    """Every message type, with anything in its fields."""
    try:
        read = messages.parse_from_orchestrator(json.dumps({"type": kind, "id": request_id, "payload": payload}))
    except messages.BadMessage as error:
        says = error.refusal.message
    else:
        says = "."
        assert isinstance(read.payload, wire.FROM_ORCHESTRATOR[kind])
    assert says.endswith(".")


def test_the_hand_built_output_is_what_the_model_says() -> None:
    """The fast path and the published schema cannot drift apart."""
    built = messages.terminal_output_json("s-1", 7, b"\x00\xff\n")
    read = messages.parse_from_worker(built)

    assert isinstance(read, messages.Message)
    assert isinstance(read.payload, wire.TerminalOutput)
    assert (read.payload.session_id, read.payload.offset, read.payload.data) == ("s-1", 7, b"\x00\xff\n")
    assert json.loads(built)["payload"]["data"] == base64.b64encode(b"\x00\xff\n").decode()


@pytest.mark.parametrize("kind", list(errors.ErrorCode))
def test_every_error_code_crosses_the_wire(kind: errors.ErrorCode) -> None:
    """A refusal written is the refusal read, with its details."""
    refusal = errors.REFUSALS[kind]("Do this.", inputOffset=3)
    read = messages.parse_from_worker(messages.refusal_json("1", refusal))

    assert isinstance(read, wire.Response)
    assert read.error is not None
    assert (read.error.code, read.error.message, read.error.details) == (kind, "Do this.", {"inputOffset": 3})


def test_secrets_are_not_shown_in_a_payload_s_text() -> None:
    """A payload that ends up in a log by mistake keeps its secrets."""
    read = messages.parse_from_orchestrator(
        message("DevBox.create", {"tenantId": "t", "name": "n", "image": "i", "secretEnv": {"A": "hush"}}, id="1")
    )

    assert "hush" not in repr(read)
