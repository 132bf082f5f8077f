"""For all tests: no limits of time, and nothing from the machine's environment that could change an outcome."""

import os

from hypothesis import HealthCheck, settings

# A machine that is slow for a moment fails no test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

for name in ("DOCKER_HOST", "DATA_DIR", "TENANT_ID", "WORKER_ID", "WORKER_NAME", "SECURITY_FLOOR", "CONTAINER_RUNTIME"):
    os.environ.pop(name, None)
