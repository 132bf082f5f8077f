"""Where a machine's own files of configuration are, on each platform; and what a platform is called."""

from pathlib import PurePath

import pytest

from clustercode.configuration import etc_directory
from gateway.machine import platform_name


@pytest.mark.parametrize(
    ("platform", "environ", "directory"),
    [
        ("linux", {}, "/etc/clustercode"),
        ("darwin", {"PROGRAMDATA": "x"}, "/etc/clustercode"),
        ("win32", {"PROGRAMDATA": r"D:\Data"}, r"D:\Data\clustercode"),
        ("win32", {}, r"C:\ProgramData\clustercode"),
    ],
)
def test_each_platform_has_its_own_place(platform: str, environ: dict[str, str], directory: str) -> None:
    """As its administrators expect."""
    found: PurePath = etc_directory(platform, environ)

    assert str(found) == directory


@pytest.mark.parametrize(
    ("platform", "name"), [("linux", "linux"), ("darwin", "darwin"), ("win32", "windows"), ("cygwin", "windows")]
)
def test_platforms_have_the_protocols_names(platform: str, name: str) -> None:
    """Not Python's."""
    assert platform_name(platform) == name
