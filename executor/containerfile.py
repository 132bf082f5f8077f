"""A Containerfile: read, checked, and written anew for the engine. Pure.

What the engine gets is our own text, one instruction a line, so that what was checked here is what runs there.
Refused is what would let a build out of its box:

* ``RUN --mount`` and ``RUN --network``: mounts of the engine's own disk (CVE-2024-1753 and its kin) and its network;
* ``ADD`` of an address: the engine fetches it over its own network, which the build has not;
* images that are no plain names (``FROM dir:/etc``): the engine would read its own disk;
* ``ONBUILD``: its steps would come back unread in another build;
* here-documents and escape directives: engines read them differently.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from executor.image_reference import is_reference
from protos.errors import InvalidArgument

MAX_INSTRUCTIONS = 1000

_KNOWN = frozenset(
    {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"}
    | {"RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)
_CONTINUED = re.compile(r"\\[ \t]*$")
_DIRECTIVE = re.compile(r"#\s*escape\s*=\s*(\S+)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]")
_HERE_DOCUMENT = re.compile(r"(?<!<)<<-?\s*[\"']?[A-Za-z_]")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|$)")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::?([-+])([^${}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))")
_ARGUMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(\"[^\"]*\"|'[^']*'|\S*))?(?:\s+|$)")
_STAGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
_PLATFORM = re.compile(r"[a-z0-9/_.-]+")
_OWNER = re.compile(r"[A-Za-z0-9_.:${}-]+")


@dataclass(frozen=True)
class Instruction:
    """One instruction as it was written: where it begins, its keyword in capitals, all that follows on one line."""

    line: int
    keyword: str
    rest: str

    def refusal(self, why: str) -> InvalidArgument:
        """Return the refusal that names this instruction."""
        return InvalidArgument(f"Containerfile, line {self.line}, {self.keyword}: {why}")


@dataclass(frozen=True)
class _Step:
    """One instruction as the engine gets it: an image, if it names one, stands between ``text`` and ``after``."""

    text: str
    image: str = ""
    after: str = ""
    from_scratch: bool = False


class Containerfile:
    """A Containerfile that may be built: which images it needs, and its text once those are known."""

    def __init__(self, text: str, build_args: Mapping[str, str], *, has_network: bool = False) -> None:
        """Read and check it; raises `InvalidArgument` that names the line."""
        self._steps = list(_checked(read(text), build_args, has_network=has_network))
        self.images = tuple(dict.fromkeys(step.image for step in self._steps if step.image))
        """What it is built from and copies from, as it was written, each once."""

    def text(self, pins: Mapping[str, str], stamps: Mapping[str, str], labels: Mapping[str, str]) -> str:
        """Return what the engine gets: images replaced by what ``pins`` says, the image labelled and stamped.

        The images in ``pins`` bear the stamps already, so every layer that is made on them does.
        Labels are instructions and not an option of the build: engines apply those in any order, and miss the cache.
        """
        lines = []
        for step in self._steps:
            lines.append(step.text + (pins[step.image] if step.image else "") + step.after)
            if step.from_scratch:
                lines.append(_label(stamps))
        # Last, so that nothing in the file has another word on the stamps.
        lines.append(_label({**labels, **stamps}))
        return "\n".join(lines) + "\n"


def stamping(image: str, stamps: Mapping[str, str]) -> str:
    """Return what makes an image that bears the stamps of one that does not."""
    return f"FROM {image}\n{_label(stamps)}\n"


def _label(labels: Mapping[str, str]) -> str:
    return "LABEL " + " ".join(f"{_quoted(key)}={_quoted(value)}" for key, value in sorted(labels.items()))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def read(text: str) -> Iterator[Instruction]:
    """Yield the instructions, comments and line breaks taken out; raises `InvalidArgument`."""
    if _CONTROL.search(text):
        raise InvalidArgument("containerfile: no control characters.")
    began, pending, count = 0, "", 0
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        line = raw.rstrip("\r")
        if line.lstrip().startswith("#"):
            directive = _DIRECTIVE.match(line.lstrip())
            if count == 0 and directive and directive[1] != "\\":
                raise InvalidArgument("containerfile: the escape character is '\\', no other.")
            continue
        if not line.strip():
            continue
        began = began or number
        pending += line
        if _CONTINUED.search(pending):
            pending = _CONTINUED.sub("", pending)
            continue
        yield _instruction(began, pending)
        count += 1
        if count > MAX_INSTRUCTIONS:
            raise InvalidArgument(f"containerfile: at most {MAX_INSTRUCTIONS} instructions.")
        began, pending = 0, ""
    if pending.strip():
        yield _instruction(began, pending)


def _instruction(line: int, text: str) -> Instruction:
    keyword, _, rest = text.strip().replace("\t", " ").partition(" ")
    rest = rest.strip()
    instruction = Instruction(line, keyword.upper()[:40], rest)
    if instruction.keyword == "ONBUILD":
        raise instruction.refusal("its steps would run in other builds; write them there.")
    if instruction.keyword not in _KNOWN:
        raise instruction.refusal("there is no such instruction here.")
    if not rest or "\n" in rest or "\r" in rest:
        raise instruction.refusal("it says nothing." if not rest else "it has a line break in it.")
    if rest.endswith("\\"):
        raise instruction.refusal("it ends in a backslash.")
    return instruction


def _checked(
    instructions: Iterator[Instruction], build_args: Mapping[str, str], *, has_network: bool
) -> Iterator[_Step]:
    arguments: dict[str, str] = {}
    stages: list[str] = []
    for instruction in instructions:
        if not stages and instruction.keyword not in ("ARG", "FROM"):
            raise instruction.refusal("a Containerfile begins with FROM; only ARG may come before.")
        if instruction.keyword == "ARG" and not stages:
            _take_arguments(instruction, arguments, build_args)
        match instruction.keyword:
            case "FROM":
                yield _from(instruction, arguments, stages)
            case "COPY":
                yield _copy(instruction, stages)
            case "ADD":
                yield _add(instruction, has_network=has_network)
            case "RUN":
                yield _run(instruction)
            case _:
                yield _Step(f"{instruction.keyword} {instruction.rest}")
    if not stages:
        raise InvalidArgument("containerfile: it has no FROM.")


def _take_arguments(instruction: Instruction, arguments: dict[str, str], given: Mapping[str, str]) -> None:
    """Note the arguments that FROM may use."""
    position = 0
    while position < len(instruction.rest):
        match = _ARGUMENT.match(instruction.rest, position)
        if match is None:
            raise instruction.refusal("write NAME or NAME=value.")
        name, value = match[1], match[2] or ""
        if value[:1] in ('"', "'"):
            value = value[1:-1]
        arguments[name] = given.get(name, _expanded(value, arguments))
        position = match.end()


def _expanded(text: str, arguments: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        found = arguments.get(match[1] or match[4], "")
        if match[2] == "-":
            return found or match[3]
        if match[2] == "+":
            return match[3] if found else ""
        return found

    return _VARIABLE.sub(value, text)


def _flags(instruction: Instruction, allowed: Mapping[str, re.Pattern[str] | None]) -> tuple[dict[str, str], str]:
    """Return the options an instruction begins with, and what comes after them."""
    flags: dict[str, str] = {}
    rest = instruction.rest
    while rest.startswith("--"):
        match = _FLAG.match(rest)
        if match is None or match[1] not in allowed:
            raise instruction.refusal(f"the option {rest.split()[0][:60]} is not offered here.")
        pattern = allowed[match[1]]
        if pattern is not None and (match[2] is None or pattern.fullmatch(match[2]) is None):
            raise instruction.refusal(f"the option --{match[1]} has a value that is not taken here.")
        flags[match[1]] = match[2] or ""
        rest = rest[match.end() :]
    return flags, rest


def _from(instruction: Instruction, arguments: Mapping[str, str], stages: list[str]) -> _Step:
    flags, rest = _flags(instruction, {"platform": _PLATFORM})
    words = rest.split()
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise instruction.refusal("write FROM image, or FROM image AS name.")
    stage = words[2] if len(words) == 3 else ""
    if stage and _STAGE.fullmatch(stage) is None:
        raise instruction.refusal("a stage's name is letters, digits, '.', '_' and '-', and begins with a letter.")
    image = _expanded(words[0], arguments)
    earlier = image == "scratch" or (image != "" and image.lower() in stages)  # unnamed stages have "" for a name
    if not earlier and not is_reference(image):
        raise instruction.refusal(f"{image[:100]!r} is no name of an image.")
    stages.append(stage.lower())
    platform = f"--platform={flags['platform']} " if flags else ""
    name = f" AS {stage}" if stage else ""
    if earlier:
        return _Step(f"FROM {platform}{image}{name}", from_scratch=image == "scratch")
    return _Step(f"FROM {platform}", image, name)


def _run(instruction: Instruction) -> _Step:
    if instruction.rest.startswith("--"):
        raise instruction.refusal("options (--mount, --network, --security) are not offered here.")
    if _HERE_DOCUMENT.search(instruction.rest):
        raise instruction.refusal("no here-documents: put the file into the context and COPY it.")
    return _Step(f"RUN {instruction.rest}")


def _copy(instruction: Instruction, stages: list[str]) -> _Step:
    flags, rest = _flags(instruction, {"from": None, "chown": _OWNER, "chmod": _OWNER, "link": None})
    if "<<" in rest:
        raise instruction.refusal("no here-documents: put the file into the context.")
    text = "COPY " + "".join(_written(name, value) for name, value in flags.items() if name != "from")
    source = flags.get("from")
    if source is None:
        return _Step(f"{text}{rest}")
    if source.lower() in stages[:-1] or (source.isascii() and source.isdecimal() and int(source) < len(stages) - 1):
        return _Step(f"{text}--from={source} {rest}")
    if source.isdecimal() or not is_reference(source):
        raise instruction.refusal(f"--from={source[:100]!r} is neither an earlier stage nor the name of an image.")
    return _Step(f"{text}--from=", source, f" {rest}")


def _add(instruction: Instruction, *, has_network: bool) -> _Step:
    flags, rest = _flags(instruction, {"chown": _OWNER, "chmod": _OWNER, "link": None})
    text = "ADD " + "".join(_written(name, value) for name, value in flags.items())
    if has_network:
        return _Step(text + rest)
    words: list[object] = list(rest.split())
    if rest.startswith("["):
        try:
            words = json.loads(rest)
        except (ValueError, RecursionError):
            words = [None]
        rest = json.dumps(words)
    for word in words:
        if not isinstance(word, str):
            raise instruction.refusal("this is no list of texts in JSON.")
        lowered = word.lower()
        # Quotes and variables too: the engine takes them out of a word and could then see an address.
        if any(mark in lowered for mark in ("://", "$", '"', "'", "\\", "<<", "git@")) or "github.com" in lowered:
            raise instruction.refusal(
                "builds have no network, so plain names of files in the context only, without variables and quotes; "
                "use COPY, or put what you need into the context."
            )
    return _Step(text + rest)


def _written(name: str, value: str) -> str:
    return f"--{name}={value} " if value else f"--{name} "
