"""Tools, which rows hold in OpenAI's form; what nobody chose has no key."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assistants.v1 import common_pb2

from service.types import checks, json_value

KINDS = ("code_interpreter", "file_search", "function")
SERVER_KINDS = ("code_interpreter", "file_search")

UNAVAILABLE = "Tool '{}' is not available on this server."

RANKERS = ("auto", "default_2024_08_21")
RANKER = "default_2024_08_21"
"""What `auto` stands for."""


def parse(param: str, given: Sequence[common_pb2.Tool], maximum: int) -> list[dict[str, Any]]:
    """Returns at most `maximum` tools."""
    checks.array(param, len(given), maximum)
    return [_tool(f"{param}[{index}]", tool) for index, tool in enumerate(given)]


def _tool(param: str, tool: common_pb2.Tool) -> dict[str, Any]:
    kind = checks.choice(f"{param}.type", tool.type, KINDS)
    if kind == "function":
        if not tool.HasField("function"):
            checks.missing(f"{param}.function")
        return {"type": kind, "function": _function(f"{param}.function", tool.function)}
    if kind == "file_search" and tool.HasField("file_search"):
        return {"type": kind, "file_search": _file_search(f"{param}.file_search", tool.file_search)}
    return {"type": kind}


def _function(param: str, function: common_pb2.FunctionDefinition) -> dict[str, Any]:
    result: dict[str, Any] = {"name": checks.function_name(f"{param}.name", function.name)}
    if function.HasField("description"):
        text = checks.text(f"{param}.description", function.description, checks.MAX_TEXT)
        result["description"] = text
    if function.HasField("parameters"):
        schema = json_value.struct_to_python(function.parameters, f"{param}.parameters")
        result["parameters"] = schema
    if function.HasField("strict"):
        result["strict"] = function.strict
    return result


def _file_search(param: str, options: common_pb2.FileSearchOptions) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if options.HasField("max_num_results"):
        name = f"{param}.max_num_results"
        result["max_num_results"] = checks.integer(name, options.max_num_results, 1, 50)
    if options.HasField("ranking_options"):
        name, ranking = f"{param}.ranking_options", options.ranking_options
        if not ranking.HasField("score_threshold"):
            checks.missing(f"{name}.score_threshold")
        threshold = checks.decimal(f"{name}.score_threshold", ranking.score_threshold, 0, 1)
        result["ranking_options"] = {
            "ranker": checks.choice(f"{name}.ranker", ranking.ranker or "auto", RANKERS),
            "score_threshold": threshold,
        }
    return result


def ranking_options(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how the results of a tool of type `file_search` are ranked."""
    given = tool.get("file_search", {}).get("ranking_options", {})
    return {"ranker": RANKER, "score_threshold": given.get("score_threshold", 0.0)}


def to_json(stored: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Returns the tools; `strict` is always there."""
    return [_function_to_json(tool) if "function" in tool else tool for tool in stored]


def _function_to_json(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool["function"]
    if "strict" in function:
        return tool
    return {**tool, "function": {**function, "strict": False}}


def to_proto(value: Iterable[Mapping[str, Any]]) -> list[common_pb2.Tool]:
    """Returns the same in protobuf."""
    return [_tool_to_proto(tool) for tool in value]


def _tool_to_proto(value: Mapping[str, Any]) -> common_pb2.Tool:
    result = common_pb2.Tool(type=value["type"])
    if "function" in value:
        function = value["function"]
        result.function.name = function["name"]
        result.function.strict = function["strict"]
        if "description" in function:
            result.function.description = function["description"]
        if "parameters" in function:
            parameters = json_value.struct_from_python(function["parameters"])
            result.function.parameters.CopyFrom(parameters)
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
