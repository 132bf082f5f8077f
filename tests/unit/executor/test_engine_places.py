"""Where an engine's socket is looked for, on machines that these tests do not run on too."""

from pathlib import Path

import pytest

from executor.engine_places import candidate_sockets, install_advice, may_start_service, start_advice


@pytest.mark.parametrize(
    ("platform", "runtime", "uid", "environ", "expected"),
    [
        ("linux", None, 0, {}, ["/run/podman/podman.sock"]),
        ("linux", None, 1000, {"XDG_RUNTIME_DIR": "/x"}, ["/x/podman/podman.sock", "/run/podman/podman.sock"]),
        ("linux", "podman", 1000, {}, ["/run/user/1000/podman/podman.sock", "/run/podman/podman.sock"]),
        ("linux", "docker", 0, {}, ["/run/docker.sock", "/var/run/docker.sock"]),
        ("linux", None, 0, {"DOCKER_HOST": "unix:///d.sock"}, ["/d.sock", "/run/podman/podman.sock"]),
        ("linux", None, 0, {"DOCKER_HOST": "tcp://127.0.0.1:2375"}, ["/run/podman/podman.sock"]),
        (
            "darwin", None, 501, {"HOME": "/Users/ann", "TMPDIR": "/var/folders/x/T/"},
            [
                "/var/folders/x/T/podman/podman-machine-default-api.sock",
                "/Users/ann/.local/share/containers/podman/machine/podman.sock",
                "/Users/ann/.local/share/containers/podman/machine/podman-machine-default/podman.sock",
            ],
        ),
        (
            "darwin", "docker", 501, {"HOME": "/Users/ann"},
            ["/Users/ann/.docker/run/docker.sock", "/var/run/docker.sock"],
        ),
        (
            "darwin", "docker", 501, {"HOME": "/Users/ann", "DOCKER_HOST": "unix:///var/run/docker.sock"},
            ["/var/run/docker.sock", "/Users/ann/.docker/run/docker.sock"],
        ),
    ],
)  # fmt: skip
def test_sockets_are_looked_for_where_the_platforms_engines_put_them(
    platform: str, runtime: str, uid: int, environ: dict[str, str], expected: list[str]
) -> None:
    """What DOCKER_HOST says comes first; each place once."""
    assert candidate_sockets(runtime, environ, uid, platform) == [Path(path) for path in expected]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("runtime", "platform", "may"),
    [(None, "linux", True), ("podman", "linux", True), ("docker", "linux", False), (None, "darwin", False)],
)
def test_podmans_service_is_started_on_linux_alone(runtime: str, platform: str, may: bool) -> None:
    """On macOS it runs in Podman's machine, which its owner starts."""
    assert may_start_service(runtime, platform) == may  # type: ignore[arg-type]


def test_advice_is_the_platforms_own() -> None:
    """What to type there."""
    assert "brew install podman" in install_advice("darwin")
    assert "WSL" in install_advice("win32")
    assert "apt-get install podman" in install_advice("linux")
    assert start_advice(None, "darwin") == "Start its machine: podman machine start"
    assert "Docker Desktop" in start_advice("docker", "darwin")
    assert "systemctl start docker" in start_advice("docker", "linux")
