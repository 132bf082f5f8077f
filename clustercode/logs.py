"""How this program logs: one line per event on standard error."""

import logging
import os

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def set_up(process: str, level: str) -> None:
    """Log to standard error as ``time process level message``; call once, before anything logs."""
    # gRPC's core writes lines of its own that say nothing to our users; its errors reach us as exceptions.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # We start programs with exec right after fork: gRPC's fork handlers are not needed, and they complain.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    logging.basicConfig(
        level=level,
        format=f"%(asctime)s {process:<10} %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    # A line per frame would bury ours, and may hold what was typed.
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
