"""Tables of requests' fields: they know every field, and are checked in their order."""

from collections.abc import Callable
from typing import Any

import pytest
from assistants.v1 import (
    assistants_pb2,
    common_pb2,
    messages_pb2,
    runs_pb2,
    threads_pb2,
    vector_store_files_pb2,
    vector_stores_pb2,
)
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from service.api.new_run import draft
from service.errors import ApiError
from service.types import (
    assistants,
    messages,
    metadata,
    requests,
    runs,
    threads,
    vector_store_files,
    vector_store_search,
    vector_stores,
)
from service.types.json_value import from_python, struct_from_python
from service.types.requests import Field
from storage.resources import NOTHING
from tests.support.types import samples


@pytest.mark.parametrize(
    ("kind", "fields", "others"),
    [
        (assistants_pb2.CreateAssistantRequest, assistants.FIELDS, set()),
        (
            assistants_pb2.ModifyAssistantRequest,
            assistants.MODIFIABLE,
            {"assistant_id", "update_mask"},
        ),
        (threads_pb2.CreateThreadRequest, threads.FIELDS, {"messages"}),
        (threads_pb2.ModifyThreadRequest, threads.MODIFIABLE, {"thread_id", "update_mask"}),
        (
            messages_pb2.ModifyMessageRequest,
            messages.MODIFIABLE,
            {"thread_id", "message_id", "update_mask"},
        ),
        (runs_pb2.ModifyRunRequest, runs.MODIFIABLE, {"thread_id", "run_id", "update_mask"}),
        (
            vector_stores_pb2.CreateVectorStoreRequest,
            vector_stores.FIELDS + vector_stores.FILES,
            set(),
        ),
        (
            vector_stores_pb2.ModifyVectorStoreRequest,
            vector_stores.MODIFIABLE,
            {"vector_store_id", "update_mask"},
        ),
        (
            vector_stores_pb2.SearchVectorStoreRequest,
            vector_store_search.FIELDS,
            {"vector_store_id"},
        ),
        (
            vector_store_files_pb2.CreateVectorStoreFileRequest,
            vector_store_files.FIELDS,
            {"vector_store_id"},
        ),
        (vector_store_files_pb2.NewVectorStoreFile, vector_store_files.FIELDS, set()),
        (
            vector_store_files_pb2.ModifyVectorStoreFileRequest,
            vector_store_files.MODIFIABLE,
            {"vector_store_id", "file_id"},
        ),
        (
            runs_pb2.CreateRunRequest,
            runs.FIELDS,
            {
                *("thread_id", "assistant_id", "additional_messages", "stream"),
                *("override_mask", "when_active", "cancel_on_disconnect"),
            },
        ),
    ],
)
def test_tables_know_every_field(
    kind: type[Message], fields: tuple[Field, ...], others: set[str]
) -> None:
    known = {field.name for field in fields}
    assert known.isdisjoint(others)
    assert set(kind.DESCRIPTOR.fields_by_name) == known | others


LONG = "x" * 256_001
MANY_FILES = common_pb2.ToolResources.CodeInterpreter(file_ids=["file-x"] * 21)
NO_TYPE = common_pb2.Tool()
FUNCTION = from_python({"type": "function", "function": {"name": "f"}})

ASSISTANT: dict[str, Any] = {
    "model": LONG,
    "name": LONG,
    "description": LONG,
    "instructions": LONG,
    "reasoning_effort": "x",
    "tools": [NO_TYPE],
    "tool_resources": common_pb2.ToolResources(code_interpreter=MANY_FILES),
    "metadata": {"k": LONG},
    "temperature": 3,
    "top_p": 3,
    "response_format": from_python(5),
}
RUN: dict[str, Any] = {
    "tools": [NO_TYPE],
    "model": LONG,
    "instructions": LONG,
    "additional_instructions": LONG,
    "metadata": {"k": LONG},
    "temperature": 3,
    "top_p": 3,
    "max_prompt_tokens": 1,
    "max_completion_tokens": 1,
    "truncation_strategy": common_pb2.TruncationStrategy(type="x"),
    "tool_choice": FUNCTION,
    "response_format": from_python(5),
    "reasoning_effort": "x",
}
MESSAGE: dict[str, Any] = {
    "role": "x",
    "content": from_python(5),
    "attachments": [messages_pb2.Attachment()],
    "metadata": {"k": LONG},
}
STORE: dict[str, Any] = {
    "name": LONG,
    "description": LONG,
    "expires_after": vector_stores_pb2.ExpiresAfter(anchor="created_at"),
    "metadata": {"k": LONG},
}
SEARCH: dict[str, Any] = {
    "query": from_python(5),
    "max_num_results": 0,
    "filters": struct_from_python({"type": "x"}),
    "ranking_options": vector_stores_pb2.SearchVectorStoreRequest.RankingOptions(ranker="x"),
}
ENTRY: dict[str, Any] = {
    "file_id": "x",
    "chunking_strategy": vector_stores_pb2.ChunkingStrategy(),
    "attributes": struct_from_python({"a": None}),
}


def _by(fields: tuple[Field, ...]) -> Callable[[Any], Any]:
    return lambda request: requests.create(request, fields)


def _create(request: Any) -> Any:
    return requests.create(request, assistants.FIELDS)


def _modify(request: Any) -> Any:
    return requests.modify(request, assistants.MODIFIABLE)


def _run(request: Any) -> Any:
    return draft(request, 600, samples.assistant())


def _message(request: Any) -> Any:
    return messages.parse("", request)


@pytest.mark.parametrize(
    ("kind", "read", "wrong", "right"),
    [
        (assistants_pb2.CreateAssistantRequest, _create, ASSISTANT, {"model": "m"}),
        (assistants_pb2.ModifyAssistantRequest, _modify, ASSISTANT, {}),
        (runs_pb2.CreateRunRequest, _run, RUN, {}),
        (
            vector_stores_pb2.CreateVectorStoreRequest,
            _by(vector_stores.FIELDS),
            STORE,
            {},
        ),
        (
            vector_stores_pb2.SearchVectorStoreRequest,
            _by(vector_store_search.FIELDS),
            SEARCH,
            {"query": from_python("q")},
        ),
        (
            vector_store_files_pb2.CreateVectorStoreFileRequest,
            vector_store_files.parse_new,
            ENTRY,
            {"file_id": "file-x"},
        ),
        (
            messages_pb2.CreateMessageRequest,
            _message,
            MESSAGE,
            {"role": "user", "content": from_python("x")},
        ),
    ],
)
def test_what_is_wrong_first_is_refused(
    kind: type[Message],
    read: Callable[[Any], Any],
    wrong: dict[str, Any],
    right: dict[str, Any],
) -> None:
    left = dict(wrong)
    for name in wrong:
        with pytest.raises(ApiError) as refused:
            read(kind(**right | left))
        assert str(refused.value.param).startswith(name)
        del left[name]
    read(kind(**right))


MASKED: list[tuple[list[str], dict[str, Any]]] = [
    ([], {"tools": samples.TOOLS[-1:], "temperature": 0.5}),
    (["tools", "temperature", "metadata"], {"tools": [], "temperature": 0.5}),
]


@pytest.mark.parametrize(("mask", "expected"), MASKED)
def test_a_run_has_its_assistants_values_but_for_lists_that_are_meant_to_be_empty(
    mask: list[str], expected: dict[str, Any]
) -> None:
    assistant = samples.assistant(tools=samples.TOOLS[-1:], temperature=0.5, metadata_={"a": "b"})
    request = runs_pb2.CreateRunRequest(override_mask=FieldMask(paths=mask))
    values = draft(request, 600).complete(assistant).values
    assert {name: values[name] for name in expected} == expected
    assert values["metadata_"] == {}


MODEL = FieldMask(paths=["model"])


@pytest.mark.parametrize(
    ("read", "request_", "words"),
    [
        (_create, assistants_pb2.CreateAssistantRequest(), "Missing required parameter"),
        (_modify, assistants_pb2.ModifyAssistantRequest(update_mask=MODEL), "but got null"),
        (_run, runs_pb2.CreateRunRequest(override_mask=MODEL), "Missing required parameter"),
    ],
)
def test_a_required_field_cannot_be_emptied(
    read: Callable[[Any], Any], request_: Message, words: str
) -> None:
    with pytest.raises(ApiError, match=words) as refused:
        read(request_)
    assert refused.value.param == "model"


def test_without_a_mask_a_modification_replaces_what_has_a_value() -> None:
    request = threads_pb2.ModifyThreadRequest(metadata={"a": "b"})
    assert requests.modify(request, threads.MODIFIABLE) == {"metadata_": {"a": "b"}}
    request.update_mask.paths.append("tool_resources")
    assert requests.modify(request, threads.MODIFIABLE) == {"tool_resources": NOTHING}
    assert requests.modify(threads_pb2.ModifyThreadRequest(), (metadata.FIELD,)) == {}
