"""Any method of the API, called on either transport, with or without a key."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol

import grpc
import httpx2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToJson, ParseDict
from google.protobuf.message_factory import GetMessageClass

from gateway import descriptor
from tests.support.waiting import SECONDS

NOT_FOUND, UNAUTHENTICATED, OK = "NOT_FOUND", "UNAUTHENTICATED", "OK"
_STATUS = {
    200: OK,
    401: UNAUTHENTICATED,
    404: NOT_FOUND,
    400: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
}
UNARY = {stream: unary for unary, stream in descriptor.STREAMS.items()}
"""The methods of REST that answer as these do, where `stream` is true."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended: gRPC's status, and the text of the answer, or of a stream's beginning."""

    status: str
    text: str


class Transport(Protocol):
    """Calls methods by their names, with the fields of their requests as JSON."""

    def __call__(self, method: str, fields: Mapping[str, Any]) -> Outcome:
        """Returns the outcome; of a stream, after its first event."""


def all_methods() -> dict[str, MethodDescriptor]:
    """Returns every method of the public descriptor set by its name."""
    pool = DescriptorPool()
    found: dict[str, MethodDescriptor] = {}
    data = files("assistants.v1").joinpath("api.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(data).file:
        pool.Add(file)
        for service in file.service:
            full = pool.FindServiceByName(f"{file.package}.{service.name}")
            found |= {method.name: method for method in full.methods}
    return found


METHODS = all_methods()
REST = {method.name: method for method in descriptor.methods()}


class OverGrpc:
    """Calls over gRPC."""

    def __init__(self, channel: grpc.Channel, headers: Mapping[str, str]) -> None:
        self._channel = channel
        self._metadata = [*headers.items()]

    def __call__(self, method: str, fields: Mapping[str, Any]) -> Outcome:
        found = METHODS[method]
        response: Any = GetMessageClass(found.output_type)
        kind: Any = (
            self._channel.unary_stream if found.server_streaming else self._channel.unary_unary
        )
        call = kind(
            f"/{found.containing_service.full_name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        request = ParseDict(dict(fields), GetMessageClass(found.input_type)())
        try:
            answer = call(request, metadata=self._metadata, timeout=SECONDS)
            if found.server_streaming:
                events, answer = answer, next(answer)
                events.cancel()
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            return Outcome(error.code().name, str(error.details()))
        return Outcome(OK, MessageToJson(answer))


class OverRest:
    """Calls over REST, through the edge."""

    def __init__(self, client: httpx2.Client, headers: Mapping[str, str]) -> None:
        self._client = client
        self._headers = dict(headers)

    def __call__(self, method: str, fields: Mapping[str, Any]) -> Outcome:
        rule = REST[UNARY.get(method, method)]
        rest, path = dict(fields), rule.path.removeprefix("/v1")
        for name in rule.variables:
            path = path.replace(f"{{{name}}}", str(rest.pop(name)))
        if method in UNARY:
            rest["stream"] = True
        reads = rule.verb == "GET"
        with self._client.stream(
            rule.verb,
            path,
            params=rest if reads else None,
            content=json.dumps(rest) if rule.verb == "POST" else None,
            headers=self._headers | {"content-type": "application/json"},
        ) as answer:
            assert answer.headers["x-request-id"]
            if answer.headers["content-type"].startswith("text/event-stream"):
                text = next(answer.iter_text())
            else:
                text = answer.read().decode()
        return Outcome(_STATUS[answer.status_code], text)
