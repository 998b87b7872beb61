"""Calls of tools: as steps hold and show them, and in the pieces in which they are streamed.

A call is `{"id", "type", <type>: {…}}`, as in OpenAI's JSON. A piece has its index in place of what
came before: clients concatenate the texts of all pieces, and join lists by `index`.
"""

from collections.abc import Mapping
from typing import Any

from assistants.v1 import events_pb2, run_objects_pb2

from service.types import tools
from service.types.json_value import Json

FUNCTION = "function"
FILE_SEARCH = "file_search"
CODE_INTERPRETER = "code_interpreter"


def function(id: str, name: str) -> Json:
    """Returns a call of a function as it begins."""
    return {"id": id, "type": FUNCTION, FUNCTION: {"name": name, "arguments": "", "output": None}}


def of_server(id: str, tool: Mapping[str, Any]) -> Json:
    """Returns a call of a tool of the server's as it begins; `tool` is its entry in `tools`."""
    type = tool["type"]
    details: Json = {"input": "", "outputs": []}
    if type == FILE_SEARCH:
        details = {"ranking_options": tools.ranking_options(tool), "results": []}
    return {"id": id, "type": type, type: details}


def without_output(call: Mapping[str, Any]) -> Json:
    """Returns a call of a function as a run's `required_action` lists it."""
    function = call["function"]
    named = {"name": function["name"], "arguments": function["arguments"]}
    return {"id": call["id"], "type": "function", "function": named}


def without_contents(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a call without the texts of what a search has found."""
    if call["type"] != FILE_SEARCH:
        return call
    results = [
        {name: value for name, value in result.items() if name != "content"}
        for result in call[FILE_SEARCH].get("results", [])
    ]
    return {**call, FILE_SEARCH: {**call[FILE_SEARCH], "results": results}}


def first_piece(index: int, call: Mapping[str, Any]) -> Json:
    """Returns the piece that introduces a call which has just begun."""
    return {"index": index, **call}


def piece(index: int, type: str, details: Json) -> Json:
    """Returns a later piece of a call."""
    if type == CODE_INTERPRETER:
        # Callers read the input of every piece.
        details = {"input": "", **details}
    return {"index": index, "type": type, type: details}


def pieces(index: int, call: Mapping[str, Any]) -> list[Json]:
    """Returns a call in pieces; what came of a function or a search is in none of them."""
    type = call["type"]
    details = call[type]
    found = [first_piece(index, _as_begun(call))]
    if type == FUNCTION and details["arguments"]:
        found.append(piece(index, type, {"arguments": details["arguments"]}))
    if type == CODE_INTERPRETER:
        if details["input"]:
            found.append(piece(index, type, {"input": details["input"]}))
        outputs = [{"index": at, **output} for at, output in enumerate(details["outputs"])]
        found += [piece(index, type, {"outputs": [output]}) for output in outputs]
    return found


def _as_begun(call: Mapping[str, Any]) -> Json:
    """Returns a call without what it got piece by piece, or at its end."""
    match call:
        case {"type": "function", "function": {"name": name}}:
            return function(call["id"], name)
        case {"type": "file_search", "file_search": search}:
            return {**call, FILE_SEARCH: {**search, "results": []}}
        case _:
            return {**call, CODE_INTERPRETER: {"input": "", "outputs": []}}


def add(call: Json, details: Mapping[str, Any]) -> None:
    """Adds the details of a later piece to a call."""
    known = call[call["type"]]
    for key, value in details.items():
        if key != "outputs":
            known[key] = known.get(key, "") + value
            continue
        for output in value:
            given = {name: each for name, each in output.items() if name != "index"}
            if output["index"] == len(known["outputs"]):
                known["outputs"].append(given)
            else:
                known["outputs"][output["index"]]["logs"] += given["logs"]


def to_proto(call: Mapping[str, Any]) -> run_objects_pb2.ToolCall:
    """Returns a call."""
    result = run_objects_pb2.ToolCall(id=call["id"])
    match call:
        case {"type": "function", "function": function}:
            result.function.CopyFrom(run_objects_pb2.ToolCall.Function(**function))
        case {"type": "code_interpreter", "code_interpreter": code}:
            result.code_interpreter.input = code["input"]
            outputs = [_without_type(output) for output in code["outputs"]]
            result.code_interpreter.outputs.extend(
                run_objects_pb2.ToolCall.Output(**output) for output in outputs
            )
        case {"file_search": search}:
            result.file_search.CopyFrom(_search_to_proto(search))
    return result


def piece_to_proto(given: Mapping[str, Any]) -> events_pb2.RunStepDelta.ToolCallDelta:
    """Returns a piece of a call."""
    result = events_pb2.RunStepDelta.ToolCallDelta(index=given["index"], id=given.get("id"))
    match given:
        case {"type": "function", "function": function}:
            named = events_pb2.RunStepDelta.FunctionDelta(
                name=function.get("name"), arguments=function["arguments"]
            )
            result.function.CopyFrom(named)
        case {"type": "code_interpreter", "code_interpreter": code}:
            outputs = [_without_type(output) for output in code.get("outputs", [])]
            result.code_interpreter.CopyFrom(
                events_pb2.RunStepDelta.CodeInterpreterDelta(
                    input=code.get("input"), outputs=outputs
                )
            )
        case {"file_search": search}:
            result.file_search.CopyFrom(_search_to_proto(search))
    return result


def _search_to_proto(search: Mapping[str, Any]) -> run_objects_pb2.ToolCall.FileSearch:
    results = [
        result | {"content": [_without_type(text) for text in result.get("content", [])]}
        for result in search.get("results", [])
    ]
    return run_objects_pb2.ToolCall.FileSearch(
        ranking_options=search.get("ranking_options"), results=results
    )


def _without_type(value: Mapping[str, Any]) -> Json:
    return {key: each for key, each in value.items() if key != "type"}
