"""``clustercode worker --install`` and ``--uninstall``: shows, asks, then writes or removes what makes it a service."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import click

from clustercode import program
from clustercode.configuration import Configuration
from clustercode.errors import Unusable
from clustercode.operator_client import NotRunning, Operator
from clustercode.service_files import File, Service, service
from executor.data_dir import install_of
from executor.images import BUILDER_LABEL

_SYSTEMD_RUNS = Path("/run/systemd/system")


def install(configuration: Configuration, *, root: bool) -> None:
    """Write the service's files after showing them, and start it where that can be done."""
    wanted = _service(configuration, root=root)
    new = [file for file in wanted.files if not (file.keep and Path(file.path).exists())]
    for file in new:
        click.echo(click.style(f"--- {file.path}", bold=True))
        click.echo(file.text)
    for file in wanted.files:
        if file not in new:
            click.echo(f"{file.path} is there and stays as it is.")
    if wanted.users:
        click.echo(f"Users, where they are missing, are made by\n{_shown(wanted.users)}")
    if not click.confirm("Write these files?" if not wanted.users else "Write these files, and make these users?"):
        raise click.Abort
    for file in new:
        _write(file)
    _execute(wanted.users)
    _run(wanted.prepare)
    if any(file.keep for file in new):
        click.echo(f"{wanted.note}\nThen start it:\n{_shown(wanted.start)}")
    else:
        _run(wanted.start)
        click.echo(wanted.note)


def uninstall(configuration: Configuration, *, root: bool) -> None:
    """Stop the service and remove its files; ask whether DevBoxes, their volumes and images go too."""
    there = _service(configuration, root=root)
    data_dir = there.data_dir or configuration.get("dataDir")
    _remove_devboxes(data_dir)
    _remove_images(configuration, data_dir)
    _run(there.stop)
    for file in there.files:
        if file.keep:
            click.echo(f"{file.path} stays.")
            continue
        try:
            Path(file.path).unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Unusable(f"{file.path} cannot be removed: {error.strerror}.") from None
        click.echo(f"{file.path} is removed.")
    _run([command for command in there.prepare if "daemon-reload" in command])
    if there.leaves:
        click.echo(there.leaves)


def _service(configuration: Configuration, *, root: bool) -> Service:
    path = program.path()
    if path is None or not path.isprintable() or " " in path:
        raise Unusable("The program 'clustercode' is not where a service could find it: install it with pip or pipx.")
    return service(
        platform=sys.platform,
        root=root,
        mode=configuration.get("mode"),
        program=path,
        home=PurePosixPath(Path.home()),
        has_sysusers=shutil.which("systemd-sysusers") is not None,
        known=_known(),
    )


def _known() -> set[str]:
    """Return the names of this machine's users and groups."""
    import grp  # noqa: PLC0415 - not on Windows
    import pwd  # noqa: PLC0415 - the same

    return {user.pw_name for user in pwd.getpwall()} | {group.gr_name for group in grp.getgrall()}


def _write(file: File) -> None:
    path = Path(file.path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    except OSError as error:
        raise Unusable(f"{path} cannot be written: {error.strerror}.") from None
    click.echo(f"{path} is written.")


def _run(commands: Sequence[Sequence[str]]) -> None:
    """Run commands of the service manager where one runs; else say which."""
    if not commands:
        return
    if sys.platform == "linux" and not _SYSTEMD_RUNS.exists():
        click.echo(f"No systemd runs here. Where it does:\n{_shown(commands)}")
        return
    _execute(commands)


def _execute(commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        try:
            ended = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)  # noqa: S603 - ours
        except OSError as error:
            raise Unusable(
                f"{command[0]} cannot be run: {error.strerror}. Do it by hand:\n{_shown(commands)}"
            ) from None
        if ended.returncode:
            raise Unusable(f"'{shlex.join(command)}' ended with {ended.returncode}; it says why above.")


def _shown(commands: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"  {shlex.join(command)}" for command in commands)


def _remove_devboxes(data_dir: Path) -> None:
    operator = Operator(data_dir)
    try:
        boxes = operator.devboxes()
    except NotRunning:
        click.echo(
            "The worker does not run, so its DevBoxes stay. To remove them start it once more: 'clustercode worker', "
            "and beside it 'clustercode devboxes remove --all'."
        )
        return
    names = ", ".join(box.name for box in boxes)
    if not boxes or not click.confirm(f"Remove its DevBoxes too ({names})?"):
        return
    keep_volumes = not click.confirm("And their volumes, with all files in them? It cannot be undone.")
    for box in boxes:
        operator.remove(box.id, keep_volumes=keep_volumes)
        click.echo(f"{box.name} ({box.id}) is removed.")


def _remove_images(configuration: Configuration, data_dir: Path) -> None:
    """Ask whether the images that this worker built go too."""
    engine = configuration.get("podmanPath") if configuration.get("runtime") != "docker" else "docker"
    if (install := install_of(data_dir)) is None:
        return  # No worker ever ran here.
    label = f"{BUILDER_LABEL}={install}"
    try:
        query = [engine, "images", "--quiet", "--no-trunc", "--filter", f"label={label}"]
        found = subprocess.run(query, check=False, capture_output=True, text=True, timeout=60).stdout.split()  # noqa: S603 - ours
    except (OSError, subprocess.TimeoutExpired):
        return  # No engine: no images.
    images = list(dict.fromkeys(found))
    if images and click.confirm(f"Remove the {len(images)} images that it built too?"):
        subprocess.run([engine, "rmi", *images], check=False, stdin=subprocess.DEVNULL, timeout=600)  # noqa: S603 - ours
