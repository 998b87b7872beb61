"""Derives the REST services from the public descriptor set, so that none is written by hand.

Each of the API's services (service/api/services.py) is copied into the package
`assistants.v1.rest`, with the methods that carry a `google.api.http` rule: names, inputs and rules
are as they are, and `google.api.HttpBody` is the output, because the server renders the bytes (see
gateway/rest.py). Envoy loads the result, which `python -m gateway.descriptor` writes to
gateway/rest.binpb; `methods` is the same as a table.

Methods whose input is a stream of bytes (`RAW`) take multipart/form-data on REST: their derived
input has the path's variables, and the body as it comes.

What the edge must know of paths and bodies is derived from it too: Lua tables, which stand before
the text of gateway/edge.lua in gateway/rest.lua.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.api.services import SERVICES
from service.api.typed import DOWNLOAD

PACKAGE = "assistants.v1"
REST_PACKAGE = f"{PACKAGE}.rest"
PATH = Path(__file__).with_name("rest.binpb")
EDGE_PATH = Path(__file__).with_name("rest.lua")
NOT_IN_REST = {"update_mask", "override_mask", "parts", "offset", "length"}
"""Fields for gRPC callers; REST says the same by the body's keys, by `content`, by a header."""

IN_QUERY = "include[]"
"""The one parameter that stands in the query also where there is a body."""


_HTTP_BODY = "google/api/httpbody.proto"
_BODY = "body"
_EDGE = Path(__file__).with_name("edge.lua")
_FREE = {"google.protobuf.Struct": "free", "google.protobuf.Value": "any"}
_TYPES: dict[int, str] = {
    number: name for name, number in descriptor_pb2.FieldDescriptorProto.Type.items()
}
_VARIABLE = re.compile(r"{(\w+)}")
_DEEP = "=**"

STREAMS = {
    "CreateRun": "StreamRun",
    "CreateThreadAndRun": "StreamThreadAndRun",
    "SubmitToolOutputs": "StreamToolOutputs",
}
"""The methods that answer with events where `stream` is true, and those that then do the work."""


RAW = {"UploadFile": "file", "AddUploadPart": "data"}
"""The methods that take a stream of bytes, and the form's field with the bytes."""

POLLED = "GetRun"
"""The method that the official clients' polling helpers call until a run has ended."""


@dataclass(frozen=True, slots=True)
class Method:
    """One REST operation: `name` of the typed `service`, which it calls, and its HTTP rule."""

    service: str
    name: str
    input_type: str
    verb: str
    path: str
    deep: bool
    """Whether the last variable of the path may have slashes."""
    streaming: bool
    events: bool
    """Whether the typed method itself answers with events."""
    raw: bool
    """Whether the body goes through as it comes."""

    @property
    def variables(self) -> list[str]:
        """The names of the path's variables, in their order."""
        return _VARIABLE.findall(self.path)

    @property
    def rest_service(self) -> str:
        """The full name of the derived service."""
        return self.service.replace(PACKAGE, REST_PACKAGE, 1)


@cache
def methods() -> tuple[Method, ...]:
    """Returns every REST operation, in the order of the .proto files."""
    return tuple(
        _method(f"{PACKAGE}.{service.name}", method)
        for _, service in _services(_public())
        for method in service.method
        if _has_rule(method)
    )


def derive() -> descriptor_pb2.FileDescriptorSet:
    """Returns the public descriptor set with one more file, which holds the REST services."""
    result = _public()
    rest = descriptor_pb2.FileDescriptorProto(
        name="assistants/v1/rest.proto",
        package=REST_PACKAGE,
        syntax="proto3",
        dependency=[_HTTP_BODY, "google/api/annotations.proto"],
    )
    for file, service in _services(result):
        copied = rest.service.add(name=service.name)
        for method in filter(_has_rule, service.method):
            entry = copied.method.add()
            entry.CopyFrom(method)
            entry.output_type = ".google.api.HttpBody"
            entry.server_streaming = _streams(method)
            if method.name in RAW:
                rest.message_type.append(_raw_input(method))
                entry.input_type = f".{_raw_type(method)}"
                entry.options.Extensions[annotations_pb2.http].body = _BODY
        rest.dependency.append(file.name)
    result.file.append(rest)
    return result


def write(path: Path = PATH) -> None:
    """Writes the derived set for Envoy."""
    path.write_bytes(derive().SerializeToString(deterministic=True))


@cache
def raw_message(method: Method) -> type[Message]:
    """Returns the class of the derived input of a method that takes a stream of bytes."""
    return message_factory.GetMessageClass(_rest_pool().FindMessageTypeByName(method.input_type))


@cache
def _rest_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in derive().file:
        pool.Add(file)
    return pool


def _raw_type(method: descriptor_pb2.MethodDescriptorProto) -> str:
    return f"{REST_PACKAGE}.{method.name}Form"


def _raw_input(method: descriptor_pb2.MethodDescriptorProto) -> descriptor_pb2.DescriptorProto:
    """Returns the message of a piece of a body: the path's variables, and the bytes."""
    result = descriptor_pb2.DescriptorProto(name=_raw_type(method).rpartition(".")[2])
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, name in enumerate(_VARIABLE.findall(_path(method)), 1):
        result.field.add(
            name=name,
            number=number,
            label=kinds.LABEL_OPTIONAL,
            type=kinds.TYPE_STRING,
        )
    result.field.add(
        name=_BODY,
        number=len(result.field) + 1,
        label=kinds.LABEL_OPTIONAL,
        type=kinds.TYPE_MESSAGE,
        type_name=".google.api.HttpBody",
    )
    return result


def shapes() -> dict[str, Any]:
    """Returns what the keys of each body, and of the objects in it, may be."""
    pool = descriptor_pool.DescriptorPool()
    for file in _public().file:
        pool.Add(file)
    result: dict[str, Any] = {}

    def add(name: str, hidden: Iterable[str]) -> None:
        message: Descriptor = pool.FindMessageTypeByName(name)
        fields = [f for f in message.fields if f.name not in hidden and f.json_name != IN_QUERY]
        result[message.full_name] = {field.name: _shape(field) for field in fields}
        for field in fields:
            inner = result[message.full_name][field.name].get("object")
            if inner and inner not in result:
                add(inner, NOT_IN_REST)

    for method in _with_body():
        if method.raw:
            continue
        add(method.input_type, {*NOT_IN_REST, *method.variables})
    return result


def edge() -> str:
    """Returns the edge's program: its tables, on one line, and the text of gateway/edge.lua."""
    given = {
        "ROUTES": _routes(),
        "SHAPES": shapes(),
        "MAPS": {
            name: True for shape in shapes().values() for name in shape if "map" in shape[name]
        },
        "POLLED": f"^{_VARIABLE.sub('[^/]+', _polled().path)}$",
    }
    tables = ", ".join(map(_lua, given.values()))
    return f"local {', '.join(given)} = {tables}\n{_EDGE.read_text()}"


def write_edge(path: Path = EDGE_PATH) -> None:
    """Writes the edge's program for Envoy."""
    path.write_text(edge())


def _routes() -> dict[str, Any]:
    """Returns a tree of the segments of the paths that take a body; `*` stands for a variable.

    At its leaves is the name of the body, or `raw`.
    """
    root: dict[str, Any] = {"next": {}}
    for method in _with_body():
        node = root
        for segment in _VARIABLE.sub("*", method.path).strip("/").split("/"):
            node = node["next"].setdefault(segment, {"next": {}})
        node |= {"raw": True} if method.raw else {"body": method.input_type}
    return root


def _polled() -> Method:
    return next(method for method in methods() if method.name == POLLED)


def _shape(field: FieldDescriptor) -> dict[str, Any]:
    message = field.message_type
    if message is None:
        shape: dict[str, Any] = {"scalar": _TYPES[field.type]}
    elif message.GetOptions().map_entry:
        return {"map": True}
    elif message.full_name in _FREE:
        shape = {_FREE[message.full_name]: True}
    else:
        shape = {"object": message.full_name}
    return shape | {"list": True} if field.is_repeated else shape


def _with_body() -> list[Method]:
    return [method for method in methods() if method.verb == "POST"]


def _lua(value: Any) -> str:
    if isinstance(value, dict):
        entries = (f"[{_lua(key)}]={_lua(item)}" for key, item in value.items())
        return "{" + ",".join(entries) + "}"
    return orjson.dumps(value).decode()


def _public() -> descriptor_pb2.FileDescriptorSet:
    data = files(PACKAGE).joinpath("api.binpb").read_bytes()
    result = descriptor_pb2.FileDescriptorSet.FromString(data)
    for file in result.file:
        file.ClearField("source_code_info")
    return result


def _services(
    public: descriptor_pb2.FileDescriptorSet,
) -> Iterator[tuple[descriptor_pb2.FileDescriptorProto, descriptor_pb2.ServiceDescriptorProto]]:
    for file in public.file:
        for service in file.service:
            if f"{file.package}.{service.name}" in SERVICES:
                yield file, service


def _has_rule(method: descriptor_pb2.MethodDescriptorProto) -> bool:
    return bool(method.options.HasExtension(annotations_pb2.http))


def _streams(method: descriptor_pb2.MethodDescriptorProto) -> bool:
    # Lists too: Envoy refuses single answers that do not fit into its buffers, but not streams.
    listing = method.name.startswith("List")
    return method.server_streaming or listing or method.name in STREAMS


def _method(service: str, method: descriptor_pb2.MethodDescriptorProto) -> Method:
    raw = method.name in RAW
    return Method(
        service=service,
        name=method.name,
        input_type=_raw_type(method) if raw else method.input_type.removeprefix("."),
        verb=_verb(method).upper(),
        path=_path(method).replace(_DEEP, ""),
        deep=_DEEP in _path(method),
        streaming=_streams(method),
        events=method.server_streaming and method.name != DOWNLOAD,
        raw=raw,
    )


def _verb(method: descriptor_pb2.MethodDescriptorProto) -> str:
    return str(method.options.Extensions[annotations_pb2.http].WhichOneof("pattern"))


def _path(method: descriptor_pb2.MethodDescriptorProto) -> str:
    return str(getattr(method.options.Extensions[annotations_pb2.http], _verb(method)))


if __name__ == "__main__":
    write()
    write_edge()
