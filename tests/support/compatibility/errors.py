"""One request, sent over REST and, as the same call, over gRPC: what both transports say of it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import grpc
import httpx2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gateway import descriptor
from service.errors import DOMAIN, Kind


@dataclass(frozen=True)
class Case:
    """A request that is refused: `{names}` in it stand for objects of the test's world.

    `kind` is None for what Envoy refuses itself, with `status`. A `body` of text is sent as it is.
    `rest_only` are the requests that gRPC callers cannot make: their messages are typed.
    """

    kind: Kind | None
    request: str
    message: str
    param: str | None = None
    body: Any = None
    rest_only: bool = False
    status: int = 400

    def __str__(self) -> str:
        return f"{self.kind} {self.request} {self.param}"


def filled(value: Any, world: Mapping[str, str]) -> Any:
    """Returns the value with the names in all of its texts replaced."""
    if isinstance(value, str):
        return re.sub(r"{(\w+)}", lambda found: world[found[1]], value)
    if isinstance(value, dict):
        return {key: filled(item, world) for key, item in value.items()}
    return [filled(item, world) for item in value] if isinstance(value, list) else value


def over_rest(base_url: str, request: str, body: Any) -> tuple[int, Any]:
    """Returns the HTTP status and the JSON of the answer."""
    verb, _, path = request.partition(" ")
    content = body if isinstance(body, str) or body is None else json.dumps(body)
    with httpx2.Client(timeout=60) as client:
        answer = client.request(
            verb, base_url + path, content=content, headers={"content-type": "application/json"}
        )
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    return answer.status_code, answer.json()


@dataclass(frozen=True)
class Refusal:
    """What a gRPC caller learns of an error."""

    status: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]


def over_grpc(channel: grpc.Channel, request: str, body: Any) -> Refusal:
    """Makes the call that the REST request stands for, as a client with plain messages does."""
    service, name, message = _call(request, dict(body or {}))
    streams = name in descriptor.STREAMS.values()
    call: Any = channel.unary_stream if streams else channel.unary_unary
    try:
        answer = call(f"/{service}/{name}")(message.SerializeToString())
        if streams:
            next(answer)
    except grpc.RpcError as error:
        return refusal(error)
    raise AssertionError("nothing was refused")


def refusal(error: BaseException) -> Refusal:
    """Reads the error's status and its one detail, an ErrorInfo of our domain."""
    assert isinstance(error, grpc.Call | grpc.aio.AioRpcError)
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    [detail] = status.details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    assert info.domain == DOMAIN == "assistants.v1"
    return Refusal(error.code(), status.message, info.reason, dict(info.metadata))


def _call(request: str, body: dict[str, Any]) -> tuple[str, str, Message]:
    verb, _, target = request.partition(" ")
    path, _, query = target.partition("?")
    for method in descriptor.methods():
        pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", method.path.removeprefix("/v1"))
        # `/threads/runs` is no thread.
        found = re.fullmatch(pattern, path)
        if method.verb == verb and found and "runs" not in found.groupdict().values():
            name = method.name
            if body.pop("stream", False):
                name = descriptor.STREAMS[name]
            pairs = [pair.split("=") for pair in query.split("&") if pair]
            fields = body | found.groupdict() | {key: value for key, value in pairs}
            message: Message = GetMessageClass(_POOL.FindMessageTypeByName(method.input_type))()
            return method.service, name, ParseDict(fields, message)
    raise AssertionError(f"no method for {request}")


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    data = files("assistants.v1").joinpath("api.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return pool


_POOL = _pool()
"""The public descriptors, whose values of JSON are plain `google.protobuf.Value`."""
