"""Requests that no well-behaved gateway would send, made from the contract's own descriptors.

A message is either all chance, or what would be right with some fields made wrong: the one looks for what nobody
thought of, the other gets past the first check.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos import executor_pb2 as pb
from protos.message_stream import MAX_MESSAGE_BYTES
from tests.integration.seam import SESSIONS

SERVICE = pb.DESCRIPTOR.services_by_name["ExecutorService"]
INPUTS: Mapping[str, Descriptor] = {
    **{method.name: method.input_type for method in SERVICE.methods},
    **{name: request.DESCRIPTOR for name, (_, request, _) in SESSIONS.items()},
}
"""What each RPC takes, and each socket of sessions."""

_TRICKS = (
    "", " ", "-", "--", "--privileged", "-v=/:/host", "..", "../..", "/", "//", "/../../../etc", "a/../../b", "~root",
    "%2e%2e%2f",
    "$(touch TARGET/shell)", "`touch TARGET/tick`", "; touch TARGET/semicolon", "\n", "a\nb", "\r\n\r\nX: y",
    "\0", "a\0b", "\x1b[2J", "\u202e", "é" * 40, "null", "None", "0", "-1", "*", "a" * 129, "b" * 70_000, "TARGET/file",
    "../../../..TARGET/file", "file://TARGET/x", "ext::sh -c 'touch TARGET/ext'", "unix:///run/podman/podman.sock",
    "/proc/1/root", "/proc/self/environ", "/sys", "/dev/sda", "container:victim", "host", "ns:/proc/1/ns/net",
    "LD_PRELOAD", "PATH", "io.clustercode.install", "io.clustercode.tenant", "{{.Id}}", "localhost/", "a@sha256:zz",
    "localhost/clustercode-test:latest --privileged", "FROM scratch\nCOPY / /", "ONBUILD RUN x", "::1",
    "169.254.169.254",
)  # fmt: skip
_NUMBERS = (0, 1, 2, 7, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**31), -(2**63))
_REALS = (0.0, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), 0.5)
_RANGE = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


@dataclass
class Hostile:
    """Makes requests; what it makes depends on ``chance`` alone."""

    chance: random.Random
    ids: Sequence[str]
    """Ids that exist, of others too."""
    tenants: Sequence[str]
    target: str
    """A directory of the host in which nothing must appear."""
    right: Mapping[str, Mapping[str, object]]
    """What would be right, by RPC; of a streamed RPC its ``open``."""

    def requests(self, method: str) -> list[Message | bytes]:
        """Return what is sent in one call, or on one connection: there also bytes that are no message."""
        kind = GetMessageClass(INPUTS[method])
        if method not in SESSIONS:
            return [self._one(kind(), method)]
        first = kind()
        self._one(first.open, method)
        first.open.SetInParent()
        rest = [self._random(kind(), 0) for _ in range(self.chance.randrange(4))]
        kinds_of_first = [[first]] * 8 + [[], [self._no_message()]]
        return [*self.chance.choice(kinds_of_first), *rest]

    def _no_message(self) -> bytes:
        """Return bytes that are refused, whatever follows: too long, or nothing that a message may be."""
        if self.chance.random() < 0.5:
            return self.chance.randint(MAX_MESSAGE_BYTES + 1, 2**32 - 1).to_bytes(4, "big")
        size = self.chance.choice((1, 100, MAX_MESSAGE_BYTES))
        return size.to_bytes(4, "big") + b"\xff" * size

    def _one(self, message: Message, method: str) -> Message:
        if self.chance.random() < 0.3 or method not in self.right:
            return self._random(message, 0)
        for name, value in self.right[method].items():
            field = message.DESCRIPTOR.fields_by_name[name]
            if isinstance(value, dict):
                getattr(message, name).update(value)
            elif _repeated(field):
                getattr(message, name).extend(value)
            else:
                setattr(message, name, value)
        fields = message.DESCRIPTOR.fields
        for field in self.chance.sample(list(fields), k=min(len(fields), self.chance.choice((0, 1, 1, 1, 2, 3)))):
            message.ClearField(field.name)
            self._fill(message, field, 0)
        return message

    def _random(self, message: Message, depth: int) -> Message:
        for field in message.DESCRIPTOR.fields:
            if self.chance.random() < 0.6:
                self._fill(message, field, depth)
        return message

    def _fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if depth > 3:
            return
        value = getattr(message, field.name)
        if _is_map(field):
            for _ in range(self.chance.choice((1, 1, 2, 1001))):
                value[self._text(field.name)] = self._text(field.name)
        elif _repeated(field):
            for _ in range(self.chance.choice((0, 1, 2, 1001))):
                if field.message_type:
                    self._random(value.add(), depth + 1)
                else:
                    value.append(self._scalar(field))
        elif field.message_type:
            self._random(value, depth + 1)
            value.SetInParent()
        else:
            setattr(message, field.name, self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> object:
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return self.chance.randbytes(self.chance.choice((0, 1, 100, 70_000)))
            case FieldDescriptor.CPPTYPE_STRING:
                return self._text(field.name)
            case FieldDescriptor.CPPTYPE_BOOL:
                return self.chance.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return self.chance.choice(_REALS)
        low, high = _RANGE[field.cpp_type]
        return max(low, min(high, self.chance.choice(_NUMBERS)))

    def _text(self, name: str) -> str:
        if name == "tenant_id" and self.chance.random() < 0.8:
            return self.chance.choice(self.tenants)
        if name.endswith("_id") and self.chance.random() < 0.7:
            return self.chance.choice(self.ids)
        text = self.chance.choice(_TRICKS).replace("TARGET", self.target)
        if name == "image" and "." in text.partition("/")[0]:
            return f"localhost/{text}"  # no registry is to be asked
        return text


def _repeated(field: FieldDescriptor) -> bool:
    return field.is_repeated


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)
