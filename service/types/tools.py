"""Tools, tool resources and tool choices.

Rows hold them in OpenAI's form; what nobody chose has no key, or is null.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from assistants.v1 import common_pb2

from service.types.json_value import struct_from_python


def to_json(tools: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Returns the tools; `strict` is always there."""
    return [_function(tool) if "function" in tool else tool for tool in tools]


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool["function"]
    if "strict" in function:
        return tool
    return {**tool, "function": {**function, "strict": False}}


def to_proto(value: Mapping[str, Any]) -> common_pb2.Tool:
    """Returns a tool."""
    result = common_pb2.Tool(type=value["type"])
    if "function" in value:
        function = value["function"]
        result.function.name = function["name"]
        result.function.strict = function["strict"]
        if "description" in function:
            result.function.description = function["description"]
        if "parameters" in function:
            result.function.parameters.CopyFrom(struct_from_python(function["parameters"]))
            result.function.parameters.SetInParent()
    if "file_search" in value:
        options = dict(value["file_search"])
        ranking = options.pop("ranking_options", None)
        result.file_search.CopyFrom(common_pb2.FileSearchOptions(**options))
        result.file_search.SetInParent()
        if ranking is not None:
            result.file_search.ranking_options.CopyFrom(
                common_pb2.FileSearchOptions.RankingOptions(**ranking)
            )
    return result


def resources_to_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the resources that are there, `{}` for none."""
    return {name: value[name] for name in ("code_interpreter", "file_search") if name in value}


def resources_to_proto(value: Mapping[str, Any]) -> common_pb2.ToolResources:
    """Returns tool resources; those that name nothing stay as they are."""
    result = common_pb2.ToolResources()
    if "code_interpreter" in value:
        result.code_interpreter.file_ids.extend(value["code_interpreter"]["file_ids"])
        result.code_interpreter.SetInParent()
    if "file_search" in value:
        result.file_search.vector_store_ids.extend(value["file_search"]["vector_store_ids"])
        result.file_search.SetInParent()
    return result


def choice_to_proto(value: Any) -> common_pb2.ToolChoice:
    """Returns a tool choice from `"auto"` and the like, or `{"type", "function": {"name"}}`."""
    if isinstance(value, str):
        return common_pb2.ToolChoice(mode=value)
    named = common_pb2.ToolChoice.NamedTool(type=value["type"])
    if "function" in value:
        named.function_name = value["function"]["name"]
    return common_pb2.ToolChoice(named=named)
