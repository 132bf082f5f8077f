"""Runs commands of ours as a person at a shell does, with a home of their own."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from clustercode.configuration import without_ours
from tests.integration.conftest import PROGRAM


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """An environment without any setting of ours, but for ``more``."""
    return {**without_ours(os.environ), "HOME": str(home), "COLUMNS": "80", **more}


async def run(*arguments: str, home: Path, stdin: str = "", **more: str) -> Ended:
    """Run ``clustercode`` with these arguments until it ends."""
    return await execute(*PROGRAM, *arguments, home=home, stdin=stdin, **more)


async def execute(*command: str, home: Path, stdin: str = "", **more: str) -> Ended:
    """Run a program with these arguments until it ends."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(home, **more),
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())
