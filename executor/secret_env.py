"""Gives a DevBox's secret environment to its commands, without the engine's help.

What is given to an exec as environment, engines write to their store: Podman's database holds it even after the DevBox
is removed. So the secrets go by a stream into a file in the DevBox's own memory (``/dev/shm``, which ends with it), and
a command that shall have them begins with a line of `sh` that reads them and then becomes the command.
"""

from collections import OrderedDict
from collections.abc import Collection

from executor.data_dir import DataDir
from executor.devbox import DevBox
from executor.engine import Engine
from executor.exec_command import run_command
from executor.requests import ExecDevBox
from protos.errors import FailedPrecondition

_FILE = "/dev/shm/.clustercode-env"  # noqa: S108 - in the DevBox
_PLACE = f"umask 222; rm -f {_FILE}; cat >{_FILE}.$$ && mv -f {_FILE}.$$ {_FILE}"
# The file asks $1 which names the command's own environment has: those are stronger.
_READ = f'. {_FILE}; shift; exec "$@"'
_TIMEOUT_MS = 15_000
_REMEMBERED = 10_000


class SecretEnv:
    """The secrets of all DevBoxes, as commands get them."""

    def __init__(self, engine: Engine, data_dir: DataDir) -> None:
        self._engine = engine
        self._data_dir = data_dir
        # In which start of a DevBox the file was placed; a restart by others loses it.
        self._placed: OrderedDict[str, str] = OrderedDict()

    async def prefix(self, box: DevBox, given: Collection[str] = ()) -> tuple[str, ...]:
        """Return what goes before a command, so that it has the DevBox's secrets but for the names ``given``.

        Empty where it has none. Raises `FailedPrecondition` where the DevBox cannot take them.
        """
        secrets = self._data_dir.secrets(box.id)
        if not secrets:
            return ()
        if self._placed.get(box.id) != box.started_at:
            await self._place(box, secrets)
            self._placed[box.id] = box.started_at
            while len(self._placed) > _REMEMBERED:
                self._placed.popitem(last=False)
        return ("/bin/sh", "-c", _READ, "sh", f":{':'.join(given)}:")

    async def _place(self, box: DevBox, secrets: dict[str, str]) -> None:
        asked = ExecDevBox(
            tenant=box.tenant,
            devbox_id=box.id,
            argv=("/bin/sh", "-c", _PLACE),
            user="0",
            stdin=file_text(secrets).encode(),
            timeout_ms=_TIMEOUT_MS,
        )
        result = await run_command(self._engine, box.container, asked, {}, None)
        if result.exit_code != 0:
            raise FailedPrecondition(
                f"{box.name} cannot take its secretEnv (exit code {result.exit_code}): that needs /bin/sh and room in "
                "/dev/shm."  # noqa: S108 - in the DevBox
            )


def file_text(secrets: dict[str, str]) -> str:
    """Return the file: a line of shell for each variable, whatever its value holds."""
    quoted = {name: "'" + value.replace("'", "'\\''") + "'" for name, value in secrets.items()}
    return "".join(f"case $1 in *:{name}:*) ;; *) export {name}={value} ;; esac\n" for name, value in quoted.items())
