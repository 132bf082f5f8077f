"""The decoders and what each may answer: its own refusal, never another exception.

One strategy each, used by Hypothesis in `make test` and, led by the code that it covers, by Atheris in
`make test-long`.
"""

import io
import json
import struct
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from executor import background, engine, requests
from executor.build_log import BuildLog
from executor.containerfile import Containerfile
from executor.context_tar import write_context
from executor.domains import domain_pattern
from executor.exec_stream import Demultiplexer
from executor.git import ProgressLines, Remote, refusal_of
from executor.image_reference import built_name, is_reference
from executor.policy import writable_path
from executor.rpc import checked
from executor.scrollback import OffsetPruned, Scrollback
from protos import executor_pb2 as pb
from protos import frames, messages, wire
from protos.errors import InvalidArgument, Refusal, ResourceExhausted
from protos.message_stream import MAX_MESSAGE_BYTES, MessageStream

MAX_CONTEXT_BYTES = 64 * 1024


@dataclass(frozen=True)
class Decoder:
    """What it takes and how it is called; whatever it raises is a defect."""

    inputs: SearchStrategy[Any]
    decode: Callable[[Any], object]


# --- What strangers write --------------------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    ["", "-", "--", "..", "/", "\\", "'", '"', "$", "${", "}", "{{", "\n", "\r\n", "\t", "#", ":", "@", "@{", "*", "[",
     "::", "://", "%2f", "localhost", "example.com", "sha256:", "1", "-1", "a", "é", "\u202e", "😀", "\x7f", "\x1b[31m"]
)  # fmt: skip
TEXT = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=60),
    st.lists(st.one_of(_PIECES, st.text(st.characters(codec="utf-8"), max_size=5)), max_size=12).map("".join),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), TEXT
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=20,
)


def _message(kinds: dict[str, type[wire.Payload]]) -> SearchStrategy[bytes]:
    """Text frames: envelopes with real types and fields and any values, JSON that is none, bytes."""

    def envelope(kind: str) -> SearchStrategy[bytes]:
        names = [field.alias or name for name, field in kinds[kind].model_fields.items()]
        ids = st.sampled_from(["local", "box-1", "s-1", "AA==", "standard", "true"])
        payload = st.dictionaries(st.sampled_from(names or ["x"]), st.one_of(ids, JSON), max_size=len(names) + 1)
        whole = st.fixed_dictionaries(
            {"type": st.just(kind), "payload": payload}, optional={"id": st.one_of(ids, JSON)}
        )
        return whole.map(lambda message: json.dumps(message).encode())

    nested = st.integers(0, 4000).map(lambda depth: b'{"type":"DevBox.list","payload":' + b"[" * depth + b"]" * depth)
    return st.one_of(
        st.sampled_from(sorted(kinds)).flatmap(envelope),
        JSON.map(lambda value: json.dumps(value).encode()),
        nested,
        st.binary(max_size=200),
        TEXT.map(str.encode),
    )


def _wire(parse: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def decode(data: bytes) -> None:
        with suppress(messages.BadMessage):
            parse(data)

    return decode


def _refusing(call: Callable[..., object], *errors: type[Exception]) -> Callable[[Any], None]:
    """Let a decoder refuse; anything else that it raises goes through."""

    def decode(data: Any) -> None:  # noqa: ANN401 - whatever it takes
        with suppress(Refusal, *errors):
            call(data)

    return decode


# --- Requests over gRPC ----------------------------------------------------------------------------------------------

_KINDS = sorted(
    (
        kind
        for kind in vars(requests).values()
        if isinstance(kind, type) and issubclass(kind, requests.BaseModel) and kind.model_fields
    ),
    key=lambda kind: kind.__name__,
)
_VALUES = st.one_of(
    SCALARS, st.floats(), st.binary(max_size=40), st.lists(TEXT, max_size=4).map(tuple),
    st.dictionaries(TEXT, TEXT, max_size=4), st.just("x" * 70_000), st.sampled_from(["local", "box-1", "b-1", "/work"]),
)  # fmt: skip
_REQUESTS = st.sampled_from(_KINDS).flatmap(
    lambda kind: st.tuples(st.just(kind), st.dictionaries(st.sampled_from(sorted(kind.model_fields)), _VALUES))
)


def _request(case: tuple[type[Any], dict[str, Any]]) -> None:
    kind, fields = case
    refused: list[str] = []
    try:
        checked(kind, **fields)
    except InvalidArgument as refusal:
        refused.append(refusal.message)
    assert not [message for message in refused if len(message) > 3000], "a refusal repeats what was sent"


# --- Messages on a socket of sessions --------------------------------------------------------------------------------

_TERMINAL_REQUESTS = st.one_of(
    st.binary(max_size=40).map(lambda data: pb.AttachTerminalRequest(input={"data": data})),
    st.integers(0, 2**63).map(lambda offset: pb.AttachTerminalRequest(ack={"offset": offset})),
    st.sampled_from([pb.AttachTerminalRequest(), pb.AttachTerminalRequest(close={})]),
).map(pb.AttachTerminalRequest.SerializeToString)
_FRAMED = st.one_of(
    st.one_of(_TERMINAL_REQUESTS, st.binary(max_size=12)).map(lambda body: struct.pack("!I", len(body)) + body),
    st.sampled_from([0, 5, MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES + 1, 2**32 - 1]).map(struct.Struct("!I").pack),
    st.binary(max_size=6),
)
_STREAMS = st.tuples(st.lists(_FRAMED, max_size=8).map(b"".join), st.lists(st.integers(1, 30), max_size=12))


def _message_stream(case: tuple[bytes, list[int]]) -> None:
    """However a stream is cut, and whether its messages are taken at once or at the end, the same comes out."""
    data, cuts = case
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    pieces.append(data[at:])

    def received(reads: list[bytes], *, at_once: bool) -> tuple[list[Any], type[Refusal] | None]:
        stream: MessageStream[Any, Any] = MessageStream(pb.AttachTerminalRequest)
        found: list[Any] = []
        if at_once:
            stream.deliver(found.append)
        for read in filter(None, reads):
            stream.get_buffer(len(read))[: len(read)] = read
            stream.buffer_updated(len(read))
        if not at_once:
            stream.deliver(found.append)
        return [message.SerializeToString() for message in found], stream._broken and type(stream._broken)

    whole = received([data], at_once=True)
    assert whole[1] in (None, InvalidArgument, ResourceExhausted)
    assert whole == received(pieces, at_once=True) == received(pieces, at_once=False)


# --- What programs in a DevBox and engines send ----------------------------------------------------------------------

_PARTS = st.lists(st.one_of(st.binary(max_size=30), st.tuples(st.integers(0, 255), st.binary(max_size=40)).map(
    lambda part: struct.pack(">BxxxI", part[0], len(part[1])) + part[1])), max_size=8)  # fmt: skip


def _demultiplex(parts: list[bytes]) -> None:
    """However a stream is cut, the same comes out."""

    def joined(pieces: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
        return [(kind, byte) for kind, data in pieces for byte in data]

    whole, cut = Demultiplexer(), Demultiplexer()
    at_once = joined(whole.feed(memoryview(b"".join(parts))))
    assert at_once == joined([piece for part in parts for piece in cut.feed(memoryview(part))])


def _scrollback(steps: list[tuple[bytes, int, int]]) -> None:
    kept, everything = Scrollback(64), b""
    for data, offset, count in steps:
        kept.append(data)
        everything += data
        assert kept.end == len(everything)
        assert kept.end - kept.base <= 64
        try:
            found = kept.read(offset, count)
        except OffsetPruned:
            assert offset < kept.base
        except ValueError:
            assert offset > kept.end
        else:
            assert bytes(found) == everything[offset : offset + len(found)]


def _build_log(parts: list[str]) -> None:
    log = BuildLog({"sha256:1": "localhost/x"})
    for part in parts:
        list(log.feed(part))
    list(log.end())


def _git_words(parts: list[bytes]) -> None:
    lines = ProgressLines("credential")
    for part in parts:
        list(lines.feed(part))
    refusal_of(b"".join(parts), "credential", doing="clone")


# --- Files -----------------------------------------------------------------------------------------------------------

_INSTRUCTIONS = st.sampled_from(
    ["FROM ", "FROM scratch", "FROM --platform=", " AS ", "RUN ", "RUN --mount=type=bind,", "COPY ", "COPY --from=",
     "ADD ", "ARG A=b", "ENV A=${A", "LABEL io.clustercode.tenant=x", "ONBUILD ", "# syntax=", "# escape=`", "\\",
     "<<EOF", "EOF", '["sh", "-c"', "HEALTHCHECK ", "SHELL ", "USER ", "VOLUME ", "\n", "${A:-x}", "$A"]
)  # fmt: skip
_CONTAINERFILES = st.lists(st.one_of(_INSTRUCTIONS, TEXT), max_size=16).map("".join)


def tar(members: list[tuple[str, int, str, bytes, int]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        for name, kind, target, content, claims in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = bytes([kind]), target, len(content)
            with suppress(ValueError, UnicodeError):
                archive.addfile(info, io.BytesIO(content))
            if claims:  # and a header that lies about what follows it
                info.size = claims
                with suppress(ValueError, UnicodeError):
                    packed.write(info.tobuf(tarfile.GNU_FORMAT))
    return packed.getvalue()


_NAMES = st.one_of(TEXT, st.sampled_from(["../x", "/etc/passwd", "a", "a/b", "Containerfile", ".dockerignore", "./"]))
_ARCHIVES = st.one_of(
    st.binary(max_size=600),
    st.lists(
        st.tuples(_NAMES, st.sampled_from(list(b"0123456 7xgLKSVD")), _NAMES, st.binary(max_size=50),
                  st.sampled_from([0, 0, 1, 2**33 - 1])),
        max_size=5,
    ).map(tar).flatmap(
        lambda data: st.one_of(
            st.just(data),
            st.integers(0, len(data)).map(lambda end: data[:end]),
            st.tuples(st.integers(0, max(0, len(data) - 1)), st.integers(0, 255)).map(
                lambda change: data[: change[0]] + bytes([change[1]]) + data[change[0] + 1 :]
            ),
        )
    ),
)  # fmt: skip


def _context(data: bytes) -> None:
    written = io.BytesIO()
    write_context(io.BytesIO(data), written, "FROM scratch", max_bytes=MAX_CONTEXT_BYTES, stopped=lambda: False)
    with tarfile.open(fileobj=io.BytesIO(written.getvalue())) as archive:
        names = archive.getnames()
    assert not [name for name in names if name.startswith("/") or ".." in name.split("/")], names


DECODERS: dict[str, Decoder] = {
    "orchestrator-text": Decoder(_message(wire.FROM_ORCHESTRATOR), _wire(messages.parse_from_orchestrator)),
    "worker-text": Decoder(_message(wire.FROM_WORKER), _wire(messages.parse_from_worker)),
    "binary-frame": Decoder(st.binary(max_size=64), _refusing(frames.decode)),
    "grpc-request": Decoder(_REQUESTS, _request),
    "message-stream": Decoder(_STREAMS, _message_stream),
    "demultiplexer": Decoder(_PARTS, _demultiplex),
    "scrollback": Decoder(
        st.lists(st.tuples(st.binary(max_size=100), st.integers(0, 300), st.integers(0, 100)), max_size=8), _scrollback
    ),
    "containerfile": Decoder(
        _CONTAINERFILES, _refusing(lambda text: Containerfile(text, {"A": "b"}).text({}, {}, {}), KeyError)
    ),
    "context-tar": Decoder(_ARCHIVES, _refusing(_context)),
    "image-reference": Decoder(TEXT, is_reference),
    "built-name": Decoder(st.tuples(TEXT, TEXT), _refusing(lambda names: built_name(*names))),
    "repository": Decoder(TEXT, _refusing(Remote.of)),
    "git-output": Decoder(st.lists(st.binary(max_size=80), max_size=6), _git_words),
    "domain": Decoder(TEXT, _refusing(domain_pattern, ValueError)),
    "writable-path": Decoder(TEXT, _refusing(writable_path)),
    "engine-event": Decoder(
        st.one_of(st.binary(max_size=200), JSON.map(lambda v: json.dumps(v).encode())), engine._hint
    ),
    "build-log": Decoder(st.lists(st.one_of(TEXT, st.just("STEP 1/2: FROM sha256:1\n")), max_size=6), _build_log),
    "background-state": Decoder(st.binary(max_size=300), lambda data: background._parsed(data, 4096)),
    "background-list": Decoder(st.binary(max_size=300), background._listed),
}
