"""Rows with everything set and with nothing, and the answers that are made of them."""

from typing import Any

from service.types import tool_calls, tools
from service.types.answers import Answer, Deleted
from service.types.include import CONTENTS
from service.types.steps import WithContents
from storage import rows
from storage.pages import Page
from storage.runs import Found, RunPage
from tests.support.storage.rows import call, text_part

SCHEMA = {"z": 1, "a": [2.5, None, {"b": True, "c": "d"}]}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA}
TOOLS: list[dict[str, Any]] = [
    {"type": "code_interpreter"},
    {"type": "file_search"},
    {
        "type": "file_search",
        "file_search": {
            "max_num_results": 3,
            "ranking_options": {"ranker": "auto", "score_threshold": 0.0},
        },
    },
    {"type": "file_search", "file_search": {}},
    {"type": "function", "function": FUNCTION},
    {"type": "function", "function": {"name": "g", "parameters": {}, "strict": True}},
    {"type": "function", "function": {"name": "h", "strict": False}},
]
# In the other order: answers have one of their own.
RESOURCES = {
    "file_search": {"vector_store_ids": ["vs_1"]},
    "code_interpreter": {"file_ids": ["file-1"]},
}
FORMATS: list[Any] = [
    "auto",
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "n"}},
    {
        "type": "json_schema",
        "json_schema": {"strict": False, "schema": SCHEMA, "name": "n", "description": "d"},
    },
]
CHOICES: list[Any] = ["none", "required", {"type": "function", "function": {"name": "f"}}]
USAGE = {"total_tokens": 2**53 + 1, "prompt_tokens": 1, "completion_tokens": 2}
OWNED: dict[str, Any] = {"project_id": "proj_1", "position": "0", "created_at": 1}
OF_RUN: dict[str, Any] = {"thread_id": "thread_1", "assistant_id": "asst_1"}


def assistant(**changes: Any) -> rows.Assistant:
    """An assistant, of which nothing is set but for `changes`."""
    bare: dict[str, Any] = {"model": "m", "tools": [], "tool_resources": {}}
    bare |= {"metadata_": {}, "response_format": "auto"}
    return rows.Assistant(id="asst_1", **OWNED | bare | changes)


def thread(**changes: Any) -> rows.Thread:
    """A thread, of which nothing is set but for `changes`."""
    return rows.Thread(id="thread_1", **OWNED | {"tool_resources": {}, "metadata_": {}} | changes)


def message(**changes: Any) -> rows.Message:
    """A message, of which nothing is set but for `changes`."""
    bare: dict[str, Any] = {"status": "in_progress", "role": "assistant", "content": []}
    bare |= {"thread_id": "thread_1", "context_position": "0", "attachments": [], "metadata_": {}}
    return rows.Message(id="msg_1", **OWNED | bare | changes)


def run(**changes: Any) -> rows.Run:
    """A run, of which nothing is set but for `changes`."""
    bare: dict[str, Any] = {"status": "queued", "queued_at": 1.5, "context_until": "0"}
    bare |= {"model": "m", "instructions": "", "tools": [], "metadata_": {}}
    bare |= {"truncation_strategy": {"type": "auto", "last_messages": None}}
    return rows.Run(id="run_1", **OWNED | OF_RUN | bare | {"response_format": "auto"} | changes)


def step(**changes: Any) -> rows.RunStep:
    """A step that writes a message, of which nothing is set but for `changes`."""
    details = {"type": "message_creation", "message_creation": {"message_id": "msg_1"}}
    bare: dict[str, Any] = {"type": "message_creation", "step_details": details}
    bare |= {"run_id": "run_1", "status": "in_progress", "metadata_": {}}
    return rows.RunStep(id="step_1", **OWNED | OF_RUN | bare | changes)


def calls_step(*calls: dict[str, Any], **changes: Any) -> rows.RunStep:
    """A step that calls functions."""
    details = {"type": "tool_calls", "tool_calls": [*calls]}
    return step(type="tool_calls", step_details=details, **changes)


def _times(*names: str) -> dict[str, int]:
    return {f"{name}_at": number for number, name in enumerate(names, 10)}


FULL_ASSISTANT = assistant(
    name="n",
    description="d",
    instructions="i",
    tools=TOOLS,
    tool_resources=RESOURCES,
    metadata_={"b": "1", "a": "2", "": ""},
    temperature=0.0,
    top_p=0.5,
    response_format=FORMATS[-1],
    reasoning_effort="low",
)
FULL_THREAD = thread(tool_resources=RESOURCES, metadata_={"b": "1", "a": "2"})
ANNOTATIONS = [
    {
        "type": kind,
        "text": "t",
        kind: {"file_id": "file-1"},
        "start_index": number,
        "end_index": number + 1,
    }
    for number, kind in enumerate(("file_citation", "file_path"), 1)
]
NUMBERED: list[dict[str, Any]] = [
    {"index": index, **each} for index, each in enumerate(ANNOTATIONS)
]
NUMBERED[0] |= {"file_citation": {"file_id": "file-1", "quote": "q"}}
IMAGE = {"file_id": "file-1", "detail": "low"}
FULL_MESSAGE = message(
    status="incomplete",
    role="user",
    content=[
        text_part(""),
        {"type": "text", "text": {"value": "a\n\u2028ü", "annotations": ANNOTATIONS}},
        {"type": "image_file", "image_file": IMAGE},
        {"type": "image_url", "image_url": {"url": "https://example.com/i", "detail": "auto"}},
        {"type": "refusal", "refusal": "no"},
    ],
    attachments=[{"file_id": "file-1", "tools": [{"type": "file_search"}]}],
    metadata_={"b": "1", "a": "2"},
    assistant_id="asst_1",
    run_id="run_1",
    incomplete_reason="max_tokens",
    **_times("completed", "incomplete"),
)
OUTPUTS: list[dict[str, Any]] = [
    {"type": "logs", "logs": ""},
    {"type": "image", "image": {"file_id": "file-1"}},
    {"type": "logs", "logs": "1\n"},
]
PUT_OUT = [{"index": index, **output} for index, output in enumerate(OUTPUTS)]
RESULT = {"file_id": "file-1", "file_name": "a.txt", "score": 0.5}
RESULTS = [RESULT, {**RESULT, "content": [{"type": "text", "text": "a"}]}]
SEARCHED = {
    "ranking_options": {"ranker": "auto", "score_threshold": 0.5},
    "results": RESULTS,
}
BEGUN = [
    tool_calls.function("call_1", "f"),
    *(tool_calls.of_server("call_1", {"type": type}) for type in tools.SERVER_KINDS),
]
CALLS: list[dict[str, Any]] = [
    *BEGUN,
    call("call_2", "42"),
    {"id": "call_3", "type": "file_search", "file_search": SEARCHED},
    {"id": "call_4", "type": "file_search", "file_search": {**SEARCHED, "results": []}},
    {
        "id": "call_5",
        "type": "code_interpreter",
        "code_interpreter": {"input": "print(1)", "outputs": OUTPUTS},
    },
]
MIXED_STEP = calls_step(*CALLS)
FULL_STEP = calls_step(
    call("call_1", "42"),
    call("call_2", ""),
    call("call_3"),
    status="failed",
    last_error={"message": "m", "code": "rate_limit_exceeded"},
    usage=USAGE,
    metadata_={"b": "1", "a": "2"},
    replay={"turn": {}, "calls": []},
    **_times("expired", "cancelled", "failed", "completed"),
)
FULL_RUN = run(
    status="requires_action",
    waiting=True,
    tools=TOOLS,
    instructions="i",
    metadata_={"b": "1", "a": "2"},
    temperature=2.0,
    top_p=0.0,
    max_prompt_tokens=256,
    max_completion_tokens=2**31 - 1,
    truncation_strategy={"type": "last_messages", "last_messages": 2},
    tool_choice=CHOICES[-1],
    parallel_tool_calls=True,
    response_format=FORMATS[-1],
    reasoning_effort="low",
    include=[CONTENTS],
    last_error={"message": "m", "code": "invalid_prompt"},
    incomplete_reason="max_prompt_tokens",
    usage=USAGE,
    **_times("expires", "started", "cancelled", "failed", "completed"),
)

ASSISTANTS = [assistant(), FULL_ASSISTANT, *(assistant(response_format=form) for form in FORMATS)]
THREADS = [thread(), FULL_THREAD, thread(tool_resources={"file_search": {"vector_store_ids": []}})]
MESSAGES = [message(), FULL_MESSAGE]
STEPS = [step(), step(status="completed"), calls_step(), FULL_STEP, MIXED_STEP]
RUNS: list[rows.Run | Found] = [
    run(),
    run(parallel_tool_calls=False),
    Found(FULL_RUN, FULL_STEP),
    Found(run(status="requires_action"), None),
    Found(run(status="requires_action"), MIXED_STEP),
    # Its outputs have come since.
    Found(run(), FULL_STEP),
    *(run(tool_choice=choice) for choice in CHOICES),
]

EMPTY: Page[Any] = Page([], False)


def _page(found: Any) -> Page[Any]:
    return Page(found, True)


ANSWERS: list[tuple[str, str, Answer]] = [
    *(("AssistantObject", "Assistant", row) for row in ASSISTANTS),
    *(("ThreadObject", "Thread", row) for row in THREADS),
    *(("MessageObject", "Message", row) for row in MESSAGES),
    *(("RunObject", "Run", row) for row in RUNS),
    *(("RunStepObject", "RunStep", row) for row in STEPS),
    *(("RunStepObject", "RunStep", WithContents(row)) for row in STEPS),
    *(
        (name, name, page)
        for name, found in (
            ("ListAssistantsResponse", ASSISTANTS),
            ("ListMessagesResponse", MESSAGES),
            ("ListRunStepsResponse", STEPS),
        )
        for page in (EMPTY, _page(found))
    ),
    ("ListRunsResponse", "ListRunsResponse", RunPage([], False, None)),
    ("ListRunsResponse", "ListRunsResponse", RunPage([run(), FULL_RUN], True, FULL_STEP)),
    ("DeleteAssistantResponse", "DeleteAssistantResponse", Deleted("assistant", "asst_1")),
    ("DeleteThreadResponse", "DeleteThreadResponse", Deleted("thread", "thread_1")),
    ("DeleteMessageResponse", "DeleteMessageResponse", Deleted("thread.message", "msg_1")),
]
"""OpenAI's schema, the message of `assistants.v1`, and an answer that is presented as both."""

OUR_OWN: list[tuple[str, Answer]] = [
    ("ListThreadsResponse", EMPTY),
    ("ListThreadsResponse", Page(THREADS, True)),
]
"""Answers that OpenAI's document does not know."""
