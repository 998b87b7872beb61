"""Reflection and health: what a caller can do who has nothing but the address."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc
import pytest
from assistants.v1 import assistants_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from service.api.services import SERVICES
from tests.support.stack import Stack

BUF = Path(sys.executable).parent / "buf"
OTHERS = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


@pytest.fixture(params=["ASSISTANTS_GRPC_ADDRESS", "ASSISTANTS_HTTP_ADDRESS"])
def address(server: Stack, request: pytest.FixtureRequest) -> str:
    """The gRPC port, and Envoy's."""
    return server.env[request.param]


def buf_curl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_services_are_listed(address: str) -> None:
    done = buf_curl("--list-services", f"http://{address}")
    assert set(done.stdout.split()) == SERVICES.keys() | OTHERS, done.stderr


def test_a_call_with_reflection_alone(address: str) -> None:
    schema = {"type": "object", "required": ["b"], "properties": {"b": {"type": "string"}}}
    function = {"name": "f", "parameters": schema}
    request = {"model": "m", "name": "Ann", "tools": [{"type": "function", "function": function}]}
    url = f"http://{address}/assistants.v1.AssistantsService/"
    done = buf_curl("--data", json.dumps(request), url + "CreateAssistant")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["name"] == "Ann"
    assert made["tools"][0]["function"]["parameters"] == schema
    done = buf_curl("--data", json.dumps({"assistant_id": made["id"]}), url + "GetAssistant")
    assert json.loads(done.stdout) == made


def test_an_error_with_reflection_alone(address: str) -> None:
    url = f"http://{address}/assistants.v1.AssistantsService/GetAssistant"
    done = buf_curl("--data", '{"assistant_id": "asst_x"}', url)
    assert done.returncode == grpc.StatusCode.NOT_FOUND.value[0] << 3
    error = json.loads(done.stderr)
    assert error["message"] == "No assistant found with id 'asst_x'."
    assert error["details"][0]["type"] == "google.rpc.ErrorInfo"


def public_files() -> dict[str, FileDescriptorProto]:
    data = files("assistants.v1").joinpath("api.binpb").read_bytes()
    return {file.name: file for file in FileDescriptorSet.FromString(data).file}


def test_descriptors_are_those_of_the_proto_files(channel: grpc.Channel) -> None:
    public = public_files()
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    symbols = [*SERVICES, "assistants.v1.FunctionDefinition", "assistants.v1.RunEvent"]
    requests = [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols
    ]
    shown = {}
    for answer in stub.ServerReflectionInfo(iter(requests)):
        for data in answer.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(data)
            shown[file.name] = file
    assert "google/protobuf/struct.proto" in shown
    assert not [name for name in shown if name.startswith("assistants/json")]
    for name, file in shown.items():
        if name.startswith("assistants/"):
            expected = public[name]
            expected.ClearField("source_code_info")
            file.ClearField("source_code_info")
            assert file == expected
    common = shown["assistants/v1/common.proto"]
    definition = next(each for each in common.message_type if each.name == "FunctionDefinition")
    types = {field.name: field.type_name for field in definition.field}
    assert types["parameters"] == ".google.protobuf.Struct"


def test_key_order_of_a_client_with_plain_structs(channel: grpc.Channel) -> None:
    """Its own map has no order, but what it happened to send is what comes back."""
    pool = DescriptorPool()
    for file in public_files().values():
        pool.Add(file)
    request: Any = GetMessageClass(
        pool.FindMessageTypeByName("assistants.v1.CreateAssistantRequest")
    )(model="m")
    tool = request.tools.add(type="function")
    tool.function.name = "f"
    keys = [f"key{n}" for n in range(40)]
    tool.function.parameters.update({key: {"type": "string", "n": 1} for key in keys})

    sent = request.SerializeToString()
    call: Any = channel.unary_unary("/assistants.v1.AssistantsService/CreateAssistant")
    received = call(sent)
    plain: Any = GetMessageClass(pool.FindMessageTypeByName("assistants.v1.Assistant"))
    parameters = plain.FromString(received).tools[0].function.parameters
    assert parameters == tool.function.parameters

    twin_sent = assistants_pb2.CreateAssistantRequest.FromString(sent)
    twin_received = assistants_pb2.Assistant.FromString(received)
    order = [field.key for field in twin_sent.tools[0].function.parameters.fields]
    assert sorted(order) == sorted(keys)
    assert [field.key for field in twin_received.tools[0].function.parameters.fields] == order


@pytest.mark.parametrize("service", ["", *sorted(SERVICES)])
def test_health(channel: grpc.Channel, service: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service(channel: grpc.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="x"))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_the_rest_methods_are_not_public(address: str, channel: grpc.Channel) -> None:
    with grpc.insecure_channel(address) as either:
        call: Any = either.unary_unary("/assistants.v1.rest.ThreadsService/CreateThread")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"")
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
