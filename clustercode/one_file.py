"""Where the one file of ``make dist`` begins: ``worker-agent`` if called so without arguments, else ``clustercode``."""

import os
import ssl
import sys
from pathlib import Path

from clustercode import program


def main() -> None:
    """Run what was asked for."""
    known = ssl.get_default_verify_paths()
    program.settle(os.environ, has_authorities=bool(known.cafile or known.capath))
    if len(sys.argv) > 1 or Path(program.path() or "").name == "clustercode":
        from clustercode.cli import main as run  # noqa: PLC0415 - one of the two
    else:
        from clustercode.worker_agent import main as run  # noqa: PLC0415 - one of the two
    run()


if __name__ == "__main__":
    main()
