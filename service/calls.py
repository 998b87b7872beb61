"""The call chain: what every call passes through, on the public server and on the edge's.

Each transport wraps its methods in a `Chain`, once, when its server is built. A call then

1. gets its caller and its request id, before anything else, so that each line that is logged on
   its behalf carries the id;
2. is timed, counted and logged, whatever comes of it: a refusal, or a caller that goes away;
3. is executed, and what it raises becomes an ApiError, innermost, so that 2 knows the status.

The transport renders the ApiError as the end of its call. A caller's deadline needs no step: gRPC
cancels a call at its deadline as it does when the caller goes away.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from service.errors import ApiError, from_exception
from service.process import metrics

T = TypeVar("T")

REQUEST_ID = "x-request-id"
"""The header, or gRPC's metadata, with the id of a request. Envoy sets it where it is missing."""

MAX_REQUEST_ID = 128
"""Characters of a caller's id that are logged."""

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: `project` owns the objects that it works on, `request_id` names it."""

    project: str
    request_id: str


def _identify(metadata: Mapping[str, Any]) -> Caller:
    # There are no keys yet that could name another project.
    given = metadata.get(REQUEST_ID)
    return Caller("default", given[:MAX_REQUEST_ID] if given else secrets.token_hex(16))


class Call:
    """One call, as its transport sees it."""

    __slots__ = ("caller", "metadata", "status", "write")

    def __init__(self, context: Context) -> None:
        """Reads the metadata of the call."""
        self.metadata: Mapping[str, Any] = dict(context.invocation_metadata() or ())
        self.caller = _identify(self.metadata)
        self.write: Callable[[Message], Awaitable[None]] = context.write
        self.status = grpc.StatusCode.OK

    def fail(self, error: Exception) -> ApiError:
        """Makes the error the outcome of the call; returns what the caller may know of it."""
        failure = from_exception(error)
        self.status = failure.spec.grpc
        return failure


Work = Callable[[Any, Call], Awaitable[Message | None]]
"""Executes a method. Takes the request, None if its bytes are no such message. Returns the
response, or, where the method streams, writes the responses to the call.
"""

Ending = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]
"""How a failed call ends: its status, the status's message, and trailing metadata."""


class Chain:
    """Wraps the methods of one transport in the call chain."""

    def __init__(self, render: Callable[[ApiError], Ending]) -> None:
        """Ends failed calls as `render` says."""
        self._render = render

    def handler(
        self,
        method: str,
        request: type[Message],
        response: type[Message],
        work: Work,
        *,
        streaming: bool,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Returns the handler of a method that `work` executes."""
        make = (
            grpc.unary_stream_rpc_method_handler
            if streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(
            self._wrap(method, work),
            request_deserializer=parsed_or_none(request.FromString),
            response_serializer=response.SerializeToString,
        )

    def _wrap(self, method: str, work: Work) -> Callable[[Any, Context], Awaitable[Message | None]]:
        render = self._render
        succeeded = metrics.CALLS.labels(method, grpc.StatusCode.OK.name)
        duration = metrics.CALL_SECONDS.labels(method)

        async def handle(request: Any, context: Context) -> Message | None:
            call = Call(context)
            structlog.contextvars.bind_contextvars(request_id=call.caller.request_id)
            begun = perf_counter()
            try:
                return await work(request, call)
            except (asyncio.CancelledError, grpc.aio.BaseError):
                # Nobody waits for the answer any more: its caller is gone, or its deadline is over.
                call.status = grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                # Nothing else of it is kept: what it kept itself can be large.
                ending = render(call.fail(error))
            finally:
                seconds = perf_counter() - begun
                duration.observe(seconds)
                if call.status is grpc.StatusCode.OK:
                    succeeded.inc()
                else:
                    metrics.CALLS.labels(method, call.status.name).inc()
                log.debug("call", method=method, status=call.status.name, seconds=round(seconds, 6))
            # gRPC keeps what this raises, and so this frame, until the garbage collector looks.
            del request
            return await context.abort(*ending)

        return handle


def parsed_or_none(deserialize: Callable[[bytes], T]) -> Callable[[bytes], T | None]:
    """Returns a deserializer that answers None to bytes that are no such message.

    What it raises would not pass through the chain: gRPC itself answers with Python's words.
    """

    def parse(data: bytes) -> T | None:
        try:
            return deserialize(data)
        except DecodeError:
            return None

    return parse
