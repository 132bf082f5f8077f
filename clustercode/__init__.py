"""The command line: ``clustercode worker gateway executor console demo``. Imports everyone; nobody imports it.

``cli`` reads flags and environment, once. ``supervisor`` runs gateway and executor as two processes. ``demo`` puts
console, worker and a first DevBox together.
"""
