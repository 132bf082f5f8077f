"""Where Prometheus fetches the figures of both processes: ``GET /metrics`` on a loopback address, if asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.config import GatewayConfig
from gateway.errors import Misconfigured
from gateway.executor_client import ExecutorClient
from gateway.metrics import Metrics
from protos.errors import Refusal


@asynccontextmanager
async def serving(config: GatewayConfig, metrics: Metrics, executor: ExecutorClient) -> AsyncIterator[None]:
    """Serve while the block runs; raises `Misconfigured` where the address cannot be had."""
    if config.metrics is None:
        yield
        return
    from aiohttp import web  # noqa: PLC0415 - only where figures are wanted

    async def show(_: web.Request) -> web.Response:
        try:
            theirs = await executor.metrics()
        except Refusal:
            theirs = b""  # It is away, which is among ours.
        return web.Response(body=metrics.text() + theirs, headers={"Content-Type": "text/plain; version=0.0.4"})

    application = web.Application()
    application.router.add_get("/metrics", show)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    host, port = config.metrics_address
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise Misconfigured(f"Metrics cannot be served on {config.metrics}: {error.strerror or error}.") from None
        yield
    finally:
        await runner.cleanup()
