"""What gateway and executor set for themselves."""

import subprocess
import sys

import pytest

from clustercode.process import MAX_DESCRIPTORS

_SHOW = """
import resource
from clustercode.process import allow_many_descriptors
allow_many_descriptors()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard"), [(256, 300), (300, 300), (64, 2**20)])
def test_the_soft_limit_on_open_files_is_raised(soft: int, hard: int) -> None:
    """To the hard one, which stays, or to a bound where that is very high."""
    import resource  # noqa: PLC0415 - as in what is tested

    hard = min(hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    limited = f'ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$0" -c "$1"'
    shown = subprocess.run(["sh", "-c", limited, sys.executable, _SHOW], check=True, capture_output=True, text=True)

    assert [int(limit) for limit in shown.stdout.split()] == [min(hard, MAX_DESCRIPTORS), hard]
