"""``python -m tests.fuzz NAME [libFuzzer's options]``: fuzz one decoder, led by the code that its input reaches."""

import sys

import atheris

with atheris.instrument_imports(include=["executor", "gateway", "protos", "tarfile"]):
    from tests.fuzz.decoders import DECODERS

from hypothesis import HealthCheck, given, settings


def main() -> None:
    decoder = DECODERS[sys.argv.pop(1)]

    @given(decoder.inputs)
    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def one(data: object) -> None:
        decoder.decode(data)

    atheris.Setup(sys.argv, one.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
