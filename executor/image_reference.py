"""Names of images, as callers write them. Pure.

Engines take more than names where a name belongs: ``dir:/etc``, ``docker-archive:/file`` and their like would read the
engine's own disk. Here a reference is a name with a tag or a digest, or an id, and nothing else.
"""

import re

from protos.errors import InvalidArgument

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*(?::[0-9]{1,5})?/)?"
_PATH = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REFERENCE = re.compile(rf"{_HOST}{_PATH}(?:/{_PATH})*(?::{_TAG})?(?:@{_DIGEST})?")
_ID = re.compile(rf"{_DIGEST}|[0-9a-f]{{12,64}}")
_BUILT_NAME = re.compile(rf"(?:localhost/)?(?P<path>{_PATH}(?:/{_PATH})*)")
_BUILT_TAG = re.compile(_TAG)
_MAX_LENGTH = 512
_OWN = "clustercode-"

_TRANSPORTS = frozenset(
    {"atomic", "containers-storage", "dir", "docker", "docker-archive", "docker-daemon"}
    | {"oci", "oci-archive", "ostree", "sif", "tarball"}
)
"""What containers/image reads before a colon as a way to get an image instead of as a name."""


def is_reference(text: str) -> bool:
    """Return whether this names an image and cannot mean anything else to an engine."""
    return (
        len(text) <= _MAX_LENGTH
        and (_REFERENCE.fullmatch(text) is not None or is_id(text))
        and text.partition(":")[0] not in _TRANSPORTS
    )


def is_id(text: str) -> bool:
    """Return whether this looks like an image's id, whole or shortened, rather than like a name."""
    return _ID.fullmatch(text) is not None


def built_name(name: str, tag: str) -> str:
    """Return the full name of an image that is built here; raises `InvalidArgument`.

    It lies under ``localhost/``: a name of a registry would stand in for that registry's image in every later create.
    """
    match = _BUILT_NAME.fullmatch(name)
    first, slash, _ = match["path"].partition("/") if match else ("", "", "")
    if match is None or len(name) > 200 or (slash and "." in first and not name.startswith("localhost/")):
        raise InvalidArgument(
            "name: lower-case letters, digits, '.', '_', '-' and '/', without a registry and without a tag; "
            "images that are built here are called localhost/NAME."
        )
    if first.startswith(_OWN):
        raise InvalidArgument(f"name: names that begin with {_OWN} are the worker's own; choose another.")
    if tag and _BUILT_TAG.fullmatch(tag) is None:
        raise InvalidArgument("tag: letters, digits, '.', '_' and '-', at most 128, not beginning with '.' or '-'.")
    return f"localhost/{match['path']}:{tag or 'latest'}"
