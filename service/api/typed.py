"""The typed gRPC services: calls the servicers and answers with the messages of `assistants.v1`."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from service.calls import ANYBODY
from service.runner.events.streams import EventStream
from service.types import answers, events

Context = grpc.aio.ServicerContext[Any, Any]


def handlers(servicers: Mapping[str, object]) -> list[grpc.GenericRpcHandler]:
    """Returns the handlers of the servicers, which are given by the full names of their services.

    A servicer has a coroutine for each method, which takes a request and its caller. It returns an
    answer, or, where the method streams, a stream of events.
    """
    return [
        grpc.method_handlers_generic_handler(
            name,
            {
                method.name: _handler(method, getattr(servicer, method.name))
                for method in descriptor_pool.Default().FindServiceByName(name).methods
            },
        )
        for name, servicer in servicers.items()
    ]


def _handler(
    method: MethodDescriptor, call: Callable[..., Any]
) -> "grpc.RpcMethodHandler[Any, Any]":
    request = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    make = (
        grpc.unary_stream_rpc_method_handler
        if method.server_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make(
        _streaming(call) if method.server_streaming else _unary(call, answer),
        request_deserializer=request.FromString,
        response_serializer=answer.SerializeToString,
    )


def _unary(
    call: Callable[..., Awaitable[answers.Answer]], kind: type[Message]
) -> Callable[[Any, Context], Awaitable[Message]]:
    async def handle(request: Any, context: Context) -> Message:
        return answers.to_proto(await call(request, ANYBODY), kind)

    return handle


def _streaming(
    call: Callable[..., Awaitable[EventStream]],
) -> Callable[[Any, Context], AsyncGenerator[Message, None]]:
    async def handle(request: Any, context: Context) -> AsyncGenerator[Message, None]:
        async with aclosing(await call(request, ANYBODY)) as stream:
            while not stream.ended:
                for event in await stream.take():
                    yield events.to_proto(event)

    return handle
