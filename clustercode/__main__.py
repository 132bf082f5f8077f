"""``python -m clustercode``: how the supervisor starts the other processes."""

from clustercode.cli import main

main()
