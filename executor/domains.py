"""Names that a DevBox may be allowed to reach: ``name`` alone, or ``.name`` with all below it. Pure."""

import re

_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})+")
_MAX_CHARS = 253


def domain_pattern(text: str) -> str:
    """Return the one form in which an allowlist keeps a name: lower case, ``.name`` for ``*.name``.

    Raises `ValueError` for what could let more through than was meant: addresses, a top-level domain alone, wildcards
    elsewhere than in front, and what no host is called (RFC 1123).
    """
    pattern = text.lower().removeprefix("*")
    name = pattern.removeprefix(".")
    if pattern == text.lower() or pattern.startswith("."):  # "*name" is neither
        is_address = name.rpartition(".")[2].isdigit()  # no top-level domain is a number (RFC 3696)
        if _NAME.fullmatch(name) and len(name) <= _MAX_CHARS and not is_address:
            return pattern
    raise ValueError(
        f"{text!r} is no name of a host: write example.com for that host alone, .example.com for all below it too "
        "(no addresses, ports, paths; letters beyond ASCII in their xn-- form)"
    )
