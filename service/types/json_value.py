"""Free JSON: conversions between protobuf's values and Python's that keep the order of keys.

The bindings read `google.protobuf.Value` and `Struct` as ordered twins (see protos/generate.py).
Numbers are doubles there: integral ones come back as integers, exact up to 2^53.
"""

import math
from collections.abc import Mapping
from typing import Any

from assistants.json import json_pb2

from service.errors import ApiError, Kind
from service.types import checks

Json = dict[str, Any]
"""An object of OpenAI's API, as JSON."""

MAX_DEPTH = 30
"""How deep JSON may nest. protobuf itself gives up at 100 messages, three to a level of objects."""

MAX_VALUES = 20_000
"""Values in the JSON of one parameter, at all levels. Other calls wait while they are read."""


def to_python(value: json_pb2.Value, param: str) -> Any:
    """Returns the value as Python's JSON types. ApiError names `param` if it is not proper JSON."""
    return _Conversion(param).value(value, param, 0)


def struct_to_python(struct: json_pb2.Struct, param: str, depth: int = 0) -> dict[str, Any]:
    """Returns the object as a dict, keys in the given order; of a repeated key, the last counts."""
    return _Conversion(param).struct(struct, param, depth)


class _Conversion:
    """The conversion of one parameter, which counts the values in it."""

    def __init__(self, param: str) -> None:
        self._param = param
        self._left = MAX_VALUES

    def value(self, value: json_pb2.Value, param: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ApiError(
                Kind.invalid_value,
                f"Invalid '{param}': nested more than {MAX_DEPTH} levels.",
                param,
            )
        match value.WhichOneof("kind"):
            case "number_value":
                return _number(value.number_value, param)
            case "string_value":
                return checks.storable(param, value.string_value)
            case "bool_value":
                return value.bool_value
            case "struct_value":
                return self.struct(value.struct_value, param, depth)
            case "list_value":
                self._count(len(value.list_value.values))
                return [
                    self.value(item, f"{param}[{index}]", depth + 1)
                    for index, item in enumerate(value.list_value.values)
                ]
            case _:
                return None

    def struct(self, struct: json_pb2.Struct, param: str, depth: int) -> dict[str, Any]:
        self._count(len(struct.fields))
        return {
            checks.storable(param, field.key): self.value(
                field.value, f"{param}.{field.key}", depth + 1
            )
            for field in struct.fields
        }

    def _count(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise ApiError(
                Kind.invalid_value,
                f"Invalid '{self._param}': it has more than {MAX_VALUES} values.",
                self._param,
            )


def _number(number: float, param: str) -> int | float:
    if not math.isfinite(number):
        raise ApiError(Kind.invalid_value, f"Invalid '{param}': expected a finite number.", param)
    return int(number) if number.is_integer() and abs(number) <= 2**53 else number


def from_python(value: Any) -> json_pb2.Value:
    """Returns Python's JSON types as a protobuf value."""
    match value:
        case None:
            return json_pb2.Value(null_value=json_pb2.NULL_VALUE)
        case bool():
            return json_pb2.Value(bool_value=value)
        case int() | float():
            return json_pb2.Value(number_value=value)
        case str():
            return json_pb2.Value(string_value=value)
        case Mapping():
            return json_pb2.Value(struct_value=struct_from_python(value))
        case _:
            items = json_pb2.ListValue(values=[from_python(item) for item in value])
            return json_pb2.Value(list_value=items)


def struct_from_python(value: Mapping[str, Any]) -> json_pb2.Struct:
    """Returns a dict as a protobuf object, keys in its order."""
    return json_pb2.Struct(
        fields=[
            json_pb2.Struct.FieldsEntry(key=key, value=from_python(item))
            for key, item in value.items()
        ]
    )
