"""For all tests: asyncio's own debugging, and nothing from the machine's environment that could change an outcome."""

import os

for name in ("DOCKER_HOST", "DATA_DIR", "TENANT_ID", "WORKER_ID", "WORKER_NAME", "SECURITY_FLOOR", "CONTAINER_RUNTIME"):
    os.environ.pop(name, None)
