"""Interceptors of the public gRPC server, and who calls."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from service.errors import ApiError, Kind, from_exception

T = TypeVar("T")

Handler = Any
"""`grpc.RpcMethodHandler`: a named tuple in fact, of which the stubs do not tell."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: `project` owns the objects that it works on, `request_id` names it."""

    project: str
    request_id: str


ANYBODY = Caller("default", "")
"""As long as callers have no keys, all of them are the one project."""


class Errors(grpc.aio.ServerInterceptor):
    """Turns what a servicer raises into a rich status: message, reason, and parameter at fault.

    A request that cannot be parsed is refused in the same form, before the servicer sees it.
    Outermost, so that it answers for what other interceptors raise too.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wraps the method's handler."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith("/assistants.v1."):
            return handler
        handler = handler._replace(
            request_deserializer=parsed_or_none(handler.request_deserializer)
        )
        if handler.response_streaming:
            return handler._replace(unary_stream=_streaming(handler.unary_stream))
        return handler._replace(unary_unary=_unary(handler.unary_unary))


def parsed_or_none(deserialize: Callable[[bytes], T]) -> Callable[[bytes], T | None]:
    """Returns a deserializer that answers None to bytes that are no such message.

    What it raises would not pass through here: gRPC itself answers with Python's words.
    """

    def parse(data: bytes) -> T | None:
        try:
            return deserialize(data)
        except DecodeError:
            return None

    return parse


def _check(request: Any) -> None:
    if request is None:
        message = "We could not parse your request: its bytes are not the message of this method."
        raise ApiError(Kind.invalid_type, message)


def _unary(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            _check(request)
            return await call(request, context)
        except Exception as error:
            failure = from_exception(error)
        return await context.abort_with_status(rpc_status.to_status(failure.status()))

    return guarded


def _streaming(call: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncIterator[Any]]:
    async def guarded(
        request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        try:
            _check(request)
            async with aclosing(call(request, context)) as responses:
                async for response in responses:
                    yield response
            return
        except Exception as error:
            failure = from_exception(error)
        await context.abort_with_status(rpc_status.to_status(failure.status()))

    return guarded
