"""Lays text out for a terminal: as wide as that is, 80 columns where it is none. Colours are Click's own affair."""

import shutil
import textwrap

import click

_INDENT = 12
_NARROWEST, _WIDEST = 40, 100


def labelled(label: str, text: str, **style: bool | str) -> str:
    """Return a label, styled, and its text beside it, wrapped under itself."""
    width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((80, 24)).columns))
    lines = textwrap.wrap(text, width - _INDENT, break_long_words=False, break_on_hyphens=False) or [""]
    head = click.style(f"{label:<{_INDENT}}", **style)  # type: ignore[arg-type] # Click's own keywords
    return "\n".join((head + lines[0], *(" " * _INDENT + line for line in lines[1:])))
