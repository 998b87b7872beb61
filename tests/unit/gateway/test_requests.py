"""What the edge's header and the original path make of a transcoded request."""

from typing import Any

import pytest
from assistants.v1 import assistants_pb2, runs_pb2

from gateway import descriptor
from gateway.requests import Schema
from service.calls import parsed_or_none
from service.errors import ApiError
from service.types.json_value import from_python

SCHEMAS = {method.name: Schema(method) for method in descriptor.methods()}


def keys(*given: str, null: tuple[str, ...] = ()) -> str:
    return ",".join(("n" if name in null else "v") + name.encode().hex() for name in given)


def complete(method: str, request: Any, path: str, body_keys: str = "") -> Any:
    metadata = {"x-edge-body-keys": body_keys, "x-envoy-original-path": path}
    return SCHEMAS[method].complete(request, metadata)


def modify(body_keys: str, **fields: Any) -> Any:
    request = assistants_pb2.ModifyAssistantRequest(assistant_id="asst_1", **fields)
    return complete("ModifyAssistant", request, "/v1/assistants/asst_1", body_keys)


def refused(method: str, request: Any, path: str, body_keys: str = "") -> dict[str, Any]:
    with pytest.raises(ApiError) as raised:
        complete(method, request, path, body_keys)
    return raised.value.body()


def test_modify_replaces_every_key_that_was_given() -> None:
    request = modify(keys("name", "tools", "metadata", null=("name",)))
    assert request.update_mask.paths == ["name", "tools", "metadata"]


def test_modify_without_a_body_replaces_nothing() -> None:
    assert not modify("").update_mask.paths


def test_a_run_overrides_with_the_keys_that_have_a_value() -> None:
    request = runs_pb2.CreateRunRequest(thread_id="thread_1", assistant_id="asst_1")
    given = keys("assistant_id", "model", "tools", "stream", null=("model",))
    result = complete("CreateRun", request, "/v1/threads/thread_1/runs", given)
    assert result.override_mask.paths == ["assistant_id", "tools"]


def test_null_is_no_value() -> None:
    request = assistants_pb2.CreateAssistantRequest(model="m")
    request.response_format.CopyFrom(from_python(None))
    result = complete(
        "CreateAssistant",
        request,
        "/v1/assistants",
        keys("response_format", null=("response_format",)),
    )
    assert not result.HasField("response_format")


PATHS = [method for method in descriptor.methods() if method.variables]


@pytest.mark.parametrize("method", PATHS, ids=lambda method: method.name)
def test_path_variables_are_those_of_the_path(method: descriptor.Method) -> None:
    schema = Schema(method)
    fields = {name: f"{name}/é 1" for name in method.variables}
    path = method.path
    for name in method.variables:
        path = path.replace(f"{{{name}}}", f"{name}%2F%C3%A9%201")
    complete(method.name, schema.message(**fields), path)
    for name in method.variables:
        other = schema.message(**{**fields, name: "other"})
        assert refused(method.name, other, path)["param"] == name
        query = refused(method.name, other, f"{path}?{name}=other")
        assert query["message"] == f"Unknown parameter: '{name}'."


def test_include_is_a_query_parameter_and_may_be_repeated() -> None:
    path = "/v1/threads/t/runs/r/steps?include%5B%5D=a&include[]=b&limit=1"
    request = runs_pb2.ListRunStepsRequest(thread_id="t", run_id="r", include=["a", "b"])
    assert complete("ListRunSteps", request, path) is request
    assert refused("ListRunSteps", request, path + "&limit=2")["code"] == "duplicate_parameter"


def test_bytes_that_are_no_message_are_an_invalid_type() -> None:
    schema = SCHEMAS["CreateAssistant"]
    assert parsed_or_none(schema.message.FromString)(b"\x0a\xff") is None
    body = refused("CreateAssistant", None, "/v1/assistants", keys("model", "metadata"))
    assert (body["param"], body["code"]) == ("metadata", "invalid_type")
    assert refused("CreateAssistant", None, "/v1/assistants", keys("model"))["param"] is None
