"""`assistants serve` with a service more, whose methods do nothing: the limit of all others.

What a call takes can be no less than what these take: they pass the same Envoy, the same gRPC and
the same event loop. `GET /v1/no-op` answers with an `HttpBody`, as all of REST does, and
`bench.v1.NoOpService/Typed` with a typed message.

    python -m bench.server 1    # in place of `assistants serve`, with the same settings
"""

import sys
from pathlib import Path
from typing import Any, Final

import grpc
import orjson
from assistants.v1 import assistants_pb2
from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf import descriptor_pb2

from bench import profiler
from gateway import cli, envoy, fleet, member
from service.settings import Settings

PATH: Final = "/v1/no-op"
SERVICE: Final = "bench.v1.NoOpService"
TYPED: Final = f"{SERVICE}/Typed"
ANSWER: Final = httpbody_pb2.HttpBody(content_type="application/json", data=b"{}")
TYPED_ANSWER: Final = assistants_pb2.Assistant(id="asst_none", model="none")


async def _no_op(_: bytes, __: grpc.aio.ServicerContext[Any, Any]) -> httpbody_pb2.HttpBody:
    return ANSWER


async def _typed_no_op(
    _: assistants_pb2.GetAssistantRequest, __: grpc.aio.ServicerContext[Any, Any]
) -> assistants_pb2.Assistant:
    return TYPED_ANSWER


def handler() -> grpc.GenericRpcHandler:
    """Returns the handler of the service."""
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "NoOp": grpc.unary_unary_rpc_method_handler(
                _no_op, response_serializer=httpbody_pb2.HttpBody.SerializeToString
            ),
            "Typed": grpc.unary_unary_rpc_method_handler(
                _typed_no_op,
                request_deserializer=assistants_pb2.GetAssistantRequest.FromString,
                response_serializer=assistants_pb2.Assistant.SerializeToString,
            ),
        },
    )


def descriptor() -> descriptor_pb2.FileDescriptorProto:
    """Returns what Envoy must know of the service."""
    file = descriptor_pb2.FileDescriptorProto(
        name="bench/v1/no_op.proto",
        package=SERVICE.rpartition(".")[0],
        syntax="proto3",
        dependency=["google/api/httpbody.proto", "google/api/annotations.proto"],
    )
    file.message_type.add(name="NoOpRequest")
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    method = service.method.add(
        name="NoOp", input_type=".bench.v1.NoOpRequest", output_type=".google.api.HttpBody"
    )
    method.options.Extensions[annotations_pb2.http].CopyFrom(http_pb2.HttpRule(get=PATH))
    return file


def serve_beside() -> None:
    """Lets every server of this process, and its Envoy, serve the service too."""
    make_server, write = grpc.aio.server, envoy.write

    def server(*args: Any, **options: Any) -> grpc.aio.Server:
        made = make_server(*args, **options)
        made.add_generic_rpc_handlers((handler(),))
        return made

    def write_all(settings: Settings, *args: Any, **options: Any) -> Path:
        path = write(settings, *args, **options)
        add_to_envoy(path)
        return path

    grpc.aio.server = server
    envoy.write = write_all


def add_to_envoy(path: Path) -> None:
    """Adds the service to a configuration of Envoy, and to the descriptors that it names."""
    config = orjson.loads(path.read_bytes())
    listener = config["static_resources"]["listeners"][0]
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    transcoder = next(each["typed_config"] for each in filters if "transcoder" in each["name"])
    transcoder["services"].append(SERVICE)
    descriptors = Path(transcoder["proto_descriptor"])
    known = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
    known.file.append(descriptor())
    descriptors.write_bytes(known.SerializeToString())
    path.write_bytes(orjson.dumps(config))


def main() -> None:
    """Runs the server, or so many as the argument says; with another argument, one of these."""
    serve_beside()
    profiler.install()
    if sys.argv[1].isdecimal():
        fleet.COMMAND = (sys.executable, "-m", "bench.server")
        cli.serve(processes=int(sys.argv[1]))
    else:
        member.main()


if __name__ == "__main__":
    main()
