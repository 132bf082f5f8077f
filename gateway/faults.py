"""How a defect is logged: where it happened and of what kind, never with its message, which may hold contents."""

import logging
import traceback


def report(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log a defect that ended ``what``: the error's type and the places in the code it came through."""
    steps = traceback.extract_tb(error.__traceback__)
    path = " > ".join(f"{step.filename.rsplit('/', 1)[-1]}:{step.lineno}" for step in steps)
    log.error("%s failed: %s at %s", what, type(error).__name__, path)
