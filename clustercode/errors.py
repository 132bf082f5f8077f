"""What ends a command of ours, each with its exit code and a sentence. Click prints it; there is no traceback."""

import click

USAGE = 2
REFUSED = 3
UNUSABLE = 4


class ConfigurationError(click.ClickException):
    """A file, a variable or a flag says what cannot be: exit 2, as for a wrong command line."""

    exit_code = USAGE


class TokenNotAccepted(click.ClickException):
    """The orchestrator refused the token: exit 3, as the gateway ends."""

    exit_code = REFUSED


class Unusable(click.ClickException):
    """Something on this machine must be put right first: exit 4."""

    exit_code = UNUSABLE
