"""``clustercode demo``: all of it on this machine, to try."""

import click

from clustercode import logs, process
from clustercode.settings import PORT


@click.command()
@click.option("--check", is_flag=True, help="Go through it without a browser, remove all of it, and end.")
@click.option(
    "--port",
    type=PORT,
    default=7070,
    help="Port of the page on 127.0.0.1; 0 takes any that is free.  [default: 7070]",
)
@click.option("--image", default="localhost/devbox:latest",
              help="Image of the first DevBox.  [default: localhost/devbox:latest]")  # fmt: skip
def demo(check: bool, port: int, image: str) -> None:
    """Try it all on this machine.

    It starts console, worker and a first DevBox. Ctrl-C removes all of it but the images, and says how to remove those.
    """
    logs.set_up("demo", "WARNING")
    from clustercode.demo import run  # noqa: PLC0415 - only this command needs it

    process.run(run(check=check, port=0 if check else port, image=image))
