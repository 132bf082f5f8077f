"""Whatever strangers send, each decoder answers with its own refusal: no other exception, in bounded memory."""

import bz2
import gzip
import io
import lzma
import os
import re
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.context_tar import write_context
from protos import frames, limits, messages
from protos.errors import InvalidArgument, Refusal
from tests.fuzz.decoders import DECODERS, MAX_CONTEXT_BYTES, tar

MIB = 1024**2
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_only_refuses(name: str) -> None:
    """Input made by its strategy."""
    decoder = DECODERS[name]

    @given(decoder.inputs)
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    def each(data: object) -> None:
        decoder.decode(data)

    each()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_only_refuses_what_coverage_leads_to(name: str, tmp_path: Path) -> None:
    """The same strategies, driven by Atheris for a minute each; none takes 256 MiB at once or 2 GiB in all."""
    options = [
        "-max_total_time=60",
        "-malloc_limit_mb=256",
        "-rss_limit_mb=2048",
        "-timeout=20",
        "-max_len=4096",
        "-print_final_stats=1",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, *options, f"-artifact_prefix={tmp_path}/"],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    assert run.returncode == 0, run.stderr[-4000:]
    executed = re.search(r"stat::number_of_executed_units: +([0-9]+)", run.stderr)
    assert executed, run.stderr[-4000:]
    assert int(executed[1]) > 0
    print(f"{name}: {executed[1]} executions")


def test_binary_frames_of_every_length() -> None:
    """Too short and too long are refused, all between is taken, byte for byte."""
    header = struct.pack("!BIQ", 1, 7, 9)
    longest = len(header) + limits.MAX_CHUNK_BYTES
    whole = header + bytes(range(256)) * (limits.MAX_CHUNK_BYTES // 256) + b"more"
    for length in range(len(whole) + 1):
        if len(header) <= length <= longest:
            frame = frames.decode(whole[:length])
            assert (frame.channel, frame.offset, len(frame.data)) == (7, 9, length - len(header))
        else:
            with pytest.raises(InvalidArgument):
                frames.decode(whole[:length])


BOMBS: dict[str, Callable[[], bytes]] = {
    "deep": lambda: b'{"type":"DevBox.list","payload":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "deep and unfinished": lambda: b'{"a":' * 150_000,
    "wide": lambda: b'{"type":"DevBox.list","payload":{"tenantId":"t","x":[' + b"0," * 500_000 + b"0]}}",
    "long string": lambda: b'{"type":"DevBox.list","payload":{"tenantId":"' + b"t" * MIB + b'"}}',
    "long number": lambda: b'{"type":"DevBox.list","payload":{"tenantId":"t","x":' + b"9" * 900_000 + b"}}",
    "escapes": lambda: b'{"type":"DevBox.list","payload":{"tenantId":"' + rb"\u0041" * 150_000 + b'"}}',
    "too large": lambda: b" " * (64 * MIB),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_large_or_deep_message_costs_little(name: str) -> None:
    """However it is made: at most 32 MiB for a message of one, and of a larger one nothing is read."""
    data = BOMBS[name]()
    tracemalloc.start()
    with suppress(messages.BadMessage):
        messages.parse_from_orchestrator(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 32 * MIB


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_a_context_that_is_a_bomb_is_refused(compress: Callable[[bytes], bytes]) -> None:
    """16 MiB of nothing in a few KiB: no more than the bound is written, and little is held."""
    bomb = compress(tar([("zeros", ord("0"), "", b"\0" * (16 * MIB), 0)]))
    written = io.BytesIO()
    tracemalloc.start()
    with pytest.raises(Refusal):
        write_context(io.BytesIO(bomb), written, "FROM scratch", max_bytes=MAX_CONTEXT_BYTES, stopped=lambda: False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(written.getvalue()) <= MAX_CONTEXT_BYTES + 64 * 1024
    assert peak < 8 * MIB


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_a_context(data: bytes) -> None:
    """Without a single file of theirs written."""
    written = io.BytesIO()
    with suppress(Refusal):
        write_context(io.BytesIO(data), written, "FROM scratch", max_bytes=1000, stopped=lambda: False)
    assert len(written.getvalue()) <= 64 * 1024
