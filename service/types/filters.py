"""Filters: what the attributes of files must match in a search."""

from typing import Any

from assistants.json import json_pb2

from service.errors import ApiError, Kind
from service.types import attributes, checks, json_value
from storage.filters import Comparison, Compound, Filter

COMPARISONS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")
COMPOUNDS = ("and", "or")
MAX_LEVELS = 16
MAX_COMPARISONS = 128
"""Comparisons of a filter. Each is a condition of SQL: databases bound how many there are."""


def parse(param: str, given: json_pb2.Struct) -> Filter:
    """Returns the filter that JSON describes."""
    # Each level of filters is two of JSON, more than other JSON may have.
    value = json_value.struct_to_python(given, param, json_value.MAX_DEPTH - 2 * MAX_LEVELS - 4)
    found = _filter(param, value, 1)
    if (count := _comparisons(found)) > MAX_COMPARISONS:
        raise ApiError(
            Kind.invalid_value,
            f"Invalid '{param}': {count} comparisons, where {MAX_COMPARISONS} are allowed.",
            param,
        )
    return found


def _filter(param: str, value: Any, level: int) -> Filter:
    if not isinstance(value, dict):
        checks.wrong_type(param, "an object", value)
    if level > MAX_LEVELS:
        message = f"Invalid '{param}': nested more than {MAX_LEVELS} levels."
        raise ApiError(Kind.invalid_value, message, param)
    kind = checks.kind(param, value, (*COMPARISONS, *COMPOUNDS))
    if kind in COMPOUNDS:
        return _compound(param, checks.json_object(param, value, ("type", "filters")), level)
    return _comparison(param, checks.json_object(param, value, ("type", "key", "value")))


def _compound(param: str, value: dict[str, Any], level: int) -> Compound:
    name = f"{param}.filters"
    inner = checks.member(param, value, "filters")
    if not isinstance(inner, list):
        checks.wrong_type(name, "an array", inner)
    checks.array(name, len(inner), minimum=1)
    filters = tuple(_filter(f"{name}[{at}]", each, level + 1) for at, each in enumerate(inner))
    return Compound(value["type"], filters)


def _comparison(param: str, value: dict[str, Any]) -> Comparison:
    key = checks.json_text(f"{param}.key", checks.member(param, value, "key"), attributes.MAX_KEY)
    name, given = f"{param}.value", checks.member(param, value, "value")
    if value["type"] not in ("in", "nin"):
        return Comparison(value["type"], key, checks.scalar(name, given, attributes.MAX_VALUE))
    if not isinstance(given, list):
        checks.wrong_type(name, "an array", given)
    listed = (
        checks.scalar(f"{name}[{at}]", each, attributes.MAX_VALUE) for at, each in enumerate(given)
    )
    return Comparison(value["type"], key, tuple(listed))


def _comparisons(filter: Filter) -> int:
    return 1 if isinstance(filter, Comparison) else sum(map(_comparisons, filter.filters))
