"""Attributes: what callers keep with a file of a vector store, and filter searches by."""

from collections.abc import Mapping
from typing import Any

from assistants.json import json_pb2

from service.types import checks, json_value
from service.types.requests import Field

MAX_PAIRS = 16
MAX_KEY = 64
MAX_VALUE = 512


def parse(param: str, given: json_pb2.Struct) -> dict[str, Any]:
    """Returns attributes within their limits: strings, numbers and booleans."""
    value = json_value.struct_to_python(given, param)
    checks.properties(param, len(value), MAX_PAIRS)
    for key, item in value.items():
        checks.text(f"{param} key", key, MAX_KEY)
        checks.scalar(f"{param}.{key}", item, MAX_VALUE)
    return value


def to_json(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the attributes with their keys sorted, as PostgreSQL keeps no order."""
    return dict(sorted(stored.items()))


FIELD = Field("attributes", parse, default={})
"""The field of requests that put a file into a vector store, or modify it."""
