"""``clustercode doctor``: what this machine lacks, each with what mends it."""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from typing import Any

import click

from clustercode import logs
from clustercode.checks import Check, healthy
from clustercode.configuration import Configuration, for_worker
from clustercode.errors import ConfigurationError
from clustercode.home import Home
from clustercode.layout import labelled
from clustercode.options import config_file, given, options

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}
_KEYS = (
    "url", "tokenFile", "tenant", "mode", "allowInsecure", "gatewayUser", "executorUser", "dataDir", "runtime",
    "podmanPath", "engineSocket",
)  # fmt: skip
_SIGNS = {"pass": "ok", "warn": "warning", "fail": "FAILS"}


@click.command()
@config_file
@options(_KEYS)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: healthy, checks.")
def doctor(as_json: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Check that a worker can do its work on this machine.

    Login and registration, the orchestrator (by the same proxy and certificates), the users it runs as, the container
    engine and whether its limits hold, what rootless containers need, disk, memory, clock, leftovers. It changes
    nothing. A worker that is started with flags is checked with the same flags.

    Exit code 0: nothing fails. 1: something does, and it says what mends it.
    """
    logs.set_up("doctor", "ERROR")
    home = Home()
    try:
        configuration = for_worker(given(flags), os.environ, home)
    except ConfigurationError as error:
        found = [Check("configuration", "fail", error.message, "Correct it: docs/configuration.md has every setting.")]
    else:
        found = asyncio.run(_checked(configuration, home))
    if as_json:
        click.echo(json.dumps({"healthy": healthy(found), "checks": [asdict(check) for check in found]}, indent=2))
    else:
        _show(found)
    if not healthy(found):
        raise click.exceptions.Exit(1)


async def _checked(configuration: Configuration, home: Home) -> list[Check]:
    if sys.platform == "win32":
        return [Check("platform", "fail", "the worker does not run on Windows itself", "Run it inside WSL.")]
    from clustercode.check_account import check_account  # noqa: PLC0415 - loads the network's part
    from clustercode.check_engine import check_engine  # noqa: PLC0415 - loads the engine's part
    from clustercode.check_machine import check_egress, check_machine, check_rootless  # noqa: PLC0415 - the same
    from clustercode.check_users import another_users_engine, check_users  # noqa: PLC0415 - the same

    of_users, users = check_users(configuration)
    if users is not None and (elsewhere := another_users_engine(configuration, users)):
        account, of_engine, storage = await check_account(configuration, home), [elsewhere], None
    else:
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(check_account(configuration, home), name="account")
            engine = tasks.create_task(check_engine(configuration), name="engine")
        account, (of_engine, storage) = asked.result(), engine.result()
    rootless = [] if configuration.get("runtime") == "docker" else check_rootless()
    machine = [check_egress(), *check_machine(configuration.get("dataDir"), storage)]
    return [*account, *of_users, *of_engine, *rootless, *machine]


def _show(found: list[Check]) -> None:
    for check in found:
        click.echo(labelled(_SIGNS[check.status], f"{check.name}: {check.detail}", fg=_COLOURS[check.status]))
        if check.fix and check.status != "pass":
            sentence, *commands = check.fix.splitlines()
            click.echo(labelled("", f"-> {sentence}"))
            for command in commands:  # not wrapped: each can be copied
                click.echo(f"   {command}")
    bad = sum(check.status == "fail" for check in found)
    warned = sum(check.status == "warn" for check in found)
    click.echo()
    if bad:
        click.echo(f"{bad} of {len(found)} checks fail; what mends each stands beside it.")
    else:
        click.echo(f"A worker can run here.{f' {warned} warnings.' if warned else ''}")
