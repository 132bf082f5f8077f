"""The command line. Imports everyone; nobody imports it.

``cli`` assembles one file for each command (``command_worker`` and so on). ``settings`` is the table of all settings,
``configuration`` finds their values, ``home`` keeps the files of ``~/.clustercode``. ``supervisor`` runs gateway,
executor and egress as processes and hands each its part. ``worker_agent`` stands in for the Go agent.
"""
