"""The image of what stands beside a DevBox: this machine's own socat with its libraries and nothing else.

So it needs no registry, no base image and no build; it is made where the engine does not have it yet.
"""

import asyncio
import hashlib
import io
import re
import subprocess
import tarfile
from pathlib import Path

from executor.devbox import PREFIX
from executor.egress_programs import program
from executor.engine import Engine
from protos.errors import NotFound, Unavailable

LABEL = "io.clustercode.part=egress"
_NAME = "localhost/clustercode-egress"


class EgressImage:
    """Makes the image once and knows its name."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._name = ""
        self._making = asyncio.Lock()

    async def ensure(self) -> str:
        """Return the image's name after making sure that the engine has it; raises `Unavailable` without a socat."""
        async with self._making:
            if not self._name or not await self._is_there():
                tag, data = await asyncio.to_thread(_archive)
                self._name = f"{_NAME}:{tag}"
                if not await self._is_there():
                    await self._engine.import_image(self._name, data, LABEL, timeout_s=60.0)
            return self._name

    async def _is_there(self) -> bool:
        """Say whether the engine has it, and not one that somebody built under its name."""
        try:
            labels = await self._engine.image_labels(self._name)
        except NotFound:
            return False
        name, _, value = LABEL.partition("=")
        return labels.get(name) == value and f"{PREFIX}builder" not in labels


def _archive() -> tuple[str, bytes]:
    """Return socat and what it is linked to as an archive, and a tag that stands for exactly that."""
    socat = program("socat")
    if socat is None:
        raise Unavailable("The machine has no socat: install it (Debian: apt-get install socat).")
    try:
        linked = subprocess.run(  # noqa: S603 - the machine's own program about its own program
            ["ldd", socat],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        linked = ""  # one that is linked statically, or none that will start: the sidecar then says so
    libraries = re.findall(r"(?:=> )?(/\S+) \(0x", linked)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, path in {"socat": socat, **{library.lstrip("/"): library for library in libraries}}.items():
            data = Path(path).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    data = buffer.getvalue()
    return hashlib.sha256(data).hexdigest()[:12], data
