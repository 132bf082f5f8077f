"""Build contexts: what reaches the engine of an archive that a stranger sent."""

import io
import tarfile
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.context_tar import write_context
from protos.errors import Cancelled, InvalidArgument, Refusal, ResourceExhausted

Pack = Callable[[tarfile.TarFile], None]


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"") -> Pack:
    """One member of an archive."""

    def pack(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, target, len(content)
        info.uid, info.mode = 1234, 0o4755
        archive.addfile(info, io.BytesIO(content))

    return pack


def archive_of(*packs: Pack) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for pack in packs:
            pack(archive)
    return packed.getvalue()


def written(data: bytes, *, max_bytes: int = 10**6) -> tuple[str, dict[str, tarfile.TarInfo], dict[str, bytes]]:
    """What the engine gets: the Containerfile's name, members and contents."""
    target = io.BytesIO()
    name = write_context(io.BytesIO(data), target, "FROM x", max_bytes=max_bytes, stopped=lambda: False)
    target.seek(0)
    with tarfile.open(fileobj=target) as archive:
        members = {found.name: found for found in archive}
        contents = {found.name: archive.extractfile(found).read() for found in members.values() if found.isreg()}  # type: ignore[union-attr]
    return name, members, contents


def test_members_are_written_anew() -> None:
    """Files, folders and links that stay inside come through, without owners and special bits."""
    name, members, contents = written(
        archive_of(
            member("./a", content=b"1"),
            member("dir", tarfile.DIRTYPE),
            member("dir/up", tarfile.SYMTYPE, "../a"),
            member("dir/same", tarfile.LNKTYPE, "./a"),
        )
    )

    assert contents["a"] == b"1"
    assert contents[name] == b"FROM x"
    assert (members["a"].uid, members["a"].mode) == (0, 0o755)
    assert members["dir/up"].linkname == "../a"
    assert members["dir/same"].linkname == "a"


def test_the_containerfile_has_a_name_of_its_own_and_is_ignored() -> None:
    """Whatever the context holds: its own ignore files keep what they say, and COPY copies none of ours."""
    name, _, contents = written(archive_of(member(".clustercode.containerfile", content=b"theirs")))
    assert contents[".clustercode.containerfile"] == b"theirs"
    assert name == ".clustercode.containerfile-"
    assert contents[".dockerignore"].decode().split() == [name, ".dockerignore"]

    name, _, contents = written(archive_of(member(".dockerignore", content=b"*.log")))
    assert contents[".dockerignore"].decode().split() == ["*.log", name]

    name, _, contents = written(archive_of(member(".containerignore", content=b"*.log")))
    assert contents[".containerignore"].decode().split() == ["*.log", name, ".dockerignore"]


@pytest.mark.parametrize(
    "packs",
    [
        (member("/etc/passwd"),),
        (member("../x"),),
        (member("a/../../x"),),
        (member("x", tarfile.SYMTYPE, "/etc/passwd"),),
        (member("x", tarfile.SYMTYPE, "../y"),),
        (member("d/x", tarfile.SYMTYPE, "../../y"),),
        (member("d/x", tarfile.SYMTYPE, "y/../../.."),),
        (member("x", tarfile.LNKTYPE, "/etc/passwd"),),
        (member("x", tarfile.LNKTYPE, "absent"),),
        (member("l", tarfile.SYMTYPE, "."), member("l/x")),
        (member("l", tarfile.SYMTYPE, "d"), member("h", tarfile.LNKTYPE, "l")),
        (member("d/x"), member("d", tarfile.SYMTYPE, ".")),
        (member("x", tarfile.CHRTYPE),),
        (member("x", tarfile.BLKTYPE),),
        (member("x", tarfile.FIFOTYPE),),
        (member(".dockerignore", tarfile.SYMTYPE, "a"),),
    ],
)
def test_what_leads_out_of_the_context_is_refused(packs: tuple[Pack, ...]) -> None:
    """Absolute names, "..", links that lead out or could be written through, devices and pipes."""
    with pytest.raises(InvalidArgument, match="context"):
        written(archive_of(*packs))


def test_what_is_larger_than_it_looks_is_refused() -> None:
    """Sparse files, headers without end, and content beyond the bound."""
    sparse = tarfile.TarInfo("x")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)}
    with pytest.raises(InvalidArgument, match="sparse"):
        written(archive_of(lambda archive: archive.addfile(sparse)))
    long_name = tarfile.TarInfo("x")
    long_name.pax_headers = {"comment": "x" * 100_000}
    with pytest.raises(InvalidArgument, match="header"):
        written(archive_of(lambda archive: archive.addfile(long_name)))
    with pytest.raises(ResourceExhausted):
        written(archive_of(member("x", content=b"x" * 2_000_000)))


def test_an_archive_that_goes_backwards_ends() -> None:
    """A negative size would make a reader go round for ever."""
    data = bytearray(archive_of(member("x", content=b"1")))
    data[124:136] = b"\xff" * 11 + b"\x00"
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
    with pytest.raises(InvalidArgument):
        written(bytes(data))


def test_a_stopped_copy_ends() -> None:
    """Whoever cancels a build does not wait for its archive."""
    with pytest.raises(Cancelled):
        write_context(io.BytesIO(archive_of(member("x"))), io.BytesIO(), "FROM x", max_bytes=1, stopped=lambda: True)


@given(st.binary(max_size=2048), st.integers(0, 1535))
def test_damaged_archives_are_refused_or_read(noise: bytes, position: int) -> None:
    """No archive makes anything but a refusal or a context."""
    data = bytearray(archive_of(member("a", content=b"1"), member("l", tarfile.SYMTYPE, "a")))
    data[position : position + len(noise)] = noise
    with suppress(Refusal):
        written(bytes(data))
