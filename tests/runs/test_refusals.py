"""What refuses a run when several things are wrong: always the same, and nothing is left of it."""

from typing import Any

import pytest
from assistants.json import json_pb2
from assistants.v1 import common_pb2, messages_pb2, runs_pb2, threads_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from service.api.runs import RunsServicer
from service.errors import ApiError, from_exception
from storage import Storage
from storage.errors import StorageError
from storage.pages import PageRequest
from storage.resources import NOTHING
from storage.rows import Thread
from tests.support.runs.engines import CALLER, Engines
from tests.support.runs.schedule import TOOLS
from tests.support.storage.rows import PROJECT, assistant_values, user

FUNCTION = common_pb2.Tool(type="function", function=common_pb2.FunctionDefinition(name="f"))
WRONG_ROLE = messages_pb2.NewMessage(role="nobody")
ADDED = messages_pb2.NewMessage(role="user", content=json_pb2.Value(string_value="And"))
ASSISTANTS = {"plain": [], "f": TOOLS}
HOT: dict[str, Any] = {"temperature": 5.0}


def chosen(name: str) -> json_pb2.Value:
    """A tool choice that names a function."""

    def value(**fields: json_pb2.Value) -> json_pb2.Value:
        entries = [json_pb2.Struct.FieldsEntry(key=key, value=item) for key, item in fields.items()]
        return json_pb2.Value(struct_value=json_pb2.Struct(fields=entries))

    def text(given: str) -> json_pb2.Value:
        return json_pb2.Value(string_value=given)

    return value(type=text("function"), function=value(name=text(name)))


CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "no assistant, before a number": ("", HOT, "No assistant found"),
    "no assistant, before a message": (
        "",
        {"additional_messages": [WRONG_ROLE]},
        "No assistant found",
    ),
    "no assistant, before no thread": ("", {"thread_id": "thread_x"}, "No assistant found"),
    "no assistant named, before a number": (
        "plain",
        {"assistant_id": "", **HOT},
        "required parameter: 'assistant_id'",
    ),
    "a mask, before the assistant's functions": (
        "f",
        {"tool_choice": chosen("g"), "override_mask": FieldMask(paths=["x"])},
        "'override_mask'",
    ),
    "a number, before the assistant's functions": (
        "f",
        {"tool_choice": chosen("g"), **HOT},
        "'temperature'",
    ),
    "the assistant's functions, before an effort": (
        "f",
        {"tool_choice": chosen("g"), "reasoning_effort": "huge"},
        "no function 'g'",
    ),
    "the assistant's functions, before a message": (
        "f",
        {"tool_choice": chosen("g"), "additional_messages": [WRONG_ROLE]},
        "no function 'g'",
    ),
    "the assistant's functions, before no thread": (
        "f",
        {"tool_choice": chosen("g"), "thread_id": "thread_x"},
        "no function 'g'",
    ),
    "the assistant's functions": ("f", {"tool_choice": chosen("g")}, "no function 'g'"),
    "a message, before no thread": (
        "f",
        {"additional_messages": [ADDED, WRONG_ROLE], "thread_id": "thread_x"},
        "Invalid value: 'nobody'",
    ),
    "no thread": ("f", {"thread_id": "thread_x", "tool_choice": chosen("f")}, "No thread found"),
}


@pytest.fixture
async def servicer(storage: Storage, engines: Engines) -> RunsServicer:
    """A servicer with an engine that works."""
    return RunsServicer(storage, engines.start(), 600, "reject")


@pytest.fixture
async def thread(storage: Storage) -> Thread:
    """A thread with a message."""
    return await storage.threads.create(PROJECT, {}, NOTHING, [user("Hi")])


async def assistant(storage: Storage, kind: str) -> str:
    """The id of an assistant with tools of a kind, or of none at all."""
    if not kind:
        return "asst_x"
    values = assistant_values(tools=ASSISTANTS[kind])
    return (await storage.assistants.create(PROJECT, values)).id


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_run_is_refused(
    storage: Storage,
    servicer: RunsServicer,
    thread: Thread,
    case: tuple[str, dict[str, Any], str],
) -> None:
    kind, fields, words = case
    ids = {"thread_id": thread.id, "assistant_id": await assistant(storage, kind)}
    request = runs_pb2.CreateRunRequest(**{"additional_messages": [ADDED], **ids, **fields})
    with pytest.raises((ApiError, StorageError)) as refused:
        await servicer.CreateRun(request, CALLER)
    assert words in from_exception(refused.value).message
    assert (await storage.runs.list(PROJECT, thread.id, PageRequest())).data == []
    [message] = (await storage.messages.list(PROJECT, thread.id, PageRequest())).data
    assert message.content[0]["text"]["value"] == "Hi"


async def test_a_run_with_its_thread_is_refused(storage: Storage, servicer: RunsServicer) -> None:
    wrong = threads_pb2.NewThread(messages=[WRONG_ROLE])
    ids = {"plain": await assistant(storage, "plain"), "f": await assistant(storage, "f")}
    for fields, words in (
        ({"assistant_id": "asst_x", "thread": wrong}, "No assistant found"),
        ({"assistant_id": ids["plain"], "thread": wrong, **HOT}, "'temperature'"),
        ({"assistant_id": ids["plain"], "thread": wrong}, "Invalid value: 'nobody'"),
        ({"assistant_id": ids["f"], "tool_choice": chosen("g"), "thread": wrong}, "function 'g'"),
    ):
        request = runs_pb2.CreateThreadAndRunRequest(**fields)
        with pytest.raises((ApiError, StorageError)) as refused:
            await servicer.CreateThreadAndRun(request, CALLER)
        assert words in from_exception(refused.value).message
    assert (await storage.threads.list(PROJECT, PageRequest(), {})).data == []
