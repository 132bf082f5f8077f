"""docs/commands.md: every command of the user's document has a row, and every row a test that is there."""

import ast
import re
from pathlib import Path

import pytest
from pydantic.alias_generators import to_camel

from protos import wire

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "DevBox.create", "DevBox.setup", "DevBox.start", "DevBox.stop", "DevBox.remove", "DevBox.list", "DevBox.list-all",
    "DevBox.exec", "DevBox.exec.background", "DevBox.exec.background.kill", "DevBox.exec.background.capture",
    "images.list", "image.check", "image.delete", "image.build", "terminal.open", "terminal.input", "terminal.resize",
    "terminal.close", "display.open", "display.close",
)  # fmt: skip
"""The list of the user's document."""
OURS = ("DevBox.egress",)


def _rows() -> dict[str, list[str]]:
    """The table's rows by command: payload, answer, errors, tests."""
    rows: dict[str, list[str]] = {}
    for line in (ROOT / "docs/commands.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            rows[cells[0].strip("`")] = cells[1:]
    return rows


def _names(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def _tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests/integration" / file).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_")}


def test_the_table_has_the_commands_of_the_document() -> None:
    """In their order, none missing and none made up, then ours; and the protocol knows each."""
    assert tuple(_rows()) == COMMANDS + OURS
    assert set(COMMANDS + OURS) <= wire.COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS + OURS)
def test_a_row_names_tests_that_are_there(command: str) -> None:
    """At least one, each as file::test."""
    tests = _names(_rows()[command][3])

    assert tests
    for test in tests:
        file, _, name = test.partition("::")
        assert name in _tests(file), f"{test} is not there"


@pytest.mark.parametrize("command", COMMANDS + OURS)
def test_a_row_tells_of_every_field(command: str) -> None:
    """Payload and answer name what the protocol's models have; the tenant is said once for all."""
    payload, answer, *_ = _rows()[command]
    model = wire.ANSWERS.get(command)

    assert {to_camel(name) for name in wire.COMMANDS[command].model_fields} - {"tenantId"} <= _names(payload)
    assert {to_camel(name) for name in model.model_fields} <= _names(answer) if model else answer == "none needed"
