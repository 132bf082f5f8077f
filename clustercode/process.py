"""What the commands that run something have in common: logs, the loop, and how they end."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, NoReturn

from clustercode.notify import ServiceManager

MAX_DESCRIPTORS: Final = 65_536
"""Many times what the bounds on terminals, displays and calls add up to."""


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


def allow_many_descriptors() -> None:
    """Raise the soft limit on open files, often 1024, towards the hard one: each terminal takes one in each process.

    What is kept low for programs that call select(2) is of no use here; runtimes such as Go's and the JVM do the same.
    Bounded, because some programs walk through all that they might have open, and children inherit this. Of ours that
    is the executor's Podman, itself in Go; egress with its Squid is a child of neither process.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a bound of its own below an unlimited one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
