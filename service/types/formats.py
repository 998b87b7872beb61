"""Response formats: `"auto"`, or an object that has `type`."""

from typing import Any

from assistants.v1 import common_pb2

from service.types.json_value import struct_from_python

_SCHEMA_KEYS = ("name", "description", "schema", "strict")


def to_json(value: Any) -> Any:
    """Returns a format; the keys of a named schema have the order of OpenAI's documents."""
    if isinstance(value, str) or "json_schema" not in value:
        return value
    given = value["json_schema"]
    ordered = {key: given[key] for key in _SCHEMA_KEYS if key in given}
    return {"type": "json_schema", "json_schema": ordered}


def to_proto(value: Any) -> common_pb2.ResponseFormat:
    """Returns a format."""
    if value == "auto":
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
                result.schema.CopyFrom(struct_from_python(schema))
                result.schema.SetInParent()
            return common_pb2.ResponseFormat(json_schema=result)
