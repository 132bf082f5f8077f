"""What the commands that run something have in common: logs, the loop, and how they end."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from clustercode.notify import ServiceManager


def quicken_grpc() -> None:
    """Have gRPC wait for its sockets in our thread instead of handing each event through two of its own.

    Must be called before gRPC is imported. A third off the round trip between the processes and a quarter off their
    CPU time (docs/performance.md). A gRPC that no longer knows the switch says so on stderr and works as before.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")


def leave_no_core_file() -> None:
    """Have the kernel write none of this process if it crashes: the token would be in it."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(program: Coroutine[Any, Any, object], manager: ServiceManager | None = None) -> NoReturn:
    """Run a process on the fastest loop there is, watched by who manages the service, and end with its exit code."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    else:
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        result = runner.run(_watched(program, manager) if manager else program)
    sys.exit(result if isinstance(result, int) else 0)


async def _watched(program: Coroutine[Any, Any, object], manager: ServiceManager) -> object:
    manager.watch()
    return await program
