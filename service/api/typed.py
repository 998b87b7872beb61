"""The typed gRPC services: calls the servicers and answers with the messages of `assistants.v1`."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_status import rpc_status

from service.access import Identify
from service.calls import Call, Caller, Chain, Ending, Work
from service.errors import ApiError, Kind
from service.rates import Rates
from service.runner.events.streams import EventStream
from service.types import answers, events


def handlers(
    servicers: Mapping[str, object], identify: Identify, rates: Rates | None = None
) -> list[grpc.GenericRpcHandler]:
    """Returns the handlers of the servicers, which are given by the full names of their services.

    A servicer has a coroutine for each method, which takes a request and its caller. It returns an
    answer, or, where the method streams, a stream of events. `identify` says whose a call is,
    `rates` how many each caller may make.
    """
    chain = Chain(_status, identify, rates, answers_id=True)
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
    streaming = method.server_streaming
    work = _streaming(execute) if streaming else _unary(execute, response)
    return chain.handler(method.name, request, response, work, streaming=streaming)


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


def _given(request: Message | None) -> Message:
    if request is None:
        message = "We could not parse your request: its bytes are not the message of this method."
        raise ApiError(Kind.invalid_type, message)
    return request


def _status(error: ApiError) -> Ending:
    """Renders an error as gRPC's rich status: message, reason, and parameter at fault."""
    status = rpc_status.to_status(error.status())
    return status.code, status.details, tuple(status.trailing_metadata)
