"""The executor's line to the egress process: wishes there, refusals of connections back. Redials until it is closed.

The files are the truth (`executor.egress_files`); over this line the executor says that they changed. What comes back
is data from a process that faces the network: bounded and checked.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protos.errors import Unavailable

log = logging.getLogger(__name__)

_REDIAL_S = 0.25
_MAX_REDIAL_S = 2.0
_ANSWER_WITHIN_S = 10.0
_MAX_LINE_BYTES = 4096
_AWAY = "The worker's egress process does not run, and without it DevBoxes have no network: see the worker's log."

Wish = Literal["open", "cut", "close"]


@dataclass(frozen=True)
class Denial:
    """A connection that was refused to the DevBox of an address, and whether for name, port or where it leads."""

    address: str
    host: str
    port: int
    why: Literal["name", "port", "address"]


class _Told(BaseModel):
    """One line of the egress process."""

    model_config = ConfigDict(strict=True)

    state: str | None = Field(default=None, max_length=500)
    id: int | None = None
    error: str = Field(default="", max_length=500)
    denied: str | None = Field(default=None, max_length=15)
    host: str = Field(default="", max_length=255)
    port: int = 0
    why: Literal["name", "port", "address"] = "name"


class EgressLink:
    """``run`` keeps the line; while it is away, `ask` raises `Unavailable` with the reason."""

    def __init__(self, control: Path, on_denial: Callable[[Denial], None]) -> None:
        self._control = control
        self._on_denial = on_denial
        self._reason = _AWAY
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._count = 0
        self._ready = asyncio.Event()

    @property
    def reason(self) -> str:
        """Why there is no way out now; empty: there is one."""
        return self._reason

    async def ready(self, timeout_s: float) -> None:
        """Wait until there is a way out, at most ``timeout_s``."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), timeout_s)

    async def ask(self, wish: Wish, address: str) -> None:
        """Have something done; raises `Unavailable` where it was not."""
        if self._writer is None:
            raise Unavailable(_AWAY)
        self._count += 1
        number = self._count
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._writer.write(json.dumps({"id": number, "do": wish, "address": address}).encode() + b"\n")
            error = await asyncio.wait_for(answer, _ANSWER_WITHIN_S)
        except TimeoutError:
            raise Unavailable("The worker's egress process does not answer; see its log.") from None
        finally:
            self._answers.pop(number, None)
        if error:
            raise Unavailable(f"There is no way out for DevBoxes now: {error}")

    async def run(self) -> None:
        """Keep the line until cancelled."""
        delay_s = _REDIAL_S
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self._control, limit=_MAX_LINE_BYTES)
            except OSError:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _MAX_REDIAL_S)
                continue
            delay_s = _REDIAL_S
            try:
                while line := await reader.readline():
                    self._take(line)
            except (OSError, ValueError) as error:
                log.warning("the egress process's line broke: %s", error)
            finally:
                self._writer.close()
                self._writer = None
                self._set(_AWAY)
                for answer in self._answers.values():
                    if not answer.done():
                        answer.set_result("its process ended")

    def _take(self, line: bytes) -> None:
        try:
            told = _Told.model_validate_json(line)
        except ValidationError as error:
            log.warning("the egress process said what it may not: %s", error.errors(include_input=False)[0]["msg"])
            return
        if told.state is not None:
            self._set(told.state)
        elif told.denied is not None:
            self._on_denial(Denial(told.denied, told.host, told.port, told.why))
        elif told.id is not None and (answer := self._answers.get(told.id)) and not answer.done():
            answer.set_result(told.error)

    def _set(self, reason: str) -> None:
        self._reason = reason
        if reason:
            self._ready.clear()
        else:
            self._ready.set()
