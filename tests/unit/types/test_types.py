"""Types: what a request says is stored, and shown the same in JSON and in protobuf."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from assistants.v1 import (
    assistants_pb2,
    common_pb2,
    messages_pb2,
    run_objects_pb2,
    runs_pb2,
    threads_pb2,
)
from google.protobuf.message import Message

from service import types
from service.api.new_run import draft
from service.types import answers, assistants, messages, requests, threads
from service.types.json_value import from_python
from storage import rows
from tests.support.storage.rows import text_part
from tests.support.types import samples, walker
from tests.support.types.type_samples import NOTHING, PAIRS, TOOLS, TYPES, Trip, Way

RESOURCES = {
    "models",
    *("assistants", "threads", "messages", "runs", "steps"),
    *("vector_stores", "vector_store_files", "vector_store_search", "files", "uploads"),
}
NOT_SHOWN = {"filters", "include", "paging", "tool_outputs"}
"""What requests have and no resource shows."""


@pytest.mark.parametrize(
    ("way", "trip"),
    [
        pytest.param(way, trip, id=f"{name}-{index}")
        for name, (way, trips) in TYPES.items()
        for index, trip in enumerate(trips)
    ],
)
def test_a_value_goes_through_the_server(way: Way, trip: Trip) -> None:
    stored = way.parse(trip.given)
    assert stored == trip.stored
    shown = way.to_json(stored)
    assert shown == trip.json
    assert way.read(way.to_proto(shown)) == trip.json


def test_every_type_has_values_that_go_through() -> None:
    modules = {
        found.name: importlib.import_module(f"{types.__name__}.{found.name}")
        for found in pkgutil.iter_modules(types.__path__)
    }
    known = {
        name
        for name, module in modules.items()
        if module is not answers and (hasattr(module, "parse") or hasattr(module, "to_json"))
    }
    assert known == {*TYPES, *RESOURCES, *NOT_SHOWN}


WRITTEN: dict[str, Any] = {
    "model": "m",
    "instructions": "i",
    "tools": TOOLS,
    "metadata": PAIRS,
    "temperature": 0.5,
    "top_p": 0.0,
    "response_format": from_python({"type": "text"}),
    "reasoning_effort": "low",
}
SHOWN: dict[str, Any] = {
    "model": "m",
    "instructions": "i",
    "metadata": PAIRS,
    "temperature": 0.5,
    "top_p": 0.0,
    "response_format": {"type": "text"},
}
RESOURCES_SHOWN: dict[str, Any] = {
    "code_interpreter": {"file_ids": []},
    "file_search": {"vector_store_ids": []},
}


def _assistant(request: Any) -> rows.Assistant:
    return samples.assistant(**_stored(requests.create(request, assistants.FIELDS)))


def _thread(request: Any) -> rows.Thread:
    return samples.thread(**_stored(requests.create(request, threads.FIELDS)))


def _stored(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of a row, which storage makes of resources that exist."""
    return values | {"tool_resources": dict(values["tool_resources"].given)}


def _message(request: Any) -> rows.Message:
    new = messages.parse("", request)
    parts: dict[str, Any] = {"content": new.content, "attachments": new.attachments}
    return samples.message(role=new.role, metadata_=new.metadata, **parts)


def _run(request: Any) -> rows.Run:
    return samples.run(**draft(request, 600).complete(samples.assistant()).values)


@pytest.mark.parametrize(
    ("request_", "row_of", "kind", "expected"),
    [
        (
            assistants_pb2.CreateAssistantRequest(
                name="n", description="d", tool_resources=NOTHING, **WRITTEN
            ),
            _assistant,
            assistants_pb2.Assistant,
            SHOWN | {"name": "n", "description": "d", "tool_resources": RESOURCES_SHOWN},
        ),
        (
            threads_pb2.CreateThreadRequest(tool_resources=NOTHING, metadata=PAIRS),
            _thread,
            threads_pb2.Thread,
            {"tool_resources": RESOURCES_SHOWN, "metadata": PAIRS},
        ),
        (
            messages_pb2.CreateMessageRequest(
                role="user", content=from_python("Hi"), metadata=PAIRS
            ),
            _message,
            messages_pb2.Message,
            {"role": "user", "content": [text_part("Hi")], "metadata": PAIRS},
        ),
        (
            runs_pb2.CreateRunRequest(
                additional_instructions="j",
                max_prompt_tokens=256,
                max_completion_tokens=2**31 - 1,
                truncation_strategy=common_pb2.TruncationStrategy(type="auto"),
                tool_choice=from_python("required"),
                parallel_tool_calls=False,
                **WRITTEN,
            ),
            _run,
            run_objects_pb2.Run,
            SHOWN
            | {
                "instructions": "i\nj",
                "max_prompt_tokens": 256,
                "max_completion_tokens": 2**31 - 1,
                "truncation_strategy": {"type": "auto", "last_messages": None},
                "tool_choice": "required",
                "parallel_tool_calls": False,
            },
        ),
    ],
)
def test_a_resource_shows_what_its_request_says(
    request_: Message,
    row_of: Callable[[Any], Any],
    kind: type[Message],
    expected: dict[str, Any],
) -> None:
    row = row_of(request_)
    shown: Any = answers.to_json(row)
    assert {name: shown[name] for name in expected} == expected
    message = answers.to_proto(row, kind)
    assert walker.render(message) == orjson.dumps(shown)
