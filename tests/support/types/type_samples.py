"""How every type goes through the server: from a request to its stored form, and to both APIs.

A new type is a row of `TYPES`: the way it goes, and values on it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from assistants.v1 import (
    common_pb2,
    messages_pb2,
    run_objects_pb2,
    vector_store_files_pb2,
    vector_stores_pb2,
)

from service.types import (
    attachments,
    attributes,
    chunking_strategy,
    content,
    last_error,
    metadata,
    reasoning_effort,
    response_format,
    sampling,
    tool_choice,
    tool_resources,
    tools,
    truncation_strategy,
    usage,
)
from service.types.json_value import from_python, struct_from_python
from tests.support.storage.rows import text_part
from tests.support.types import file_samples, file_walker, samples, walker
from tests.support.types import walker_values as read

PARAM = "param"


def same(value: Any) -> Any:
    """What a type does that is shown as it is stored, or that no request has."""
    return value


class Way(NamedTuple):
    """The way of one type. `read` is the tests' own reading of protobuf as OpenAI's JSON."""

    parse: Callable[[Any], Any] = same
    to_json: Callable[[Any], Any] = same
    to_proto: Callable[[Any], Any] = same
    read: Callable[[Any], Any] = same


class Trip(NamedTuple):
    """A value of a request, what is stored of it, and how JSON shows that."""

    given: Any
    stored: Any
    json: Any


def unchanged(given: Any, value: Any) -> Trip:
    """A value that is shown as it is stored."""
    return Trip(given, value, value)


def _values(module: Any) -> Callable[[Any], Any]:
    return lambda given: module.parse(PARAM, given)


def _value(value: Any) -> Trip:
    return unchanged(from_python(value), value)


FUNCTION = common_pb2.FunctionDefinition(
    name="f", description="d", parameters=struct_from_python(samples.SCHEMA)
)
TOOLS = [common_pb2.Tool(type="function", function=FUNCTION)]
SEARCH = common_pb2.FileSearchOptions(
    max_num_results=3,
    ranking_options=common_pb2.FileSearchOptions.RankingOptions(score_threshold=0.5),
)
FOUND = {
    "max_num_results": 3,
    "ranking_options": {"ranker": "auto", "score_threshold": 0.5},
}
NOTHING = common_pb2.ToolResources(
    code_interpreter=common_pb2.ToolResources.CodeInterpreter(),
    file_search=common_pb2.ToolResources.FileSearch(),
)
JSON_SCHEMA = {"name": "n", "description": "d", "schema": samples.SCHEMA, "strict": False}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/i", "detail": "low"}}
PAIRS = {"b": "1", "a": "2", "": ""}
COUNTS = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def _message_request(**fields: Any) -> messages_pb2.CreateMessageRequest:
    return messages_pb2.CreateMessageRequest(role="user", **fields)


def _parts(*parts: Any) -> messages_pb2.CreateMessageRequest:
    return _message_request(parts=[messages_pb2.MessageContent(**part) for part in parts])


TYPES: dict[str, tuple[Way, list[Trip]]] = {
    "tools": (
        Way(
            lambda given: tools.parse(PARAM, given, 128),
            tools.to_json,
            tools.to_proto,
            lambda shown: [read.tool(tool) for tool in shown],
        ),
        [
            unchanged([], []),
            unchanged([common_pb2.Tool(type="code_interpreter")], [{"type": "code_interpreter"}]),
            unchanged(
                [common_pb2.Tool(type="file_search", file_search=SEARCH)],
                [{"type": "file_search", "file_search": FOUND}],
            ),
            Trip(
                TOOLS,
                [{"type": "function", "function": samples.FUNCTION}],
                [{"type": "function", "function": samples.FUNCTION | {"strict": False}}],
            ),
        ],
    ),
    "tool_resources": (
        Way(
            lambda given: tool_resources.parse(PARAM, given).given,
            tool_resources.to_json,
            tool_resources.to_proto,
            read.tool_resources,
        ),
        [
            unchanged(common_pb2.ToolResources(), {}),
            unchanged(
                NOTHING,
                {"code_interpreter": {"file_ids": []}, "file_search": {"vector_store_ids": []}},
            ),
        ],
    ),
    "tool_choice": (
        Way(_values(tool_choice), tool_choice.to_json, tool_choice.to_proto, read.tool_choice),
        [Trip(from_python(None), None, "auto"), *map(_value, ["auto", *samples.CHOICES])],
    ),
    "response_format": (
        Way(
            _values(response_format),
            response_format.to_json,
            response_format.to_proto,
            read.response_format,
        ),
        [
            Trip(from_python(None), "auto", "auto"),
            *map(_value, ["auto", {"type": "text"}, {"type": "json_object"}]),
            _value({"type": "json_schema", "json_schema": JSON_SCHEMA}),
            Trip(
                from_python({"type": "text", "json_schema": None}),
                {"type": "text"},
                {"type": "text"},
            ),
        ],
    ),
    "truncation_strategy": (
        Way(
            _values(truncation_strategy),
            same,
            lambda shown: common_pb2.TruncationStrategy(**shown),
            read.truncation_strategy,
        ),
        [
            unchanged(
                common_pb2.TruncationStrategy(type="auto"), {"type": "auto", "last_messages": None}
            ),
            unchanged(
                common_pb2.TruncationStrategy(type="last_messages", last_messages=2),
                {"type": "last_messages", "last_messages": 2},
            ),
        ],
    ),
    "reasoning_effort": (
        Way(_values(reasoning_effort)),
        [unchanged(effort, effort) for effort in reasoning_effort.EFFORTS],
    ),
    "sampling": (
        Way(
            lambda given: given if given is None else sampling.parse_top_p(PARAM, given),
            sampling.to_json,
        ),
        [Trip(None, None, 1.0), unchanged(0.0, 0.0), unchanged(0.5, 0.5)],
    ),
    "metadata": (
        Way(_values(metadata), metadata.to_json),
        [unchanged({}, {}), Trip(PAIRS, PAIRS, dict(sorted(PAIRS.items())))],
    ),
    "content": (
        Way(
            _values(content),
            same,
            content.to_proto,
            lambda shown: [read.content(messages_pb2.MessageContent(**part)) for part in shown],
        ),
        [
            unchanged(_message_request(content=from_python("Hi")), [text_part("Hi")]),
            unchanged(_parts({"text": {"value": "Hi"}}), [text_part("Hi")]),
            unchanged(_message_request(content=from_python([IMAGE])), [IMAGE]),
            unchanged(_parts({"image_url": IMAGE["image_url"]}), [IMAGE]),
        ],
    ),
    "chunking_strategy": (
        Way(
            _values(chunking_strategy),
            same,
            lambda shown: vector_stores_pb2.ChunkingStrategy(**shown),
            file_walker.chunking_strategy,
        ),
        [
            unchanged(vector_stores_pb2.ChunkingStrategy(type="auto"), chunking_strategy.AUTO),
            unchanged(
                vector_stores_pb2.ChunkingStrategy(**file_samples.STATIC), file_samples.STATIC
            ),
        ],
    ),
    "attributes": (
        Way(
            _values(attributes),
            attributes.to_json,
            lambda shown: vector_store_files_pb2.VectorStoreFile(
                attributes=struct_from_python(shown)
            ),
            file_walker.attributes,
        ),
        [
            unchanged(struct_from_python({}), {}),
            Trip(
                struct_from_python(file_samples.ATTRIBUTES),
                file_samples.ATTRIBUTES,
                dict(sorted(file_samples.ATTRIBUTES.items())),
            ),
        ],
    ),
    "attachments": (
        Way(_values(attachments)),
        [
            unchanged([], []),
            unchanged(
                [messages_pb2.Attachment(file_id="file-1", tools=[{"type": "file_search"}])],
                [{"file_id": "file-1", "tools": [{"type": "file_search"}]}],
            ),
        ],
    ),
    "usage": (
        Way(
            to_json=usage.to_json,
            to_proto=lambda shown: shown and common_pb2.Usage(**shown),
            read=lambda shown: None if shown is None else read.usage(shown),
        ),
        [unchanged(None, None), unchanged(samples.USAGE, samples.USAGE), unchanged(COUNTS, COUNTS)],
    ),
    "last_error": (
        Way(
            to_json=last_error.to_json,
            to_proto=lambda shown: shown and run_objects_pb2.Run.LastError(**shown),
            read=lambda shown: None if shown is None else walker.last_error(shown),
        ),
        [
            unchanged(None, None),
            *(
                unchanged(error, error)
                for code in ("server_error", "rate_limit_exceeded", "invalid_prompt")
                for error in [{"code": code, "message": "m"}]
            ),
        ],
    ),
}
