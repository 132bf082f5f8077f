"""Names of images."""

import pytest

from executor.image_reference import built_name, is_reference
from protos.errors import InvalidArgument

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "text",
    [
        "debian",
        "debian:bookworm",
        "localhost/devbox:latest",
        "registry.example:5000/team/app:v1.2",
        f"quay.io/team/app@{DIGEST}",
        f"quay.io/team/app:v1@{DIGEST}",
        DIGEST,
        "0123456789ab",
    ],
)
def test_names_digests_and_ids_are_references(text: str) -> None:
    """What people write is taken."""
    assert is_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dir:/etc",
        "dir:etc",
        "oci:x",
        "oci-archive:/x",
        "docker://debian",
        "docker-archive:/etc/passwd",
        "containers-storage:debian",
        "-v",
        "../x",
        "a b",
        "Debian",
        "x:",
        "x@sha256:1",
        "debian\n",
        "x" * 600,
    ],
)
def test_what_an_engine_could_read_otherwise_is_none(text: str) -> None:
    """No way to get an image but its name: engines would read their own disk."""
    assert not is_reference(text)


def test_built_images_lie_under_localhost() -> None:
    """With or without saying so, and with "latest" where no tag is given."""
    assert built_name("app", "") == "localhost/app:latest"
    assert built_name("localhost/team/app", "v1") == "localhost/team/app:v1"


@pytest.mark.parametrize(
    ("name", "tag"),
    [("docker.io/library/debian", ""), ("x:1", ""), ("App", ""), ("", ""), ("a" * 300, ""), ("x", "-y"), ("x", "a/b")],
)
def test_names_of_registries_are_not_given_to_what_is_built(name: str, tag: str) -> None:
    """Otherwise one tenant's image would stand in for the registry's in every later create."""
    with pytest.raises(InvalidArgument):
        built_name(name, tag)
