"""How a command of the orchestrator becomes one of the box."""


def argv(command: list[str] | str) -> list[str]:
    """Return a command as program and arguments: a string is for the box's shell."""
    return ["/bin/sh", "-c", command] if isinstance(command, str) else command
