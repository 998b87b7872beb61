"""Chunking strategies: how the text of a file is cut into chunks."""

from typing import Any, Final

from assistants.json import json_pb2
from assistants.v1 import vector_stores_pb2

from service.errors import ApiError, Kind
from service.types import checks, json_value
from service.types.json_value import Json
from service.types.requests import Field

KINDS = ("auto", "static")
MIN_SIZE, MAX_SIZE = 100, 4096
SIZE, OVERLAP = "max_chunk_size_tokens", "chunk_overlap_tokens"
AUTO: Final[Json] = {"type": "static", "static": {SIZE: 800, OVERLAP: 400}}
"""What `auto` is."""


def parse(param: str, given: vector_stores_pb2.ChunkingStrategy) -> Json:
    """Returns a static strategy, in the form that answers show."""
    if checks.choice(f"{param}.type", given.type, KINDS) == "auto":
        if given.HasField("static"):
            checks.unknown(f"{param}.static")
        return AUTO
    if not given.HasField("static"):
        checks.missing(f"{param}.static")
    sizes = {name: getattr(given.static, name) for name in _given(given.static)}
    return _static(param, sizes)


def parse_json(param: str, given: json_pb2.Struct) -> Json:
    """Returns the strategy in free JSON, as `tool_resources` have it."""
    value = json_value.struct_to_python(given, param)
    if checks.kind(param, value, KINDS) == "auto":
        checks.json_object(param, value, ("type",))
        return AUTO
    checks.json_object(param, value, ("type", "static"))
    name = f"{param}.static"
    sizes = checks.json_object(name, checks.member(param, value, "static"), (SIZE, OVERLAP))
    for key, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int):
            checks.wrong_type(f"{name}.{key}", "an integer", size)
    return _static(param, sizes)


def _given(static: vector_stores_pb2.ChunkingStrategy.Static) -> list[str]:
    return [name for name in (SIZE, OVERLAP) if static.HasField(name)]


def _static(param: str, given: dict[str, Any]) -> Json:
    name = f"{param}.static"
    size = checks.integer(f"{name}.{SIZE}", checks.member(name, given, SIZE), MIN_SIZE, MAX_SIZE)
    overlap = checks.integer(f"{name}.{OVERLAP}", checks.member(name, given, OVERLAP), 0)
    if overlap > size // 2:
        message = f"'{OVERLAP}' must not exceed half of '{SIZE}'."
        raise ApiError(Kind.invalid_value, message, param)
    return {"type": "static", "static": {SIZE: size, OVERLAP: overlap}}


FIELD = Field("chunking_strategy", parse, default=AUTO)
"""The field of requests that put files into a vector store."""
