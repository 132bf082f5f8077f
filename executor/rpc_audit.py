"""Audits every RPC on its way through: what arrived, and the status it ended with."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from executor.audit import Audit, Who

_SUBJECTS = ("session_id", "devbox_id", "upload_id", "name", "image", "request_id")
"""Fields that say what an RPC is about, the first that is filled in counts."""
_READS = ("Get", "List", "Check", "Show", "Capture", "Watch", "Acknowledge", "Report")
"""How the names of RPCs begin that change nothing and are asked again and again: only their refusals are written."""

_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]


class _Call:
    """One RPC: its first message, once that has arrived."""

    def __init__(self, audit: Audit, who: Who, rpc: str) -> None:
        self._audit = audit
        self._who = who
        self._rpc = rpc
        self._first: Any = None
        self.is_garbled = False
        """What arrived was no message of the contract."""

    def reading(self, deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
        """Return a deserializer that remembers the first message; an empty one stands for what is none."""
        assert deserialize is not None  # noqa: S101 - generated code always has one

        def read(data: bytes) -> Any:  # noqa: ANN401 - any message
            try:
                message = deserialize(data)
            except DecodeError:
                self.is_garbled = True
                message = deserialize(b"")
            if self._first is None:
                self._first = message
            return message

        return read

    def ended(self, context: grpc.aio.ServicerContext[Any, Any], error: BaseException | None) -> None:
        """Note how it ended. Being cancelled, and a stream whose caller went away, is no refusal."""
        code: Any = context.code()
        if not isinstance(code, grpc.StatusCode):  # grpc.aio keeps the number
            code = next((status for status in grpc.StatusCode if status.value[0] == code), grpc.StatusCode.OK)
        if error is not None and code is grpc.StatusCode.OK:
            self.note("INTERNAL" if isinstance(error, Exception) else "CANCELLED")
        elif code is not grpc.StatusCode.OK or not self._rpc.startswith(_READS):
            self.note(code.name)

    def note(self, verdict: str) -> None:
        """Write the line."""
        asked = self._first
        fields = asked.DESCRIPTOR.fields_by_name if asked is not None else {}
        self._audit.note(
            who=self._who,
            tenant=asked.tenant_id if "tenant_id" in fields else "",
            rpc=self._rpc,
            subject=next((value for name in _SUBJECTS if name in fields and (value := getattr(asked, name))), ""),
            verdict=verdict,
        )


class AuditInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handler of each RPC; one that does not exist is noted too."""

    def __init__(self, audit: Audit, who: Who) -> None:
        self._audit = audit
        self._who = who

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return the handler of this one call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        name = (method.decode(errors="replace") if isinstance(method, bytes) else str(method)).rpartition("/")[2]
        call = _Call(self._audit, self._who, name if handler is not None else "(unknown)")
        if handler is None:
            call.note("UNIMPLEMENTED")
            return None
        reading = call.reading(handler.request_deserializer)
        writing = handler.response_serializer
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(_generator(handler.unary_stream, call), reading, writing)
        return grpc.unary_unary_rpc_method_handler(_coroutine(handler.unary_unary, call), reading, writing)


async def _check(call: _Call, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Refuse what is no message; gRPC itself would call it a defect of ours and log it as one."""
    if call.is_garbled:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "This is no message of the contract's.")


def _coroutine(behaviour: Any, call: _Call) -> Any:  # noqa: ANN401 - gRPC's
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:  # noqa: ANN401 - any message
        error: BaseException | None = None
        try:
            await _check(call, context)
            return await behaviour(request, context)
        except BaseException as caught:
            error = caught
            raise
        finally:
            call.ended(context, error)

    return answer


def _generator(behaviour: Any, call: _Call) -> Any:  # noqa: ANN401 - gRPC's
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:  # noqa: ANN401
        error: BaseException | None = None
        try:
            await _check(call, context)
            async with aclosing(behaviour(request, context)) as messages:
                async for message in messages:
                    yield message
        except BaseException as caught:
            error = caught
            raise
        finally:
            call.ended(context, error)

    return answer
