"""Finds out that an open connection is dead.

A half-open one is found within `PING_INTERVAL_S` + `PING_TIMEOUT_S` = 40 s; after the machine slept, within
`SLEEP_CHECK_S` + `PROBE_TIMEOUT_S` = 8 s of waking. The library's own keep-alive waits without a bound where the
socket takes no more bytes, which is what a dead peer of a busy terminal looks like; ours has a deadline for it all.
"""

import asyncio
import logging
import time

from gateway.connection import Connection

log = logging.getLogger(__name__)

PING_INTERVAL_S = 15.0
"""Below the 60 s after which many proxies cut what is idle."""
PING_TIMEOUT_S = 25.0
SLEEP_CHECK_S = 3.0
PROBE_TIMEOUT_S = 5.0

wall_clock = time.time


async def keep_alive(connection: Connection) -> None:
    """Ping now and then, and cut a connection that does not answer; raises `ConnectionClosed`, never returns."""
    while True:
        await asyncio.sleep(PING_INTERVAL_S)
        await _probe(connection, PING_TIMEOUT_S)


async def probe_after_sleep(connection: Connection) -> None:
    """Notice that the machine slept, and find out at once what that did to the connection; never returns."""
    monotonic = asyncio.get_running_loop().time
    ahead_s = wall_clock() - monotonic()
    while True:
        await asyncio.sleep(SLEEP_CHECK_S)
        before_s, ahead_s = ahead_s, wall_clock() - monotonic()  # The monotonic clock stands still in sleep.
        if ahead_s - before_s > SLEEP_CHECK_S:
            log.info("The machine slept, or its clock was set: checking the connection")
            await _probe(connection, PROBE_TIMEOUT_S)


async def _probe(connection: Connection, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await connection.round_trip()
    except TimeoutError:
        log.warning("The orchestrator did not answer a ping in %.0f s: the connection is taken for dead", timeout_s)
        connection.cut()
