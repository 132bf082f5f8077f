"""All checks, run one after the other against one worker, and the table of what came of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from conformance import background, connection, cuts, devboxes, displays, execs, images, messages, setup, terminals
from conformance.orchestrator import Refused, Violation
from conformance.scene import Scene

Check = Callable[[Scene], Awaitable[None]]
Outcome = Literal["passed", "limited", "failed"]

CHECK_TIMEOUT_S = 900.0

CHECKS: dict[str, Check] = {
    f"{module.__name__.removeprefix('conformance.')}: {check.__name__.replace('_', ' ')}": check
    for module in (messages, devboxes, execs, connection, setup, images, background, displays, terminals, cuts)
    for check in module.CHECKS
}
"""Every check by its name. A worker waits longer after each of several cuts, so most of those that cut come last."""


@dataclass(frozen=True)
class Result:
    """What came of one check. ``limited``: it holds, but for what the worker itself says it does not hold."""

    name: str
    claim: str
    outcome: Outcome
    detail: str
    seconds: float


async def run(scene: Scene, chosen: Iterable[str]) -> AsyncIterator[Result]:
    """Run the checks of these names in order. What one breaks is said in its result; the others still run."""
    for name in chosen:
        check = CHECKS[name]
        began = time.monotonic()
        try:
            held = await _outcome(check, scene)
        finally:  # stopped in the middle, too
            cleared = await _outcome(Scene.clear, scene)
        failures = [said for said in (held, cleared) if said]
        outcome: Outcome = "failed" if failures else "limited" if scene.notes else "passed"
        claim = (check.__doc__ or "").strip().splitlines()[0]
        yield Result(name, claim, outcome, "; ".join(failures or scene.notes), time.monotonic() - began)
        scene.notes.clear()


async def _outcome(step: Check, scene: Scene) -> str:
    """Return what a step says against the worker, empty if nothing."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await scene.connected()
            await step(scene)
    except (Violation, Refused) as said:
        return str(said)
    except TimeoutError:
        return "the worker did not do what was waited for"
    except (KeyError, TypeError, IndexError, ValueError) as error:
        return f"an answer is not as the protocol says: {type(error).__name__} {error}"
    return ""


def table(results: Iterable[Result]) -> str:
    """Return the results for a terminal, one check a line; what was found under it."""
    marks = {"passed": "ok", "limited": "ok, limited", "failed": "FAILED"}
    lines = []
    for result in results:
        lines.append(f"{marks[result.outcome]:<12} {result.seconds:6.1f} s  {result.name}")
        if result.outcome == "failed":
            lines.append(f"{'':22} due:   {result.claim}")
        if result.detail:
            lines.append(f"{'':22} found: {result.detail}")
    return "\n".join(lines)


def report(scene: Scene, results: Iterable[Result]) -> dict[str, Any]:
    """Return the results with what the worker said of itself, for a machine to read."""
    return {"worker": scene.register, "results": [asdict(result) for result in results]}
