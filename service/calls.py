"""The call chain: what every call passes through, on the public server and on the edge's.

Each transport wraps its methods in a `Chain`, once, when its server is built. A call then

1. gets its request id, before anything else, so that each line that is logged on its behalf
   carries the id;
2. is timed, counted, traced and logged, whatever comes of it: a refusal, or a caller that goes
   away. Those that change objects, or were to, are lines for operators (`info`), the others for
   `debug`;
3. gets its caller, by the key that it brings, or is refused; so it is if the key has had its rate;
4. is executed. What 3 and 4 raise becomes an ApiError, innermost, so that 2 knows the status.

The transport renders the ApiError as the end of its call. A caller's deadline needs no step: gRPC
cancels a call at its deadline as it does when the caller goes away.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from service.access import Identify
from service.errors import ApiError, from_exception
from service.process import metrics, tracing
from service.rates import Headers, Rates

T = TypeVar("T")

REQUEST_ID = "x-request-id"
"""The header, or gRPC's metadata, with the id of a request. Envoy sets it where it is missing."""

MAX_REQUEST_ID = 128
"""Characters of a caller's id that are logged."""

READS = ("Get", "List", "StreamRunEvents")
"""How the names of those methods begin that change nothing."""

NAMED = ("run_id", "message_id", "thread_id", "assistant_id")
"""The fields of requests that name an object, innermost first."""

FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)
"""Ends of calls that are the server's fault."""

_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)
"""What is logged as an id: callers send what they like, at any length."""

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: `project` owns the objects that it works on, `request_id` names it.

    `key` is the name of the key that it brings, where calls need one.
    """

    project: str
    request_id: str
    key: str | None = None


class Call:
    """One call, as its transport sees it."""

    __slots__ = (
        "_context",
        "_unsent",
        "caller",
        "metadata",
        "object",
        "request_id",
        "status",
        "write",
    )

    caller: Caller

    def __init__(self, context: Context) -> None:
        """Reads the metadata of the call."""
        self._context = context
        self._unsent: Headers = ()
        self.metadata: Mapping[str, Any] = dict(context.invocation_metadata() or ())
        given = self.metadata.get(REQUEST_ID)
        self.request_id = given[:MAX_REQUEST_ID] if given else secrets.token_hex(16)
        self.object: str | None = None
        self.write: Callable[[Message], Awaitable[None]] = context.write
        self.status = grpc.StatusCode.OK

    async def admit(self, identify: Identify, rates: Rates | None) -> None:
        """Finds out who makes the call, and whether it is one too many. Raises ApiError."""
        identity = await identify(self.metadata)
        self.caller = Caller(identity.project, self.request_id, identity.key)
        if rates is None:
            return
        rate = rates.take(identity.key_id or identity.project)
        self._unsent, self.write = rate.headers(), self._write_first
        if rate.retry_after is not None:
            raise ApiError.too_many(
                f"Rate limit reached: {rate.limit} requests per minute", rate.retry_after
            )

    async def _write_first(self, message: Message) -> None:
        await self.send_headers()
        await self.write(message)

    async def send_headers(self) -> None:
        """Sends the headers of an answer, unless they were sent.

        A refusal has them in one piece with all else, of which the edge makes the response: so they
        are not sent before there is an answer.
        """
        if headers := self.take_headers():
            await self._context.send_initial_metadata(headers)

    def take_headers(self) -> Headers:
        """Returns the headers of the answer that were not sent, for whoever sends them now."""
        headers, self._unsent = self._unsent, ()
        self.write = self._context.write
        return headers

    async def execute(self, method: Callable[[Any, Caller], Awaitable[T]], request: Any) -> T:
        """Has a servicer's method execute the call, and notes the id of the object in question."""
        self.object = next(filter(None, (getattr(request, name, None) for name in NAMED)), None)
        answer = await method(request, self.caller)
        self.object = getattr(answer, "id", self.object)
        return answer

    def id_as_trailer(self) -> tuple[tuple[str, str], ...]:
        """Returns trailing metadata with the request's id, unless it is no metadata."""
        fits = self.request_id.isascii() and self.request_id.isprintable()
        return ((REQUEST_ID, self.request_id),) if fits else ()

    def trail(self) -> dict[str, str | None]:
        """Returns what is logged of who has done what: names and ids, and never a key."""
        caller = getattr(self, "caller", None)
        return {
            "project": caller and caller.project,
            "key": caller and caller.key,
            "object": self.object if self.object and _ID.fullmatch(self.object) else None,
        }

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

    def __init__(
        self,
        render: Callable[[ApiError], Ending],
        identify: Identify,
        rates: Rates | None = None,
        *,
        answers_id: bool = False,
    ) -> None:
        """Ends failed calls as `render` says. `identify` says whose calls are.

        `rates` are how many a caller may make: any number without them. With `answers_id`,
        trailing metadata has the request's id.
        """
        self._render = render
        self._identify = identify
        self._rates = rates
        self._answers_id = answers_id

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
        render, identify, rates = self._render, self._identify, self._rates
        answers_id = self._answers_id
        log_call = log.debug if method.startswith(READS) else log.info
        succeeded = metrics.CALLS.labels(method, grpc.StatusCode.OK.name)
        duration = metrics.CALL_SECONDS.labels(method)

        async def handle(request: Any, context: Context) -> Message | None:
            call = Call(context)
            structlog.contextvars.bind_contextvars(request_id=call.request_id)
            own = call.id_as_trailer() if answers_id else ()
            if own:
                context.set_trailing_metadata(own)
            begun = perf_counter()
            with tracing.span(method, "server", carrier=call.metadata) as span:
                try:
                    await call.admit(identify, rates)
                    answer = await work(request, call)
                    if rates is not None:
                        await call.send_headers()
                    return answer
                except (asyncio.CancelledError, grpc.aio.BaseError):
                    # Nobody waits for the answer any more: its caller is gone, or its deadline is
                    # over.
                    call.status = grpc.StatusCode.CANCELLED
                    raise
                except Exception as error:
                    # Nothing else of it is kept: what it kept itself can be large.
                    failure = call.fail(error)
                    status, details, trailers = render(failure)
                    trailers = (*trailers, *failure.headers(), *call.take_headers(), *own)
                    del failure
                finally:
                    seconds = perf_counter() - begun
                    duration.observe(seconds)
                    if call.status is grpc.StatusCode.OK:
                        succeeded.inc()
                    else:
                        metrics.CALLS.labels(method, call.status.name).inc()
                    trail = call.trail()
                    log_call(
                        "call",
                        method=method,
                        status=call.status.name,
                        seconds=round(seconds, 6),
                        **trail,
                    )
                    _note(span, call, trail)
            # gRPC keeps what this raises, and so this frame, until the garbage collector looks.
            del request
            return await context.abort(status, details, trailers)

        return handle


def _note(span: tracing.Span, call: Call, trail: Mapping[str, str | None]) -> None:
    span.note(
        {
            "rpc.system": "grpc",
            "rpc.grpc.status_code": call.status.value[0],
            "assistants.request_id": call.request_id,
            "assistants.project": trail["project"],
            "assistants.object": trail["object"],
        }
    )
    if call.status in FAULTS:
        span.fail(call.status.name)


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
