"""Answers the derived REST methods: calls the servicers and writes what they return as JSON.

Envoy turns a request's JSON into its message and calls one of these handlers on the edge's socket.
The handler completes the request (gateway/requests.py), calls the servicer, and answers with
`google.api.HttpBody`: JSON, or server-sent events for a run with `stream`. An error travels as
trailing metadata, OpenAI's body and the HTTP status, of which gateway/edge.lua makes the response.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from itertools import groupby
from json import dumps
from operator import attrgetter
from typing import Any

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from gateway import descriptor, downloads, polling, sse
from gateway.forms import Form
from gateway.requests import Schema
from service.access import Identify
from service.api.transfers import Download
from service.api.typed import DOWNLOAD
from service.calls import Call, Caller, Chain, Ending, Work
from service.errors import ApiError, Kind
from service.rates import Rates
from service.runner.events.build import error as error_event
from service.runner.events.streams import EventStream
from service.types import answers
from service.types.answers import Answer

MAX_ERROR = 7 << 10
"""Bytes of an error's body: it travels in a header."""

EVENT_IDS_HEADER = "x-event-ids"
"""A client that sends it as `on` gets each event's number as its id."""

LAST_EVENT_HEADER = "last-event-id"
MAX_DIGITS = 18

_CHUNK = 64 << 10
_JSON = "application/json"


def handlers(
    servicers: Mapping[str, object], identify: Identify, rates: Rates | None, keep_alive: float
) -> list[grpc.GenericRpcHandler]:
    """Returns the handlers of the REST services, one for each typed servicer.

    Keys are full names of typed services, such as `assistants.v1.RunsService`. Methods of the
    servicers are coroutines that take a request and its caller and return an answer or a stream of
    events, or raise ApiError or what `from_exception` knows. `identify` says whose a call is,
    `rates` how many each caller may make. `keep_alive` is the number of seconds after which a
    silent stream of events gets a comment.
    """
    chain = Chain(_trailers, identify, rates)
    return [
        grpc.method_handlers_generic_handler(
            rest_service,
            {
                method.name: _handler(chain, method, servicers[method.service], keep_alive)
                for method in methods
            },
        )
        for rest_service, methods in groupby(descriptor.methods(), attrgetter("rest_service"))
    ]


def _handler(
    chain: Chain, method: descriptor.Method, servicer: object, keep_alive: float
) -> "grpc.RpcMethodHandler[Any, Any]":
    schema = Schema(method)
    execute = getattr(servicer, method.name)
    if method.raw:
        work = _form(schema, execute)
    elif method.name == DOWNLOAD:
        work = _download(schema, execute)
    elif not method.streaming:
        work = _single(schema, execute)
    elif method.events:
        work = _chunked(schema, None, execute, keep_alive)
    else:
        stream = getattr(servicer, descriptor.STREAMS.get(method.name, ""), None)
        work = _chunked(schema, execute, stream, keep_alive)
    return chain.handler(
        method.name,
        schema.message,
        HttpBody,
        work,
        streaming=method.streaming,
        streamed=method.raw,
        serialize=downloads.serialize if method.name == DOWNLOAD else None,
    )


Execute = Callable[[Any, Caller], Awaitable[Answer]]
Stream = Callable[[Any, Caller], Awaitable[EventStream]]


def _single(schema: Schema, execute: Execute) -> Work:
    async def work(request: Message | None, call: Call) -> HttpBody:
        answer = await call.execute(execute, schema.complete(request, call.metadata))
        if schema.method.name in polling.POLLED:
            await call.begin(polling.headers(answer))
        return HttpBody(content_type=_JSON, data=_body(answer))

    return work


def _form(schema: Schema, execute: Callable[..., Awaitable[Answer]]) -> Work:
    """Hands over a form as it comes."""

    async def work(messages: AsyncIterator[Any], call: Call) -> HttpBody:
        stream = aiter(messages)
        first = await anext(stream, None)
        if first is not None:
            schema.complete(first, call.metadata)
        request = schema.request()
        for name in schema.method.variables:
            setattr(request, name, getattr(first, name, ""))
        field = descriptor.RAW[schema.method.name]
        form = Form(_and_then(first, stream), field, request, schema.form)
        answer = await call.execute(execute, form)
        return HttpBody(content_type=_JSON, data=_body(answer))

    return work


async def _and_then(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    if first is not None:
        yield first
    async for message in rest:
        yield message


def _download(schema: Schema, execute: Callable[..., Awaitable[Download]]) -> Work:
    async def work(request: Message | None, call: Call) -> None:
        complete = schema.complete(request, call.metadata)
        await downloads.send(await call.execute(execute, complete), call)

    return work


def _chunked(
    schema: Schema, execute: Execute | None, stream: Stream | None, keep_alive: float
) -> Work:
    """Answers with events: where the request says `stream`, or always if there is no `execute`."""

    async def work(request: Message | None, call: Call) -> None:
        complete: Any = schema.complete(request, call.metadata)
        if execute is None:
            assert stream is not None
            _continue(complete, call.metadata)
            events = await call.execute(stream, complete)
            await _send_events(events, call, keep_alive, with_ids=True, resumed=True)
        elif stream is not None and complete.stream:
            complete.ClearField("stream")
            with_ids = call.metadata.get(EVENT_IDS_HEADER) == "on"
            events = await call.execute(stream, complete)
            await _send_events(events, call, keep_alive, with_ids=with_ids, resumed=False)
        else:
            await _send_chunks(_body(await call.execute(execute, complete)), call)

    return work


def _continue(request: Any, metadata: Mapping[str, str]) -> None:
    """Lets the stream begin behind the event that the header names, which a reconnect repeats.

    It overrides the query, which is the same at each reconnect.
    """
    if (last := metadata.get(LAST_EVENT_HEADER)) is None:
        return
    if not (last.isascii() and last.isdecimal()) or len(last) > MAX_DIGITS:
        message = f"Invalid 'Last-Event-ID': '{last[:100]}' is not the id of an event."
        raise ApiError(Kind.invalid_value, message, "Last-Event-ID")
    request.after_sequence = int(last)


async def _send_chunks(data: bytes, call: Call) -> None:
    for start in range(0, len(data), _CHUNK):
        content_type = _JSON if start == 0 else ""
        await call.write(HttpBody(content_type=content_type, data=data[start : start + _CHUNK]))


async def _send_events(
    events: EventStream, call: Call, keep_alive: float, *, with_ids: bool, resumed: bool
) -> None:
    """Forwards events as they come. Raises the error of a stream that fails before its first.

    So that nobody on the way takes a silent stream for dead, there is a comment every `keep_alive`
    seconds. It would turn a refusal into an event, so there is none before the first event; but a
    `resumed` stream may have none for long.

    A caller that goes away cancels this coroutine, and leaving it closes the stream.
    """
    content_type = sse.CONTENT_TYPE
    async with aclosing(events):
        while not events.ended:
            comments = resumed or not content_type
            try:
                ready = await events.take(keep_alive if comments else None)
            except Exception as error:
                if content_type:
                    raise
                await call.write(HttpBody(data=sse.encode(error_event(call.fail(error)))))
                return
            for data in sse.portions(ready, with_ids=with_ids) if ready else (sse.KEEP_ALIVE,):
                await call.write(HttpBody(content_type=content_type, data=data))
                content_type = ""


def _body(answer: Answer) -> bytes:
    return orjson.dumps(answers.to_json(answer))


def _trailers(error: ApiError) -> Ending:
    """Renders an error for the edge, which takes the response from the trailing metadata."""
    trailers = [("openai-error", error_header(error)), ("openai-status", str(error.spec.http))]
    if isinstance(error, downloads.RangeNotSatisfiable):
        trailers.append((f"{downloads.EDGE}content-range", f"bytes */{error.size}"))
    return error.spec.grpc, error.kind.value, tuple(trailers)


def error_header(error: ApiError) -> str:
    """Returns OpenAI's body as ASCII JSON of at most MAX_ERROR bytes; long texts are cut."""
    return next(text for text in _shorter_and_shorter(error.body()) if len(text) <= MAX_ERROR)


def _shorter_and_shorter(body: dict[str, Any]) -> Iterator[str]:
    yield _ascii(body)
    length = MAX_ERROR
    while length:
        length //= 2
        cut = {
            key: f"{value[:length]}…" if value and len(value) > length else value
            for key, value in body.items()
        }
        yield _ascii(cut)


def _ascii(body: dict[str, Any]) -> str:
    return dumps({"error": body}, separators=(",", ":")).replace("\x7f", "\\u007f")
