"""Text frames of the WebSocket protocol: reading and writing them as the models of `protos.wire`.

Reading: `parse_from_orchestrator` and `parse_from_worker` turn one text frame into a `Message` whose ``payload`` is
one of those models, or raise `BadMessage`. Writing: `to_json`. Only gateway and console import this module.
"""

import json
from typing import Annotated, Any, Literal, NamedTuple, Union

import pybase64
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from protos import limits
from protos.errors import InvalidArgument, Refusal, ResourceExhausted, Unimplemented
from protos.wire import (
    FROM_ORCHESTRATOR,
    FROM_WORKER,
    Cancel,
    Error,
    ErrorMessage,
    Id,
    Payload,
    RequestId,
    Response,
)


class Message(NamedTuple):
    """One message read."""

    type: str
    id: str | None
    payload: Payload


class BadMessage(Exception):
    """A text frame that is no valid message; ``id`` is set where it could be read, so that it can be answered."""

    def __init__(self, refusal: Refusal, request_id: str | None = None, session_id: str | None = None) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.request_id = request_id
        self.session_id = session_id


def _message_model(name: str, payload: type[Payload]) -> type[BaseModel]:
    """Return the envelope model of one message type."""
    return create_model(
        f"{payload.__name__}Message",
        __config__=ConfigDict(extra="ignore", strict=True),
        type=(Literal[name], ...),  # type: ignore[arg-type] # made from the table
        id=(RequestId | None, None),
        payload=(payload, Cancel() if payload is Cancel else ...),
    )


def _reader(table: dict[str, type[Payload]], *others: type[BaseModel]) -> TypeAdapter[Any]:
    """Return a validator that reads envelope and payload in one pass."""
    envelopes = (*(_message_model(name, payload) for name, payload in table.items()), *others)
    union = Union[envelopes]  # type: ignore[valid-type] # noqa: UP007 - made from the table
    return TypeAdapter(Annotated[union, Field(discriminator="type")])


_from_orchestrator = _reader(FROM_ORCHESTRATOR)


def parse_from_orchestrator(text: str | bytes) -> Message:
    """Read one text frame that an orchestrator sent; raises `BadMessage`."""
    data = text.encode() if isinstance(text, str) else text
    try:
        _check_size(data)
        message = _from_orchestrator.validate_json(data)
    except ValidationError as error:
        raise _explain(data, error) from None
    except Refusal as refusal:
        raise BadMessage(refusal) from None
    return Message(message.type, message.id, message.payload)


def _check_size(data: bytes) -> None:
    if len(data) > limits.MAX_MESSAGE_BYTES:
        raise ResourceExhausted(
            f"A message is at most {limits.MAX_MESSAGE_BYTES} bytes; this one has {len(data)}. Send it in pieces."
        )
    if data.count(b"{") + data.count(b"[") > limits.MAX_NESTING and _depth(data) > limits.MAX_NESTING:
        raise InvalidArgument(f"A message nests at most {limits.MAX_NESTING} deep.")


def _depth(data: bytes) -> int:
    """Return how deep JSON text nests, without parsing it: brackets outside strings."""
    deepest = depth = 0
    in_string = escaped = False
    for byte in data:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest


def _explain(data: bytes, error: ValidationError) -> BadMessage:
    """Turn a validation error into one sentence, with the message's id where it can still be read."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return BadMessage(InvalidArgument("This is not a JSON message: send one JSON object per text frame."))
    if not isinstance(message, dict):
        return BadMessage(InvalidArgument("A message is a JSON object with type, id and payload."))
    request_id = _if_valid(_request_ids, message.get("id"))
    payload = message.get("payload")
    session_id = _if_valid(_ids, payload.get("sessionId")) if isinstance(payload, dict) else None
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "union_tag_invalid":
        refusal: Refusal = Unimplemented(
            f"This worker knows no message type {str(message.get('type'))[:64]!r}; docs/protocol lists those it knows."
        )
    else:
        # The first item of the location is the message type again; a command's union adds names of Python types.
        path = ".".join(str(part) for part in first["loc"][1:] if not str(part).startswith(("list[", "constrained-")))
        reason = first["msg"].removeprefix("Value error, ")
        refusal = InvalidArgument(f"{path or 'The message'}: {reason}.")
    return BadMessage(refusal, request_id, session_id)


_request_ids: TypeAdapter[str] = TypeAdapter(RequestId)
_ids: TypeAdapter[str] = TypeAdapter(Id)


def _if_valid(adapter: TypeAdapter[str], value: object) -> str | None:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None


def to_json(kind: str, payload: Payload, request_id: str | None = None) -> bytes:
    """Return the text frame of one message; absent fields are left out."""
    id_part = b"" if request_id is None else b'"id":%s,' % json.dumps(request_id).encode()
    body = payload.model_dump_json(by_alias=True, exclude_none=True).encode()
    return b'{"type":%s,%s"payload":%s}' % (json.dumps(kind).encode(), id_part, body)


def answer_json(request_id: str, payload: Payload | None) -> bytes:
    """Return the text frame that answers a request with success."""
    body = b"{}" if payload is None else payload.model_dump_json(by_alias=True, exclude_none=True).encode()
    return b'{"type":"response","id":%s,"ok":true,"payload":%s}' % (json.dumps(request_id).encode(), body)


def refusal_json(request_id: str, refusal: Refusal) -> bytes:
    """Return the text frame that answers a request with an error."""
    body = Error.of(refusal).model_dump_json(by_alias=True, exclude_none=True).encode()
    return b'{"type":"response","id":%s,"ok":false,"error":%s}' % (json.dumps(request_id).encode(), body)


def error_json(refusal: Refusal, *, session_id: str | None = None, channel: int | None = None) -> bytes:
    """Return the text frame for what failed and has no id to answer to."""
    message = ErrorMessage(error=Error.of(refusal), session_id=session_id, channel=channel)
    return message.model_dump_json(by_alias=True, exclude_none=True).encode()


def terminal_output_json(session_id: str, offset: int, data: bytes) -> bytes:
    """Return a ``terminal.output`` frame, built by hand: `json` costs a third of the throughput (docs/performance.md).

    Session ids match `limits.ID_PATTERN`, so they need no escaping.
    """
    return b'{"type":"terminal.output","payload":{"sessionId":"%s","offset":%d,"data":"%s"}}' % (
        session_id.encode(),
        offset,
        pybase64.b64encode(data),
    )


def display_data_json(session_id: str, data: bytes) -> bytes:
    """Return a ``display.data`` frame, built by hand as `terminal_output_json` is."""
    return b'{"type":"display.data","payload":{"sessionId":"%s","data":"%s"}}' % (
        session_id.encode(),
        pybase64.b64encode(data),
    )


class Progress(NamedTuple):
    """Progress of the request ``id``, read by an orchestrator."""

    id: str
    payload: dict[str, Any]


class _ProgressMessage(BaseModel):
    type: Literal["progress"] = "progress"
    id: RequestId
    payload: dict[str, Any]


_from_worker = _reader(FROM_WORKER, Response, ErrorMessage, _ProgressMessage)


def parse_from_worker(text: str | bytes) -> Message | Response | ErrorMessage | Progress:
    """Read one text frame that a worker sent; raises `BadMessage`."""
    data = text.encode() if isinstance(text, str) else text
    try:
        message = _from_worker.validate_json(data)
    except ValidationError as error:
        raise _explain(data, error) from None
    match message:
        case Response() | ErrorMessage():
            return message
        case _ProgressMessage():
            return Progress(message.id, message.payload)
        case _:
            return Message(message.type, message.id, message.payload)
