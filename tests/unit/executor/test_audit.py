"""The audit log as a file: lines, rotation, a full disk."""

import json
import os
from pathlib import Path

import pytest

from executor.audit import NOT_PLAIN, Audit


def note(audit: Audit, tenant: str = "t", subject: str = "box", verdict: str = "OK") -> None:
    audit.note(who="gateway", tenant=tenant, rpc="StopDevBox", subject=subject, verdict=verdict)


def lines(directory: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (directory / "audit.jsonl").read_text().splitlines()]


def test_a_line_says_who_what_and_how_it_ended(tmp_path: Path) -> None:
    """And it is still there, in order, for the next executor, which appends."""
    for verdict in ("OK", "NOT_FOUND"):
        audit = Audit(tmp_path)
        note(audit, verdict=verdict)
        audit.close()

    assert [{key: line[key] for key in line if key != "at"} for line in lines(tmp_path)] == [
        {"who": "gateway", "tenant": "t", "rpc": "StopDevBox", "id": "box", "verdict": verdict}
        for verdict in ("OK", "NOT_FOUND")
    ]
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["a b", "a\nb", "é", "x" * 129, "\0", '{"a": 1} '])
def test_what_is_no_id_is_not_written(tmp_path: Path, text: str) -> None:
    """It could be a secret, or forge a line."""
    audit = Audit(tmp_path)
    note(audit, tenant=text, subject=text)
    audit.close()

    assert [(line["tenant"], line["id"]) for line in lines(tmp_path)] == [(NOT_PLAIN, NOT_PLAIN)]


def test_it_is_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    """Never more than so many files of so many bytes."""
    audit = Audit(tmp_path, max_bytes=1000, max_files=3)
    for number in range(200):
        note(audit, subject=str(number))
    audit.close()
    files = sorted(tmp_path.iterdir())

    assert [file.name for file in files] == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert all(0 < file.stat().st_size <= 1000 for file in files)
    kept = [json.loads(line)["id"] for file in reversed(files) for line in file.read_text().splitlines()]
    assert kept == [str(number) for number in range(200 - len(kept), 200)]


def test_a_full_disk_loses_lines_and_says_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is kept from stopping a DevBox by it."""
    audit = Audit(tmp_path)
    write = os.write

    def full(_file: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    note(audit)
    note(audit)
    monkeypatch.setattr(os, "write", write)
    note(audit)
    note(audit)
    audit.close()

    assert [line.get("lostBefore") for line in lines(tmp_path)] == ["2", None]
