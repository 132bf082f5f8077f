"""The container engine: is there one, does it answer, does it hold limits, and what lies there of nobody.

Where a worker would start Podman's service itself, so does this, in a directory of its own that goes again.
"""

import asyncio
import json
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from clustercode.checks import Check
from clustercode.configuration import Configuration
from executor.data_dir import install_of
from executor.devbox import PREFIX, devbox_id_of
from executor.egress_containers import is_beside
from executor.engine import Engine, EngineInfo
from executor.engine_places import candidate_sockets, install_advice, may_start_service, other_advice, start_advice
from executor.engine_service import EngineService, first_live, no_docker
from executor.policy import Limits, Profile, box_options
from executor.readback import missing_limits
from protos.errors import Refusal, Unavailable

_START_S = 25.0
_PROBE_MEMORY_BYTES = 64 * 1024**2
_LABEL = f"{PREFIX}doctor"
_INSTALL = f"{PREFIX}install"
_LEFT_AFTER_S = 300.0
_OLDEST = {"podman": 4, "docker": 20}
"""Major versions whose API does all that is asked of them."""


async def check_engine(configuration: Configuration) -> tuple[list[Check], Path | None]:
    """Look at the engine; returns also where it stores, if that is known."""
    data_dir: Path = configuration.get("dataDir")
    async with _engine(configuration) as found:
        if isinstance(found, Check):
            return [found], None
        engine, socket = found
        try:
            info = await engine.learn()
        except Refusal as refusal:
            return [
                Check("engine", "fail", refusal.message, "Restart it: it takes connections and does not work.")
            ], None
        said = [_version(info, socket, configuration.get("runtime"))]
        try:
            said += [await _limits(engine, configuration), await _leftovers(engine, info, data_dir)]
        except Refusal as refusal:
            said.append(Check("engine", "fail", refusal.message, f"Try it by hand: {info.kind} run --rm IMAGE true"))
        return said, Path(info.storage)


@asynccontextmanager
async def _engine(configuration: Configuration) -> "AsyncIterator[tuple[Engine, Path | None] | Check]":
    """Give an engine that answers and its socket, or the check that says why there is none.

    No socket: it was started for the while.
    """
    runtime, fixed = configuration.get("runtime"), configuration.get("engineSocket")
    program = shutil.which(configuration.get("podmanPath"))
    running = [] if runtime == "docker" else [configuration.get("dataDir") / "engine" / "podman.sock"]
    places = [fixed] if fixed else [*candidate_sockets(runtime, os.environ, os.geteuid(), sys.platform), *running]
    live = await first_live(places)
    if live is None and fixed is not None:
        yield Check("engine", "fail", f"no engine answers on {fixed}", "Start it, or correct ENGINE_SOCKET.")
        return
    if live is None and runtime == "docker":
        yield Check("engine", "fail", *no_docker())
        return
    if live is None and program is None:
        yield Check(
            "engine", "fail", f"{configuration.get('podmanPath')} is not installed", install_advice(sys.platform)
        )
        return
    if live is None and not may_start_service(runtime, sys.platform):
        yield Check("engine", "fail", "Podman does not answer on its socket", start_advice("podman", sys.platform))
        return
    with tempfile.TemporaryDirectory(prefix="clustercode-doctor-") as directory:
        service = EngineService(
            directory=Path(directory), runtime=runtime, fixed=live, podman_path=configuration.get("podmanPath")
        )
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(service.run(), name="engine service")
            engine = Engine(service.locate)
            try:
                await service.ready(_START_S)
                try:
                    socket = service.locate()
                except Unavailable as refusal:
                    yield Check("engine", "fail", refusal.message, "Find out why by hand: podman info")
                    return
                yield engine, socket if live else None
            finally:
                await engine.aclose()
                keeping.cancel()


def _version(info: EngineInfo, socket: Path | None, wanted: Literal["podman", "docker"] | None) -> Check:
    where = f"on {socket}" if socket else "(its service starts, as a worker will start it)"
    detail = f"{info.kind} {info.version} {where}{', rootless' if info.rootless else ''}"
    major = info.version.partition(".")[0]
    if major.isdigit() and int(major) < _OLDEST[info.kind]:
        return Check("engine", "fail", f"{detail} is too old", f"Install {info.kind} {_OLDEST[info.kind]} or later.")
    if wanted and wanted != info.kind:
        return Check("engine", "warn", f"{detail}, and not {wanted}", other_advice(wanted, info.kind))
    return Check("engine", "pass", detail)


async def _limits(engine: Engine, configuration: Configuration) -> Check:
    """Start a scratch container with every limit, and read back from the kernel whether they hold."""
    image = await _any_image(engine)
    if image is None:
        return Check("limits", "warn", "not tried: there is no image yet to try them with")
    for left in await _containers(engine, f"{_LABEL}=true"):
        if time.time() - left["Created"] > _LEFT_AFTER_S:  # by a doctor that was killed
            await engine.remove(left["Id"])
    promised = box_options(Profile.STANDARD, asked=Limits(_PROBE_MEMORY_BYTES, 0.5, 32))
    name = f"clustercode-doctor-{secrets.token_hex(6)}"
    try:
        await engine.ask(
            "POST", "containers/create", params={"name": name}, timeout_s=60.0,
            body={
                "Image": image, "Entrypoint": ["tail", "-f", "/dev/null"], "Cmd": [], "Labels": {_LABEL: "true"},
                "HostConfig": {
                    "NetworkMode": "none", "Memory": _PROBE_MEMORY_BYTES, "MemorySwap": _PROBE_MEMORY_BYTES,
                    "NanoCpus": 500_000_000, "PidsLimit": 32, "CapDrop": ["ALL"],
                },
            },
        )  # fmt: skip
        await engine.start(name)
        missing = missing_limits(await engine.inspect(name), promised)
    except Refusal as refusal:
        fix = f"Try it by hand: podman run --rm {image} true"
        return Check("limits", "fail", f"a container does not start: {refusal.message}", fix)
    finally:
        with suppress(Refusal):
            await engine.remove(name)
    accepted = configuration.get("security.acceptMissingLimits")
    refused = [limit for limit in missing if limit not in accepted]
    if refused:
        fix = (
            "Use cgroups v2 with delegation (systemd does that), or a rootful engine; or accept it: clustercode config "
            f"set ACCEPT_MISSING_LIMITS {','.join(missing)}"
        )
        return Check("limits", "fail", f"this engine does not hold {', '.join(refused)}", fix)
    if missing:
        return Check("limits", "warn", f"not held, as you accepted: {', '.join(missing)}")
    return Check("limits", "pass", "memory, cpus and pids hold")


async def _any_image(engine: Engine) -> str | None:
    """Return an image of ours that is there, else the smallest; none is pulled for this."""
    images = [image for image in await engine.ask("GET", "images/json") if image.get("RepoTags")]
    images.sort(key=lambda image: ("io.clustercode.managed" not in (image.get("Labels") or {}), image.get("Size", 0)))
    return str(images[0]["RepoTags"][0]) if images else None


async def _leftovers(engine: Engine, info: EngineInfo, data_dir: Path) -> Check:
    """Look for DevBoxes, what stands beside them and their volumes that no worker of this data directory will find."""
    ours = install_of(data_dir)
    labelled = {str(found["Names"][0]).removeprefix("/"): found for found in await _containers(engine, _INSTALL)}
    # A container inherits the labels of its image, or of what that was made from; the names are the executor's alone.
    containers = {name: found for name, found in labelled.items() if devbox_id_of(name) or is_beside(name)}
    filters = json.dumps({"label": [_INSTALL]})
    volumes = (await engine.ask("GET", "volumes", params={"filters": filters})).get("Volumes") or []
    of_containers, of_volumes = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for name, found in containers.items():
        of_containers[found["Labels"][_INSTALL]].append(name)
    for found in volumes:
        of_volumes[found["Labels"][_INSTALL]].append(found["Name"])
    installs = sorted({*of_containers, *of_volumes} - {ours})
    if not installs:
        boxes = sum(devbox_id_of(name) is not None for name in labelled)
        return Check("leftovers", "pass", f"none; {boxes} DevBoxes are this worker's")
    # Podman removes no container that another depends on, unless it is told to remove both.
    remove = "podman rm -fv --depend" if info.kind == "podman" else "docker rm -fv"
    fix = ["If no other worker runs here, remove them, with all files in the volumes:"]
    for install in installs:
        for verb, names in ((remove, of_containers[install]), (f"{info.kind} volume rm", of_volumes[install])):
            fix += [" ".join([verb, *map(shlex.quote, sorted(names))])] if names else []
    counts = [sum(len(found[install]) for install in installs) for found in (of_containers, of_volumes)]
    detail = "{} containers and {} volumes of another installation or data directory".format(*counts)
    return Check("leftovers", "warn", detail, "\n".join(fix))


async def _containers(engine: Engine, label: str) -> list[dict[str, Any]]:
    filters = json.dumps({"label": [label]})
    found: list[dict[str, Any]] = await engine.ask("GET", "containers/json", params={"all": 1, "filters": filters})
    return found
