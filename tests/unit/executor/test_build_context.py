"""Build contexts in pieces."""

import re
from pathlib import Path

import pytest

from executor.build_context import EXPIRES_S, BuildContexts
from executor.config import BuildLimits
from executor.requests import UploadContext
from protos.errors import FailedPrecondition, NotFound, ResourceExhausted

MIB = 1024 * 1024
LIMITS = BuildLimits(context_bytes=2 * MIB, contexts_bytes=3 * MIB, min_free_bytes=0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def everything(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def piece(offset: int, data: bytes, *, tenant: str = "t", upload: str = "u", last: bool = False) -> UploadContext:
    return UploadContext(tenant=tenant, upload_id=upload, offset=offset, data=data, last=last)


async def test_pieces_make_one_file(tmp_path: Path) -> None:
    """In order; repeated and overlapping ones add nothing twice; it is there once the last one came."""
    contexts = BuildContexts(tmp_path, LIMITS)
    assert await contexts.take(piece(0, b"abc")) == 3
    assert await contexts.take(piece(0, b"abc")) == 3
    assert await contexts.take(piece(2, b"cde")) == 5
    with pytest.raises(FailedPrecondition, match="5 bytes"):
        await contexts.take(piece(6, b"x"))
    with pytest.raises(FailedPrecondition, match="not complete"):
        contexts.find("t", "u")
    for _ in range(2):
        assert await contexts.take(piece(5, b"f", last=True)) == 6
    with pytest.raises(FailedPrecondition, match="complete"):
        await contexts.take(piece(6, b"g"))
    assert contexts.find("t", "u").read_bytes() == b"abcdef"
    assert BuildContexts(tmp_path, LIMITS).find("t", "u").read_bytes() == b"abcdef"


async def test_an_upload_is_its_tenants(tmp_path: Path) -> None:
    """To another tenant it is not there, under whatever name; nothing of a name is a path."""
    contexts = BuildContexts(tmp_path, LIMITS)
    await contexts.take(piece(0, b"mine", last=True))
    with pytest.raises(NotFound):
        contexts.find("other", "u")
    assert all(re.fullmatch(r"[0-9a-f]{32}(\.tar)?|building", path.name) for path in everything(tmp_path))


async def test_uploads_are_bounded(tmp_path: Path) -> None:
    """One tenant's, all tenants', and their number."""
    contexts = BuildContexts(tmp_path, LIMITS)
    await contexts.take(piece(0, b"x" * MIB))
    await contexts.take(piece(MIB, b"x" * MIB))
    with pytest.raises(ResourceExhausted, match="2 MiB"):
        await contexts.take(piece(2 * MIB, b"x"))
    with pytest.raises(ResourceExhausted, match="2 MiB"):
        await contexts.take(piece(0, b"x", upload="v"))
    await contexts.take(piece(0, b"x" * MIB, tenant="s"))
    with pytest.raises(ResourceExhausted, match="as many"):
        await contexts.take(piece(0, b"x", tenant="r"))
    contexts.forget("t", "u")
    for number in range(16):
        await contexts.take(piece(0, b"x", tenant="r", upload=f"u{number}"))
    with pytest.raises(ResourceExhausted, match="16 uploads"):
        await contexts.take(piece(0, b"x", tenant="r", upload="u16"))


async def test_what_nobody_touches_is_removed(tmp_path: Path) -> None:
    """After an hour, counted from the last piece or build, and anew after a restart."""
    clock = Clock()
    contexts = BuildContexts(tmp_path, LIMITS, clock)
    await contexts.take(piece(0, b"x", last=True))
    clock.now = EXPIRES_S - 1
    contexts.find("t", "u")
    clock.now += EXPIRES_S - 1
    contexts.expire()
    restarted = BuildContexts(tmp_path, LIMITS, clock)
    assert restarted.find("t", "u")
    clock.now += EXPIRES_S + 1
    with pytest.raises(NotFound):
        restarted.find("t", "u")
    assert [path for path in everything(tmp_path) if path.is_file()] == []


async def test_a_nearly_full_disk_takes_nothing(tmp_path: Path) -> None:
    """What is below the floor is left alone."""
    contexts = BuildContexts(tmp_path, LIMITS.model_copy(update={"min_free_bytes": 2**60}))
    with pytest.raises(ResourceExhausted, match="nearly full"):
        await contexts.take(piece(0, b"x"))


def test_the_floor_of_a_disk() -> None:
    """2 GiB or 5 %, whichever is less, unless the operator says otherwise."""
    assert BuildLimits().floor(10**12) == 2 * 1024**3
    assert BuildLimits().floor(10**10) == 5 * 10**8
    assert BuildLimits(min_free_bytes=7).floor(10**12) == 7
