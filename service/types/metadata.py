"""Metadata: up to 16 pairs of texts that callers keep with an object."""

from collections.abc import Mapping
from typing import Any

import orjson

from service.errors import ApiError, Kind
from service.types import checks
from service.types.requests import Field

MAX_PAIRS = 16
MAX_KEY = 64
MAX_VALUE = 512


def parse(param: str, given: Mapping[str, str]) -> dict[str, str]:
    """Returns metadata within its limits."""
    checks.properties(param, len(given), MAX_PAIRS)
    for key, value in given.items():
        checks.text(f"{param} key", key, MAX_KEY)
        checks.text(f"{param}.{key}", value, MAX_VALUE)
    return dict(given)


def parse_filter(param: str, given: str) -> dict[str, str]:
    """Returns the pairs that metadata must have, of a JSON object as text; an empty text has none.

    As everywhere in JSON, of a key that is given twice the last counts.
    """
    if not given:
        return {}
    try:
        pairs = orjson.loads(given)
    except orjson.JSONDecodeError:
        message = f'Invalid \'{param}\': expected a JSON object as text, such as {{"key":"value"}}.'
        raise ApiError(Kind.invalid_value, message, param) from None
    if not isinstance(pairs, dict):
        checks.wrong_type(param, "an object", pairs)
    if not all(isinstance(value, str) for value in pairs.values()):
        message = f"Invalid type for '{param}': expected an object with string values."
        raise ApiError(Kind.invalid_type, message, param)
    return parse(param, pairs)


def to_json(stored: Mapping[str, str]) -> dict[str, Any]:
    """Returns the pairs with their keys sorted, as PostgreSQL keeps no order.

    Protobuf takes the same.
    """
    return dict(sorted(stored.items()))


FIELD = Field("metadata", parse, default={}, attribute="metadata_")
"""The field of every resource that has metadata."""
