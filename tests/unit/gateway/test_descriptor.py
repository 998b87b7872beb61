import re
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from gateway import descriptor
from gateway.requests import Schema
from service.api.services import SERVICES
from tests.support import extensions
from tests.support.schemas import document

Operation = tuple[str, str]
METHODS = {
    (method.verb, method.path.removeprefix("/v1")): method for method in descriptor.methods()
}


def test_every_service_of_the_protos_is_declared() -> None:
    found = {
        f"{file.package}.{service.name}"
        for file in descriptor.derive().file
        if file.package == descriptor.PACKAGE
        for service in file.service
    }
    assert found == SERVICES.keys()


def operations() -> dict[Operation, dict[str, Any]]:
    return {
        (verb.upper(), path): operation
        for path, verbs in [*document()["paths"].items(), *extensions.PATHS.items()]
        for verb, operation in verbs.items()
    }


def test_the_rest_methods_are_the_operations_of_the_contract_and_ours() -> None:
    assert METHODS.keys() == operations().keys()


@pytest.mark.parametrize("operation", METHODS, ids=" ".join)
def test_bodies_take_the_documented_keys(operation: Operation) -> None:
    content = operations()[operation].get("requestBody", {}).get("content", {})
    keys: set[str] = set()
    if (form := content.get("multipart/form-data")) is not None:
        method = METHODS[operation]
        schema = document()["components"]["schemas"][form["schema"]["$ref"].rpartition("/")[2]]
        known = {descriptor.RAW[method.name], *Schema(method).form}
        assert (method.raw, known) == (True, set(schema["properties"]))
        return
    if content:
        schema = content["application/json"]["schema"]
        if "$ref" in schema:
            schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        keys = set(schema["properties"])
    known = set(descriptor.shapes().get(METHODS[operation].input_type, {}))
    assert known == keys | extensions.BODY_KEYS.get(operation, set())


@pytest.mark.parametrize("operation", METHODS, ids=" ".join)
def test_queries_take_the_documented_parameters(operation: Operation) -> None:
    parameters = operations()[operation].get("parameters", [])
    names = {entry["name"] for entry in parameters if entry["in"] == "query"}
    assert Schema(METHODS[operation]).query == names


def test_the_derived_set_loads_and_answers_with_http_bodies() -> None:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor.derive().file:
        pool.Add(file)
    for method in descriptor.methods():
        derived = pool.FindServiceByName(method.rest_service).methods_by_name[method.name]
        assert derived.input_type.full_name == method.input_type
        assert derived.output_type.full_name == "google.api.HttpBody"
        assert derived.server_streaming == method.streaming


def test_raw_methods_are_those_whose_callers_stream() -> None:
    streamed = {
        method.name
        for name in SERVICES
        for method in descriptor_pool.Default().FindServiceByName(name).methods
        if method.client_streaming
    }
    assert descriptor.RAW.keys() == streamed
    assert {method.name for method in METHODS.values() if method.raw} == streamed


def test_the_pieces_of_a_raw_body_have_the_variables_of_its_path() -> None:
    for method in METHODS.values():
        if method.raw:
            fields: Any = descriptor.raw_message(method).DESCRIPTOR.fields_by_name
            assert [*fields] == [*method.variables, "body"]
            assert fields["body"].message_type.full_name == "google.api.HttpBody"


def test_variables_are_named_in_the_path() -> None:
    for method in descriptor.methods():
        assert method.variables == re.findall(r"{(\w+)}", method.path)
