"""Where engines put their sockets, on each platform, and how each is installed. Pure.

On Linux the engine runs beside us. On macOS it runs in a virtual machine, Podman's own or Docker Desktop's, which
forwards a socket; nobody but its owner starts that machine. Windows has no Unix sockets for our two processes: there
the worker runs inside WSL, which is Linux.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

Runtime = Literal["podman", "docker"]


def candidate_sockets(
    runtime: Runtime | None, environ: Mapping[str, str], uid: int, platform: str = "linux"
) -> list[Path]:
    """Return where the engine's socket may be, best first; ``platform`` is ``sys.platform``.

    ``DOCKER_HOST`` counts unless another engine than Docker's API is asked for by name; only Unix sockets do.
    """
    found = []
    docker_host = environ.get("DOCKER_HOST", "")
    if docker_host.startswith("unix://"):
        found.append(docker_host.removeprefix("unix://"))
    if platform == "darwin":
        found += _on_macos(runtime, environ)
    else:
        found += _on_linux(runtime, environ, uid)
    return [Path(path) for path in dict.fromkeys(found)]


def _on_linux(runtime: Runtime | None, environ: Mapping[str, str], uid: int) -> list[str]:
    found = []
    if runtime in (None, "podman"):
        if uid != 0:
            found.append(f"{environ.get('XDG_RUNTIME_DIR') or f'/run/user/{uid}'}/podman/podman.sock")
        found.append("/run/podman/podman.sock")
    if runtime == "docker":
        found += ["/run/docker.sock", "/var/run/docker.sock"]
    return found


def _on_macos(runtime: Runtime | None, environ: Mapping[str, str]) -> list[str]:
    home = PurePosixPath(environ.get("HOME") or "/")
    found = []
    if runtime in (None, "podman"):
        # Podman 5 puts the default machine's socket into the user's own temporary directory, Podman 4 below the home.
        if temporary := environ.get("TMPDIR"):
            found.append(str(PurePosixPath(temporary) / "podman" / "podman-machine-default-api.sock"))
        machine = home / ".local/share/containers/podman/machine"
        found += [str(machine / "podman.sock"), str(machine / "podman-machine-default" / "podman.sock")]
    if runtime == "docker":
        found += [str(home / ".docker/run/docker.sock"), "/var/run/docker.sock"]
    return found


def may_start_service(runtime: Runtime | None, platform: str) -> bool:
    """Tell whether ``podman system service`` can be started here: on macOS that is the virtual machine's affair."""
    return runtime != "docker" and platform == "linux"


def install_advice(platform: str) -> str:
    """Return how Podman gets onto this machine."""
    match platform:
        case "darwin":
            return "Install Podman: brew install podman; then podman machine init && podman machine start"
        case "win32":
            return "Install Podman inside WSL, where the worker runs: apt-get install podman"
        case _:
            return "Install Podman, as root: apt-get install podman (or dnf install podman)"


def other_advice(wanted: Runtime, found: Runtime) -> str:
    """Return what to do where another engine answers than the one that was asked for."""
    return f"Start {wanted.capitalize()} and name its socket (--engine-socket), or ask for the other one (--{found})"


def start_advice(runtime: Runtime | None, platform: str) -> str:
    """Return how an engine that is installed gets started."""
    if platform == "darwin":
        return "Start Docker Desktop" if runtime == "docker" else "Start its machine: podman machine start"
    return "As root: systemctl start docker" if runtime == "docker" else "As root: systemctl start podman.socket"
