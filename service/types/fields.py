"""What several requests carry: checked here, and turned into the JSON that storage keeps.

`param` is the field's path in OpenAI's notation; errors name it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson
from assistants.json import json_pb2
from assistants.v1 import common_pb2, messages_pb2, runs_pb2

from service.errors import ApiError, Kind
from service.types import json_value, validate
from storage.pages import PageRequest

REASONING_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
TOOL_TYPES = ("code_interpreter", "file_search", "function")
SERVER_TOOLS = ("code_interpreter", "file_search")
INCLUDABLE = ("step_details.tool_calls[*].file_search.results[*].content",)


class ListRequest(Protocol):
    """What the requests of all lists have in common."""

    limit: int
    order: str
    after: str
    before: str

    def HasField(self, name: Any) -> bool:
        """Tells whether the caller gave a value."""


def page(request: ListRequest) -> PageRequest:
    """Returns the page that a list request asks for."""
    limit = validate.integer("limit", request.limit, 1, 100) if request.HasField("limit") else 20
    order = "desc"
    if request.HasField("order"):
        order = validate.choice("order", request.order, ("asc", "desc"))
    return PageRequest(
        limit=limit,
        order="asc" if order == "asc" else "desc",
        after=_cursor(request, "after"),
        before=_cursor(request, "before"),
    )


def _cursor(request: ListRequest, param: str) -> str | None:
    value: str = getattr(request, param)
    return validate.text(param, value, 512) if request.HasField(param) and value else None


def metadata_filter(param: str, given: str) -> dict[str, str]:
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
        validate.wrong_type(param, "an object", pairs)
    if not all(isinstance(value, str) for value in pairs.values()):
        message = f"Invalid type for '{param}': expected an object with string values."
        raise ApiError(Kind.invalid_type, message, param)
    return validate.metadata(param, pairs)


def tools(param: str, given: Sequence[common_pb2.Tool], maximum: int) -> list[dict[str, Any]]:
    """Returns at most `maximum` tools."""
    validate.array(param, len(given), maximum)
    return [_tool(f"{param}[{index}]", tool) for index, tool in enumerate(given)]


def _tool(param: str, tool: common_pb2.Tool) -> dict[str, Any]:
    kind = validate.choice(f"{param}.type", tool.type, TOOL_TYPES)
    if kind == "function":
        if not tool.HasField("function"):
            validate.missing(f"{param}.function")
        return {"type": kind, "function": _function(f"{param}.function", tool.function)}
    if kind == "file_search" and tool.HasField("file_search"):
        return {"type": kind, "file_search": _file_search(f"{param}.file_search", tool.file_search)}
    return {"type": kind}


def _function(param: str, function: common_pb2.FunctionDefinition) -> dict[str, Any]:
    result: dict[str, Any] = {"name": validate.function_name(f"{param}.name", function.name)}
    if function.HasField("description"):
        text = validate.text(f"{param}.description", function.description, validate.MAX_TEXT)
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
        result["max_num_results"] = validate.integer(name, options.max_num_results, 1, 50)
    if options.HasField("ranking_options"):
        name, ranking = f"{param}.ranking_options", options.ranking_options
        if not ranking.HasField("score_threshold"):
            validate.missing(f"{name}.score_threshold")
        threshold = validate.decimal(f"{name}.score_threshold", ranking.score_threshold, 0, 1)
        ranker = ranking.ranker or "auto"
        rankers = ("auto", "default_2024_08_21")
        result["ranking_options"] = {
            "ranker": validate.choice(f"{name}.ranker", ranker, rankers),
            "score_threshold": threshold,
        }
    return result


def refuse_server_tools(given: Iterable[Mapping[str, Any]]) -> None:
    """Refuses to run with a tool of the server's: there are none yet."""
    for tool in given:
        if tool["type"] in SERVER_TOOLS:
            _unavailable(tool["type"], "tools")


def _unavailable(tool: str, param: str) -> None:
    message = f"Tool '{tool}' is not available on this server."
    raise ApiError(Kind.unavailable_tool, message, param)


def tool_resources(param: str, given: common_pb2.ToolResources) -> dict[str, Any]:
    """Returns tool resources, which can name nothing: this server keeps no files."""
    result: dict[str, Any] = {}
    if given.HasField("code_interpreter"):
        file_ids = given.code_interpreter.file_ids
        validate.array(f"{param}.code_interpreter.file_ids", len(file_ids), 20)
        if file_ids:
            validate.no_file(file_ids[0])
        result["code_interpreter"] = {"file_ids": []}
    if given.HasField("file_search"):
        search, name = given.file_search, f"{param}.file_search"
        validate.array(f"{name}.vector_store_ids", len(search.vector_store_ids), 1)
        validate.array(f"{name}.vector_stores", len(search.vector_stores), 1)
        if search.vector_store_ids:
            validate.no_vector_store(search.vector_store_ids[0])
        for store in search.vector_stores:
            if store.file_ids:
                validate.no_file(store.file_ids[0])
            _unavailable("file_search", f"{name}.vector_stores")
        result["file_search"] = {"vector_store_ids": []}
    return result


def reasoning_effort(param: str, given: str) -> str:
    """Returns how hard a reasoning model is to think."""
    return validate.choice(param, given, REASONING_EFFORTS)


def response_format(param: str, given: json_pb2.Value) -> Any:
    """Returns `"auto"` or an object that has `type`."""
    value = json_value.to_python(given, param)
    if value is None or value == "auto":
        return "auto"
    if isinstance(value, str):
        validate.unsupported(param, value, ("auto",))
    if not isinstance(value, dict):
        validate.wrong_type(param, "one of a string or an object", value)
    if "type" not in value:
        validate.missing(f"{param}.type")
    kind = validate.json_text(f"{param}.type", value["type"])
    validate.choice(f"{param}.type", kind, ("text", "json_object", "json_schema"))
    if kind != "json_schema":
        return validate.json_object(param, value, ("type",))
    validate.json_object(param, value, ("type", "json_schema"))
    if "json_schema" not in value:
        validate.missing(f"{param}.json_schema")
    return {"type": kind, "json_schema": _json_schema(f"{param}.json_schema", value["json_schema"])}


def _json_schema(param: str, value: Any) -> dict[str, Any]:
    given = validate.json_object(param, value, ("name", "description", "schema", "strict"))
    if "name" not in given:
        validate.missing(f"{param}.name")
    validate.function_name(f"{param}.name", validate.json_text(f"{param}.name", given["name"]))
    checks: dict[str, tuple[type, str]] = {
        "description": (str, "a string"),
        "schema": (dict, "an object"),
        "strict": (bool, "a boolean"),
    }
    for key, (expected, words) in checks.items():
        if given.get(key) is not None and not isinstance(given[key], expected):
            validate.wrong_type(f"{param}.{key}", words, given[key])
    return {key: item for key, item in given.items() if item is not None}


def tool_choice(param: str, given: json_pb2.Value) -> Any:
    """Returns `"none"`, `"auto"`, `"required"`, or an object that names a function.

    None where nothing was chosen.
    """
    value = json_value.to_python(given, param)
    if value is None:
        return None
    if isinstance(value, str):
        return validate.choice(param, value, ("none", "auto", "required"))
    if not isinstance(value, dict):
        validate.wrong_type(param, "one of a string or an object", value)
    validate.json_object(param, value, ("type", "function"))
    if "type" not in value:
        validate.missing(f"{param}.type")
    kind = validate.json_text(f"{param}.type", value["type"])
    if validate.choice(f"{param}.type", kind, TOOL_TYPES) in SERVER_TOOLS:
        _unavailable(kind, param)
    if "function" not in value:
        validate.missing(f"{param}.function")
    function = validate.json_object(f"{param}.function", value["function"], ("name",))
    if "name" not in function:
        validate.missing(f"{param}.function.name")
    name = validate.json_text(f"{param}.function.name", function["name"])
    return {"type": kind, "function": {"name": name}}


def chosen_tool(param: str, choice: Any, tools: Sequence[Mapping[str, Any]]) -> None:
    """Checks that the function that a tool choice names, if it names one, is among the tools."""
    if not isinstance(choice, dict):
        return
    name = choice["function"]["name"]
    if name not in [tool["function"]["name"] for tool in tools if tool["type"] == "function"]:
        message = f"Invalid '{param}': there is no function '{name}' among the tools."
        raise ApiError(Kind.invalid_value, message, param)


def truncation_strategy(param: str, given: common_pb2.TruncationStrategy) -> dict[str, Any]:
    """Returns how much of a thread the model is shown: `type` and `last_messages`."""
    kind = validate.choice(f"{param}.type", given.type, ("auto", "last_messages"))
    count = None
    if given.HasField("last_messages"):
        count = validate.integer(f"{param}.last_messages", given.last_messages, 1)
    if kind == "last_messages" and count is None:
        validate.missing(f"{param}.last_messages")
    return {"type": kind, "last_messages": count}


def queues(
    request: runs_pb2.CreateRunRequest | messages_pb2.CreateMessageRequest, default: str
) -> bool:
    """Returns whether what is created waits for the end of an active run, or else is refused."""
    if not request.HasField("when_active"):
        return default == "queue"
    return validate.choice("when_active", request.when_active, ("reject", "queue")) == "queue"


def include(given: Iterable[str]) -> None:
    """Checks the extras that are asked for; none of them can occur without file search."""
    for item in given:
        validate.choice("include[]", item, INCLUDABLE)
