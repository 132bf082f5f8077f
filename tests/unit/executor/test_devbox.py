"""A DevBox read from what Podman's list says, next to what inspecting it says."""

from typing import Any

import pytest

from executor.devbox import STATE, devbox_of
from executor.engine import said_by_list

LABELS = {
    "managed": "true", "install": "one", "devbox": "0123456789ab", "name": "box", "tenant": "local", "spec": "s",
    "profile": "open", "privileged": "false",
}  # fmt: skip


@pytest.mark.parametrize("mounts", [["/workspace", STATE], [{"Destination": STATE, "Type": "volume", "Name": "v"}]])
def test_the_list_and_inspecting_say_the_same(mounts: list[Any]) -> None:
    """Wherever the service's clock is set to, and in either form of mounts."""
    listed = {
        "Names": ["clustercode-0123456789ab"],
        "Image": "localhost/devbox:latest",
        "Labels": {f"io.clustercode.{key}": value for key, value in LABELS.items()},
        "State": "running",
        "Pid": 1,
        "ExitCode": 0,
        "Created": "2026-11-24T10:21:43.633644654-05:00",
        "StartedAt": 1795533703,
        "Mounts": mounts,
    }

    box = devbox_of(said_by_list(listed), "one")

    assert box is not None
    assert (box.created_at, box.started_at) == ("2026-11-24T15:21:43.633644654Z", "2026-11-24T15:21:43Z")
    assert (box.state, box.exit_code, box.has_state) == ("running", None, True)
    assert devbox_of(said_by_list(listed), "another") is None
