"""What all RPCs share: the parts they call, the ledger, and the one place where a `Refusal` becomes a gRPC status."""

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import grpc
from pydantic import BaseModel, ValidationError

from executor import requests
from executor.background import Backgrounds
from executor.build import Builds
from executor.build_context import BuildContexts
from executor.config import ExecutorConfig
from executor.data_dir import DataDir
from executor.devboxes import DevBoxes
from executor.disk_watch import DiskWatch
from executor.displays import Displays
from executor.engine import Engine
from executor.engine_service import EngineService
from executor.events import Events
from executor.images import Images
from executor.ledger import Ledger, Work
from executor.policy import check_tenant
from executor.redaction import SECRETS
from executor.secret_env import SecretEnv
from executor.sessions import Sessions
from executor.setup import Setups
from protos import executor_pb2_grpc as pb_grpc
from protos import limits
from protos.errors import REFUSAL_METADATA, ErrorCode, Refusal, Unavailable
from protos.request_id import METADATA, REQUEST_ID

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
DRAINING = Unavailable("This worker is shutting down: send it again in a moment.")

_MAX_STATUS_BYTES = 6000
_STATUS = {code: grpc.StatusCode[code.value] for code in ErrorCode}
_Answer = TypeVar("_Answer")
_Step = TypeVar("_Step")
_Checked = TypeVar("_Checked", bound=BaseModel)


@dataclass(frozen=True)
class Parts:
    """What the executor is made of."""

    config: ExecutorConfig
    engine: Engine
    engine_service: EngineService
    data_dir: DataDir
    secret_env: SecretEnv
    devboxes: DevBoxes
    sessions: Sessions
    ledger: Ledger
    displays: Displays
    setups: Setups
    images: Images
    contexts: BuildContexts
    builds: Builds
    backgrounds: Backgrounds
    events: Events
    disk: DiskWatch


class Rpcs(pb_grpc.ExecutorServiceServicer):
    """Base of the RPCs of one noun; `executor.service` puts them together."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.draining = False

    def begin(
        self, asked: requests.Request, job: Callable[[Work[_Answer, _Step]], Awaitable[_Answer]]
    ) -> Work[_Answer, _Step]:
        """Enter a request's job in the ledger."""
        if self.draining:
            raise DRAINING
        check_tenant(asked.tenant, self.parts.config.tenants)

        async def within_quota(work: Work[_Answer, _Step]) -> _Answer:
            if isinstance(asked, requests.NEW_WORK):
                self.parts.disk.check(asked.tenant)
            return await job(work)

        return self.parts.ledger.begin(asked.tenant, asked.request_id, asked.fingerprint(), within_quota)

    async def once(self, asked: requests.Request, act: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Do what has no progress at most once per request id."""

        async def job(_: Work[_Answer, None]) -> _Answer:
            return await act()

        return await self.begin(asked, job).result()


class RequestIds(grpc.aio.ServerInterceptor):
    """Takes up the id of the command that a call is made for, for the logs."""

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Set it for the call's task, which handles the call next."""
        sent = dict(handler_call_details.invocation_metadata or ()).get(METADATA, "")
        REQUEST_ID.set(sent if isinstance(sent, str) and re.fullmatch(limits.REQUEST_ID_PATTERN, sent) else "")
        log.debug("< %s", handler_call_details.method.rpartition("/")[2])
        return await continuation(handler_call_details)


def checked(kind: type[_Checked], **fields: object) -> _Checked:
    """Return a validated request; raises `InvalidArgument` that names the field."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise requests.refusal_of(error) from None


@asynccontextmanager
async def refusing(context: Context) -> AsyncIterator[None]:
    """Turn a `Refusal` into the RPC's status: the one place where ours become gRPC's."""
    try:
        yield
    except Refusal as refusal:
        await _abort(context, refusal)
    except ExceptionGroup as group:
        refusals, others = group.split(Refusal)
        if others is not None or refusals is None:
            raise
        first = refusals.exceptions[0]
        assert isinstance(first, Refusal)  # noqa: S101 - split by type
        await _abort(context, first)


async def _abort(context: Context, refusal: Refusal) -> None:
    message = SECRETS.text(refusal.message)
    log.debug("> refused: %s: %s", refusal.code, message)
    # A status travels in the call's metadata, percent-encoded: one that is too long never arrives.
    while len(quote(message)) > _MAX_STATUS_BYTES:
        message = f"{message[: len(message) * 3 // 4]}…"
    await context.abort(_STATUS[refusal.code], message, trailing_metadata=((REFUSAL_METADATA, "1"),))
