"""``clustercode conformance``: an orchestrator end for one worker, the protocol's checks, a table."""

import asyncio
import json
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from clustercode import program
from clustercode.errors import Unusable
from conformance import suite
from conformance.orchestrator import Orchestrator, orchestrator
from conformance.scene import Scene, Target, scene


@dataclass(frozen=True)
class Plan:
    """What to check and how the worker gets here."""

    host: str
    port: int
    token_file: Path | None
    target: Target
    wait_s: float
    only: tuple[str, ...]
    report: Path | None


async def run(plan: Plan) -> int:
    """Wait for a worker, run the checks, print the table; returns 0 if all of them hold, else 1.

    A signal stops it: what was made on the worker until then is still removed.
    """
    try:
        async with asyncio.TaskGroup() as group:
            checking = group.create_task(_run(plan), name="checks")
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, checking.cancel)
    except* Unusable as errors:
        raise errors.exceptions[0] from None
    return 1 if checking.cancelled() else checking.result()


async def _run(plan: Plan) -> int:
    chosen = [name for name in suite.CHECKS if not plan.only or any(part in name for part in plan.only)]
    async with _listening(plan) as listening:
        print(
            f"Waiting for a worker on {listening.worker_url}, for example:\n\n"
            f"    {program.shown()} worker --url {listening.worker_url} "
            f"--token-file {shlex.quote(str(listening.token_file))} --tenant local\n",
            flush=True,
        )
        try:
            async with scene(listening, plan.target, plan.wait_s) as running:
                return await _check(plan, running, chosen)
        except TimeoutError:
            print(f"clustercode conformance: no worker with an engine came in {plan.wait_s:.0f} s", file=sys.stderr)
            return 1


async def _check(plan: Plan, running: Scene, chosen: list[str]) -> int:
    register = running.register
    print(
        f"Worker {register['name']} on {register['hostname']}: agent {register['agentVersion']}, "
        f"engines {', '.join(register['containerEngines'])}, tenant {running.tenant}\n",
        flush=True,
    )
    results = []
    async for result in suite.run(running, chosen):
        results.append(result)
        print(suite.table([result]), flush=True)
    if plan.report is not None:
        plan.report.write_text(json.dumps(suite.report(running, results), indent=1) + "\n")
    counts = {kind: sum(result.outcome == kind for result in results) for kind in ("passed", "limited", "failed")}
    print(f"\n{counts['passed']} passed, {counts['limited']} passed with limits, {counts['failed']} failed")
    return 1 if counts["failed"] or not results else 0


@asynccontextmanager
async def _listening(plan: Plan) -> AsyncIterator[Orchestrator]:
    """Listen, with the token of the file given or a new one in a directory that goes again."""
    token = plan.token_file.read_text().strip() if plan.token_file else secrets.token_urlsafe(32)
    directory = Path(tempfile.mkdtemp(prefix="clustercode-conformance-"))
    try:
        async with AsyncExitStack() as stack:
            try:
                listening = await stack.enter_async_context(
                    orchestrator(directory, host=plan.host, port=plan.port, token=token)
                )
            except OSError as error:
                reason = error.strerror or error
                raise Unusable(f"Cannot listen on {plan.host}, port {plan.port}: {reason}. Choose others.") from None
            yield listening
    finally:
        shutil.rmtree(directory, ignore_errors=True)
