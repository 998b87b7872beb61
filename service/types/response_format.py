"""Response formats: `"auto"`, or an object that has `type`."""

from typing import Any

from assistants.json import json_pb2
from assistants.v1 import common_pb2

from service.types import checks, json_value

KINDS = ("text", "json_object", "json_schema")
AUTO = "auto"

_SCHEMA_KEYS = ("name", "description", "schema", "strict")


def parse(param: str, given: json_pb2.Value) -> Any:
    """Returns `"auto"`, for null as well, or an object that has `type`."""
    value = json_value.to_python(given, param)
    if value is None or value == AUTO:
        return AUTO
    if isinstance(value, str):
        checks.unsupported(param, value, (AUTO,))
    if not isinstance(value, dict):
        checks.wrong_type(param, "one of a string or an object", value)
    kind = checks.kind(param, value, KINDS)
    if kind != "json_schema":
        return checks.json_object(param, value, ("type",))
    checks.json_object(param, value, ("type", "json_schema"))
    schema = checks.member(param, value, "json_schema")
    return {"type": kind, "json_schema": _json_schema(f"{param}.json_schema", schema)}


def _json_schema(param: str, value: Any) -> dict[str, Any]:
    given = checks.json_object(param, value, _SCHEMA_KEYS)
    name = checks.json_text(f"{param}.name", checks.member(param, given, "name"))
    checks.function_name(f"{param}.name", name)
    expected: dict[str, tuple[type, str]] = {
        "description": (str, "a string"),
        "schema": (dict, "an object"),
        "strict": (bool, "a boolean"),
    }
    for key, (kind, words) in expected.items():
        if given.get(key) is not None and not isinstance(given[key], kind):
            checks.wrong_type(f"{param}.{key}", words, given[key])
    return {key: item for key, item in given.items() if item is not None}


def to_json(stored: Any) -> Any:
    """Returns a format; the keys of a named schema have the order of OpenAI's documents."""
    if isinstance(stored, str) or "json_schema" not in stored:
        return stored
    given = stored["json_schema"]
    ordered = {key: given[key] for key in _SCHEMA_KEYS if key in given}
    return {"type": "json_schema", "json_schema": ordered}


def to_proto(value: Any) -> common_pb2.ResponseFormat:
    """Returns the same in protobuf."""
    if value == AUTO:
        return common_pb2.ResponseFormat(auto=common_pb2.ResponseFormat.Auto())
    match value["type"]:
        case "text":
            return common_pb2.ResponseFormat(text=common_pb2.ResponseFormat.Text())
        case "json_object":
            return common_pb2.ResponseFormat(json_object=common_pb2.ResponseFormat.JsonObject())
        case _:
            given = dict(value["json_schema"])
            schema = given.pop("schema", None)
            result = common_pb2.ResponseFormat.JsonSchema(**given)
            if schema is not None:
                result.schema.CopyFrom(json_value.struct_from_python(schema))
                result.schema.SetInParent()
            return common_pb2.ResponseFormat(json_schema=result)
