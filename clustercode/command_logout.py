"""``clustercode logout``: forgets the token."""

import click

from clustercode.home import Home


@click.command()
def logout() -> None:
    """Forget who is logged in on this machine.

    A worker that runs keeps its connection until it is stopped. DevBoxes stay. The registration stays as well, so that
    this machine is the same worker when you log in again.
    """
    click.echo("Logged out." if Home().log_out() else "Nobody was logged in.")
