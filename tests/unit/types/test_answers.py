"""Answers: OpenAI's JSON is as published, and protobuf says the same."""

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from assistants.v1 import (
    assistants_pb2,
    files_pb2,
    messages_pb2,
    run_objects_pb2,
    runs_pb2,
    threads_pb2,
    uploads_pb2,
    vector_store_files_pb2,
    vector_stores_pb2,
)
from google.protobuf.message import Message

from service.types import answers
from service.types.steps import WithContents
from tests.support.schemas import validate, validate_response
from tests.support.types import file_samples, samples, upload_samples, walker

PUBLISHED = samples.ANSWERS + file_samples.ANSWERS + upload_samples.ANSWERS
BOTH = [(kind, answer) for _, kind, answer in PUBLISHED] + samples.OUR_OWN
MODULES: list[Any] = [
    *(assistants_pb2, messages_pb2, run_objects_pb2, runs_pb2, threads_pb2),
    *(vector_stores_pb2, vector_store_files_pb2, files_pb2, uploads_pb2),
]
NOT_IN_USE = {
    f"assistants.v1.{kind}.{field}"
    for kind in ("SearchVectorStoreResponse", "ListVectorStoreFileContentResponse")
    for field in ("has_more", "next_page")
}
"""Fields that are always empty: these have one page."""

ONLY_IN_REQUESTS = {"assistants.v1.ToolResources.FileSearch.vector_stores"}


def in_protobuf(kind: str, answer: answers.Answer) -> Message:
    [found] = [getattr(module, kind) for module in MODULES if hasattr(module, kind)]
    return answers.to_proto(answer, found)


def in_json(answer: answers.Answer) -> Any:
    return json.loads(orjson.dumps(answers.to_json(answer)))


@pytest.mark.parametrize(("schema", "kind", "answer"), PUBLISHED)
def test_json_is_as_published(schema: str, kind: str, answer: answers.Answer) -> None:
    validate(schema, in_json(answer))


@pytest.mark.parametrize(("kind", "answer"), samples.OUR_OWN)
def test_our_own_list_is_like_the_others(kind: str, answer: answers.Answer) -> None:
    validate_response("GET", "/threads", in_json(answer))


@pytest.mark.parametrize(("kind", "answer"), BOTH)
def test_protobuf_says_the_same_to_the_byte(kind: str, answer: answers.Answer) -> None:
    text = orjson.dumps(answers.to_json(answer))
    assert walker.render(in_protobuf(kind, answer)).decode() == text.decode()
    # What is sent is what is read.
    message = in_protobuf(kind, answer)
    assert walker.render(type(message).FromString(message.SerializeToString())) == text


def test_no_field_of_protobuf_is_forgotten() -> None:
    messages = [in_protobuf(kind, answer) for kind, answer in BOTH]
    given = {name for message in messages for name in set_fields(message)}
    known = {name for message in messages for name in all_fields(message.DESCRIPTOR, set())}
    assert known - given == ONLY_IN_REQUESTS | NOT_IN_USE | {
        name for name in known if name.startswith("assistants.v1.ToolResources.VectorStore.")
    }


def set_fields(message: Message) -> Iterator[str]:
    """The full names of the fields that have a value, in the message and in those in it."""
    for field, value in message.ListFields():
        yield field.full_name
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inner in value if field.is_repeated else [value]:
                yield from set_fields(inner)


def all_fields(descriptor: Any, seen: set[str]) -> Iterator[str]:
    """The full names of all fields of a message and of those in it, but for free JSON."""
    if descriptor.full_name in seen or descriptor.file.package != "assistants.v1":
        return
    seen.add(descriptor.full_name)
    for field in descriptor.fields:
        yield field.full_name
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from all_fields(field.message_type, seen)


def test_what_nobody_chose_is_shown_as_its_default() -> None:
    assistant = in_json(samples.assistant())
    assert (assistant["temperature"], assistant["top_p"]) == (1.0, 1.0)
    run = in_json(samples.run())
    shown = [run[key] for key in ("temperature", "top_p", "tool_choice", "parallel_tool_calls")]
    assert shown == [1.0, 1.0, "auto", True]


def test_function_parameters_keep_their_order_and_their_integers() -> None:
    text = orjson.dumps(answers.to_json(samples.FULL_ASSISTANT)).decode()
    parameters = '"parameters":{"z":1,"a":[2.5,null,{"b":true,"c":"d"}]},"strict":false'
    assert parameters in text


def test_integers_are_exact_numbers() -> None:
    assert in_json(samples.FULL_RUN)["usage"]["total_tokens"] == 2**53 + 1


def test_unions_have_their_short_forms() -> None:
    run = in_json(samples.run(tool_choice="required"))
    assert (run["tool_choice"], run["response_format"]) == ("required", "auto")


def test_pending_calls_have_no_output_and_those_of_steps_have() -> None:
    run = in_json(samples.RUNS[2])
    [pending] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert pending["function"].keys() == {"name", "arguments"}
    calls = in_json(samples.FULL_STEP)["step_details"]["tool_calls"]
    assert [each["function"]["output"] for each in calls] == ["42", "", None]


def test_contents_of_results_are_shown_to_those_who_ask_for_them() -> None:
    def contents(step: answers.Answer) -> list[Any]:
        calls = in_json(step)["step_details"]["tool_calls"]
        searches = [call["file_search"] for call in calls if call["type"] == "file_search"]
        return [each for search in searches for each in search["results"] if "content" in each]

    assert contents(samples.MIXED_STEP) == []
    assert contents(WithContents(samples.MIXED_STEP)) == samples.RESULTS[1:]


def test_only_steps_that_have_ended_count_tokens() -> None:
    assert in_json(samples.step())["usage"] is None
    assert set(in_json(samples.step(status="failed"))["usage"].values()) == {0}


@pytest.mark.parametrize("change", [{"foo": 1}, {"status": "odd"}, {"tools": [{"type": "x"}]}])
def test_the_schemas_are_strict(change: dict[str, Any]) -> None:
    body = in_json(samples.FULL_RUN)
    with pytest.raises(AssertionError):
        validate("RunObject", {**body, **change})
    del body["usage"]
    with pytest.raises(AssertionError, match="usage"):
        validate("RunObject", body)
