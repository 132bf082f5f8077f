"""The section that a setup writes into CLAUDE.md, between two marks; all else in that file is never touched. Pure."""

import re
from dataclasses import dataclass

BEGIN = b"<!-- clustercode:begin -->"
END = b"<!-- clustercode:end -->"
_NOTE = "<!-- Written when this DevBox was set up; the next setup replaces what stands between these two marks. -->"
# From the last begin before an end: a mark somebody left alone takes none of their text into the section.
_SECTION = re.compile(rb"%b(?:(?!%b).)*?%b" % tuple(map(re.escape, (BEGIN, BEGIN, END))), re.DOTALL)


@dataclass(frozen=True)
class Ticket:
    """The work to be done."""

    id: str = ""
    title: str = ""
    body: str = ""
    url: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not (self.id or self.title or self.body or self.url)


def section(ticket: Ticket, instructions: str) -> bytes:
    """Return the section with its marks; empty where there is nothing to tell."""
    parts = []
    if not ticket.is_empty:
        name = ": ".join(part for part in (_line(ticket.id), _line(ticket.title)) if part)
        parts += [f"# Ticket {name}".rstrip(), _line(ticket.url), ticket.body.strip()]
    if instructions.strip():
        parts += ["# Instructions", instructions.strip()]
    if not parts:
        return b""
    # A mark inside a ticket would end the section early.
    text = "\n\n".join(part for part in (_NOTE, *parts) if part).replace("\r\n", "\n")
    text = text.replace("<!-- clustercode:", "&lt;!-- clustercode:")
    return b"%b\n%b\n%b" % (BEGIN, text.encode(), END)


def section_in(content: bytes) -> bytes:
    """Return the section that a file has, empty where it has none."""
    found = _SECTION.search(content)
    return found[0] if found else b""


def with_section(content: bytes, new: bytes) -> bytes:
    """Return a file's content with its section replaced, or with the section at its end."""
    if not new:
        return content
    if _SECTION.search(content):
        return _SECTION.sub(lambda _: new, content, count=1)
    gap = b"" if not content else b"\n" if content.endswith(b"\n") else b"\n\n"
    return content + gap + new + b"\n"


def differs_only_in_section(content: bytes, base: bytes) -> bool:
    """Whether a file is what a setup makes of ``base``: nobody has written anything of their own into it."""
    return content == with_section(base, section_in(content))


def _line(text: str) -> str:
    return " ".join(text.split())
