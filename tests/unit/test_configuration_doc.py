"""docs/configuration.md names every setting and every variable that the code reads, and no other."""

import ast
import re
from pathlib import Path

from clustercode.settings import CONFIG_VARIABLE, SETTINGS, Setting

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs/configuration.md").read_text()
PACKAGES = ("clustercode", "console", "executor", "gateway", "protos")


def row(setting: Setting) -> str:
    """The table's line for a setting."""
    flag = setting.flags[0].split("/")[0] if setting.flags else ""
    default = {None: "", (): "", True: "yes", False: "no"}.get(setting.default, setting.default)
    readers = ", ".join(reader for reader in setting.read_by if reader != "command") or "commands"
    names = [f"`{name}`" if name not in (None, "") else "" for name in (setting.key, setting.variable, flag, default)]
    return f"| {' | '.join([*names, readers, setting.help + (' Secret.' if setting.secret else '')])} |"


def test_the_table_is_the_codes() -> None:
    """Line by line: a new setting needs its line, and a changed one its change."""
    section = TEXT.partition("## Settings")[2].partition("\n## ")[0]
    in_doc = [line for line in section.splitlines() if line.startswith("| `")]

    assert in_doc == [row(setting) for setting in SETTINGS], "\n" + "\n".join(map(row, SETTINGS))


def test_every_variable_that_is_read_is_named() -> None:
    """Ours and other people's: wherever the code looks into an environment for a name."""
    read = {CONFIG_VARIABLE, *(setting.variable for setting in SETTINGS if setting.variable)}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        if "_pb2" in path.name or "node_modules" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("get", "getenv")
            ):
                place, names = node.func.value, node.args[:1]
            elif isinstance(node, ast.Subscript):
                place, names = node.value, [node.slice]
            elif isinstance(node, ast.keyword) and node.arg == "envvar":
                place, names = ast.Name("environ"), [node.value]
            else:
                continue
            if ast.unparse(place).endswith(("environ", "environment")) or ast.unparse(place) == "os":
                read |= {name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str)}
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", TEXT))

    assert {name for name in read if name.isupper()} - named == set()
