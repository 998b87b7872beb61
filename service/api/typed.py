"""The typed gRPC services: calls the servicers and answers with the messages of `assistants.v1`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from assistants.v1 import files_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_status import rpc_status

from service.access import Identify
from service.api.transfers import Announced, Download
from service.calls import Call, Caller, Chain, Ending, Work
from service.errors import ApiError, Kind
from service.runner.events.streams import EventStream
from service.types import answers, checks, events

DOWNLOAD = "DownloadFile"
"""The method that answers with the bytes of a file."""


def handlers(servicers: Mapping[str, object], identify: Identify) -> list[grpc.GenericRpcHandler]:
    """Returns the handlers of the servicers, which are given by the full names of their services.

    A servicer has a coroutine for each method, which takes a request and its caller. It returns an
    answer, or, where the method streams, a stream of events, or a file to be read. A method whose
    caller streams takes what comes instead of a request. `identify` says whose a call is.
    """
    chain = Chain(_status, identify)
    return [
        grpc.method_handlers_generic_handler(
            name,
            {
                method.name: _handler(chain, method, getattr(servicer, method.name))
                for method in descriptor_pool.Default().FindServiceByName(name).methods
            },
        )
        for name, servicer in servicers.items()
    ]


def _handler(
    chain: Chain, method: MethodDescriptor, execute: Callable[..., Any]
) -> "grpc.RpcMethodHandler[Any, Any]":
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    streaming, streamed = method.server_streaming, method.client_streaming
    if streamed:
        work = _upload(execute, response)
    elif method.name == DOWNLOAD:
        work = _download(execute)
    else:
        work = _streaming(execute) if streaming else _unary(execute, response)
    return chain.handler(
        method.name, request, response, work, streaming=streaming, streamed=streamed
    )


def _unary(
    execute: Callable[[Any, Caller], Awaitable[answers.Answer]], response: type[Message]
) -> Work:
    async def work(request: Message | None, call: Call) -> Message:
        return answers.to_proto(await call.execute(execute, _given(request)), response)

    return work


def _streaming(execute: Callable[[Any, Caller], Awaitable[EventStream]]) -> Work:
    async def work(request: Message | None, call: Call) -> None:
        async with aclosing(await call.execute(execute, _given(request))) as stream:
            while not stream.ended:
                for event in await stream.take():
                    await call.write(events.to_proto(event))

    return work


def _upload(execute: Callable[..., Awaitable[answers.Answer]], response: type[Message]) -> Work:
    async def work(messages: AsyncIterator[Message | None], call: Call) -> Message:
        stream = aiter(messages)
        first = _given(await anext(stream, None))
        answer = await call.execute(execute, Announced(first, stream))
        return answers.to_proto(answer, response)

    return work


def _download(execute: Callable[[Any, Caller], Awaitable[Download]]) -> Work:
    async def work(request: Message | None, call: Call) -> None:
        given: Any = _given(request)
        download = await call.execute(execute, given)
        size = download.file.bytes
        start = checks.integer("offset", given.offset, 0, size)
        length = size
        if given.HasField("length"):
            length = checks.integer("length", given.length, 0)
        pieces = download.read(start, min(start + length, size))
        # The first one, ahead of all that is said of it: then nothing is refused any more.
        data = await anext(pieces, b"")
        file: Any = answers.to_proto(download.file, files_pb2.File)
        await call.write(files_pb2.DownloadFileResponse(file=file, data=data))
        async for piece in pieces:
            await call.write(files_pb2.DownloadFileResponse(data=piece))

    return work


def _given(request: Message | None) -> Message:
    if request is None:
        message = "We could not parse your request: its bytes are not the message of this method."
        raise ApiError(Kind.invalid_type, message)
    return request


def _status(error: ApiError) -> Ending:
    """Renders an error as gRPC's rich status: message, reason, and parameter at fault."""
    status = rpc_status.to_status(error.status())
    return status.code, status.details, tuple(status.trailing_metadata)
