"""Tool choices: which tools a model may or must call."""

from collections.abc import Iterable, Mapping
from typing import Any

from assistants.json import json_pb2
from assistants.v1 import common_pb2

from service.errors import ApiError, Kind
from service.types import checks, json_value, tools

MODES = ("none", "auto", "required")


def parse(param: str, given: json_pb2.Value) -> Any:
    """Returns one of `MODES`, or an object that names a tool; None where nothing was chosen."""
    value = json_value.to_python(given, param)
    if value is None:
        return None
    if isinstance(value, str):
        return checks.choice(param, value, MODES)
    if not isinstance(value, dict):
        checks.wrong_type(param, "one of a string or an object", value)
    checks.json_object(param, value, ("type", "function"))
    kind = checks.kind(param, value, tools.KINDS)
    if kind in tools.SERVER_KINDS:
        checks.json_object(param, value, ("type",))
        return {"type": kind}
    place = f"{param}.function"
    function = checks.json_object(place, checks.member(param, value, "function"), ("name",))
    name = checks.json_text(f"{place}.name", checks.member(place, function, "name"))
    return {"type": kind, "function": {"name": name}}


def refuse_unknown(stored: Any, among: Iterable[Mapping[str, Any]]) -> None:
    """Refuses a choice that names a tool which is not `among` the tools."""
    if not isinstance(stored, dict):
        return
    if stored["type"] in tools.SERVER_KINDS:
        if stored["type"] not in [tool["type"] for tool in among]:
            message = f"Invalid 'tool_choice': there is no '{stored['type']}' among the tools."
            raise ApiError(Kind.invalid_value, message, "tool_choice")
        return
    name = stored["function"]["name"]
    if name not in [tool["function"]["name"] for tool in among if tool["type"] == "function"]:
        message = f"Invalid 'tool_choice': there is no function '{name}' among the tools."
        raise ApiError(Kind.invalid_value, message, "tool_choice")


def to_json(stored: Any) -> Any:
    """Returns the choice, which is `"auto"` where nothing was chosen."""
    return "auto" if stored is None else stored


def to_proto(value: Any) -> common_pb2.ToolChoice:
    """Returns the same in protobuf."""
    if isinstance(value, str):
        return common_pb2.ToolChoice(mode=value)
    named = common_pb2.ToolChoice.NamedTool(type=value["type"])
    if "function" in value:
        named.function_name = value["function"]["name"]
    return common_pb2.ToolChoice(named=named)
