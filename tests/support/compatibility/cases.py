"""Requests that are refused: every row of the table of errors, and every kind in the code's."""

from typing import Any

from service.errors import Kind
from tests.support.compatibility import vector_store_cases
from tests.support.compatibility.errors import Case
from tests.support.compatibility.words import TOO_LONG, TOO_MANY, TOO_MANY_PROPERTIES

USER: dict[str, Any] = {"role": "user", "content": "x"}
A_STREAM = {"assistant_id": "asst_x", "stream": True}
OUTPUTS = {"tool_outputs": [{"tool_call_id": "call_x", "output": ""}]}
RUN = {"assistant_id": "{assistant}"}
FUNCTION = {"type": "function", "function": {"name": "f"}}
FILES = {"code_interpreter": {"file_ids": ["file-x"]}}
STORES = {"file_search": {"vector_store_ids": ["vs_x"]}}
IMAGE = [{"type": "image_file", "image_file": {"file_id": "file-x"}}]

NO_THREAD = "No thread found with id 'thread_x'."
NO_ASSISTANT = "No assistant found with id 'asst_x'."
NO_RUN = "No run found with id 'run_x'."
BETWEEN = "Invalid '{}': {} value. Expected a value {}, but got {} instead."
TYPE = "Invalid type for '{}': expected {}, but got {} instead."
CHOICES = "Invalid value: '{}'. Supported values are: {}."
ACTIVE = "Thread {busy} already has an active run {busy_run}."
TERMINAL = 'Runs in status "completed" do not accept tool outputs.'
WRONG_SET = "Expected tool outputs for call_ids ['{call_0}', '{call_1}'], got ['call_x']"


def assistant(**fields: Any) -> dict[str, Any]:
    """Returns the body of a request that creates an assistant."""
    return {"model": "m"} | fields


def _unknown_objects() -> list[Case]:
    def missing(message: str, *requests: str, body: Any = None) -> list[Case]:
        return [Case(Kind.not_found, request, message, body=body) for request in requests]

    assistant, thread, inside = "/assistants/asst_x", "/threads/thread_x", "/threads/{idle}"
    message, run, step = f"{inside}/messages/msg_x", f"{inside}/runs/run_x", "/steps/step_x"
    return [
        Case(Kind.model_not_found, "GET /models/x", "The model 'x' does not exist", param="model"),
        *missing(NO_ASSISTANT, f"GET {assistant}", f"POST {assistant}", f"DELETE {assistant}"),
        *missing(NO_ASSISTANT, f"POST {inside}/runs", "POST /threads/runs", body=A_STREAM),
        *missing(
            NO_ASSISTANT,
            f"POST {inside}/runs",
            "POST /threads/runs",
            body={"assistant_id": "asst_x"},
        ),
        *missing(NO_THREAD, f"GET {thread}", f"POST {thread}", f"DELETE {thread}"),
        *missing(NO_THREAD, f"GET {thread}/messages", f"GET {thread}/runs"),
        *missing(NO_THREAD, f"POST {thread}/messages", body=USER),
        *missing(NO_THREAD, f"POST {thread}/runs", body=RUN),
        *missing(
            "No message found with id 'msg_x'.",
            f"GET {message}",
            f"POST {message}",
            f"DELETE {message}",
        ),
        *missing(NO_RUN, f"GET {run}", f"POST {run}", f"POST {run}/cancel", f"GET {run}/steps"),
        *missing(NO_RUN, f"POST {run}/submit_tool_outputs", body=OUTPUTS),
        *missing(NO_RUN, f"POST {run}/submit_tool_outputs", body=OUTPUTS | {"stream": True}),
        *missing(NO_RUN, f"GET {run}{step}"),
        *missing(
            "No run step found with id 'step_x'.", "GET /threads/{done}/runs/{done_run}" + step
        ),
        *missing(
            "No file found with id 'file-x'.",
            f"POST {inside}/messages",
            body={"role": "user", "content": IMAGE},
        ),
        *missing(
            "No file found with id 'file-x'.", "POST /threads", body={"tool_resources": FILES}
        ),
        *missing(
            "No vector store found with id 'vs_x'.",
            "POST /threads",
            body={"tool_resources": STORES},
        ),
    ]


def _files() -> list[Case]:
    """Returns what is wrong with files and uploads, but for the bytes of them."""
    purposes = "['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals']"
    new = {"filename": "a", "purpose": "vision", "bytes": 1, "mime_type": "a/b"}
    upload, no_upload = "/uploads/upload_x", "No upload found with id 'upload_x'."
    begins = "Invalid '{}': '{}'. Expected an ID that begins with '{}'."
    day = {"anchor": "created_at", "seconds": 86_400}

    def new_upload(message: str, kind: Kind, param: str | None, **changed: Any) -> Case:
        return Case(kind, "POST /uploads", message, param, new | changed)

    return [
        *(
            Case(Kind.not_found, f"{verb} /files/file-x{path}", "No such File object: file-x", "id")
            for verb, path in (("GET", ""), ("DELETE", ""), ("GET", "/content"))
        ),
        *(
            Case(
                Kind.invalid_value,
                f"{verb} /files/vs_x{path}",
                begins.format("file_id", "vs_x", "file"),
                "file_id",
            )
            for verb, path in (("GET", ""), ("DELETE", ""), ("GET", "/content"))
        ),
        Case(Kind.not_found, f"POST {upload}/cancel", no_upload),
        Case(Kind.not_found, f"POST {upload}/complete", no_upload, body={"part_ids": []}),
        Case(
            Kind.invalid_value,
            "POST /uploads/file-x/cancel",
            begins.format("upload_id", "file-x", "upload"),
            "upload_id",
        ),
        new_upload(
            f"'x' is not one of {purposes} - 'purpose'", Kind.malformed, "purpose", purpose="x"
        ),
        new_upload(
            BETWEEN.format("bytes", "integer below minimum", ">= 0", -1),
            Kind.integer_below_min,
            "bytes",
            bytes=-1,
        ),
        new_upload(
            BETWEEN.format("bytes", "integer above maximum", "<= 8589934592", 2**40),
            Kind.integer_above_max,
            "bytes",
            bytes=2**40,
        ),
        new_upload(
            TOO_LONG.format("filename", 512, 513),
            Kind.string_above_max,
            "filename",
            filename="x" * 513,
        ),
        new_upload(
            BETWEEN.format("expires_after.seconds", "integer below minimum", ">= 3600", 1),
            Kind.integer_below_min,
            "expires_after.seconds",
            expires_after=day | {"seconds": 1},
        ),
        new_upload(
            "Invalid value: 'x'. Value must be 'created_at'.",
            Kind.invalid_value,
            "expires_after.anchor",
            expires_after=day | {"anchor": "x"},
        ),
        *(
            Case(
                Kind.missing,
                "POST /uploads",
                f"Missing required parameter: '{name}'.",
                name,
                {key: value for key, value in new.items() if key != name},
            )
            for name in new
        ),
        Case(
            Kind.integer_above_max,
            "GET /files?limit=10001",
            BETWEEN.format("limit", "integer above maximum", "<= 10000", 10_001),
            "limit",
        ),
        Case(Kind.invalid_value, "GET /files?after=vs_x", "Invalid 'after': 'vs_x'.", "after"),
    ]


def _states() -> list[Case]:
    busy, done, waiting = "/threads/{busy}", "/threads/{done}/runs/{done_run}", "/threads/{waiting}"
    submit = "submit_tool_outputs"
    outputs = f"POST {waiting}/runs/{{waiting_run}}/{submit}"
    return [
        Case(Kind.active_run, f"POST {busy}/runs", ACTIVE, body=RUN),
        Case(Kind.active_run, f"POST {busy}/runs", ACTIVE, body=RUN | {"stream": True}),
        Case(
            Kind.active_run,
            f"POST {busy}/messages",
            "Can't add messages to {busy} while a run {busy_run} is active.",
            body=USER,
        ),
        Case(
            Kind.wrong_status,
            f"POST {done}/cancel",
            "Cannot cancel run with status 'completed'.",
        ),
        Case(
            Kind.wrong_status,
            "POST /threads/{stopping}/runs/{stopping_run}/cancel",
            "Cannot cancel run with status 'cancelled'.",
        ),
        Case(Kind.wrong_status, f"POST {done}/{submit}", TERMINAL, body=OUTPUTS),
        Case(Kind.wrong_status, f"POST {done}/{submit}", TERMINAL, body=OUTPUTS | {"stream": True}),
        Case(Kind.wrong_tool_outputs, outputs, WRONG_SET, body=OUTPUTS),
        Case(Kind.wrong_tool_outputs, outputs, WRONG_SET, body=OUTPUTS | {"stream": True}),
    ]


def _parameters() -> list[Case]:
    """Returns what is missing, unknown, given twice, or of another type."""
    create, messages = "POST /assistants", "POST /threads/{idle}/messages"

    def missing(request: str, param: str, body: Any) -> Case:
        return Case(Kind.missing, request, f"Missing required parameter: '{param}'.", param, body)

    def unknown(request: str, param: str, body: Any = None, rest_only: bool = False) -> Case:
        message = f"Unknown parameter: '{param}'."
        return Case(Kind.unknown_parameter, request, message, param, body, rest_only)

    def wrong(request: str, param: str, expected: str, got: str, body: Any = None) -> Case:
        message = TYPE.format(param, expected, got)
        return Case(Kind.invalid_type, request, message, param, body, isinstance(body, str | None))

    return [
        missing(create, "model", {}),
        missing("POST /threads/runs", "assistant_id", {}),
        missing("POST /threads/{idle}/runs", "assistant_id", {}),
        missing(messages, "role", {"content": "x"}),
        missing(messages, "content", {"role": "user"}),
        missing("POST /threads", "messages[0].role", {"messages": [{}]}),
        missing(create, "tools[0].type", assistant(tools=[{}])),
        missing(create, "tools[0].function", assistant(tools=[{"type": "function"}])),
        missing("POST /threads/t/runs/r/submit_tool_outputs", "tool_outputs", {}),
        missing(
            create,
            "response_format.json_schema",
            assistant(response_format={"type": "json_schema"}),
        ),
        unknown(create, "foo", assistant(foo=1), rest_only=True),
        unknown("GET /assistants?foo=1", "foo", rest_only=True),
        unknown(create, "response_format.a", assistant(response_format={"type": "text", "a": 1})),
        unknown(
            messages,
            "content[0].b",
            {"role": "user", "content": [{"type": "text", "text": "x", "b": 1}]},
        ),
        Case(
            Kind.duplicate_parameter,
            create,
            "Duplicate parameter: 'model'.",
            "model",
            '{"model": "m", "model": "n"}',
            rest_only=True,
        ),
        wrong("GET /assistants?limit=many", "limit", "an integer", "a string"),
        wrong(create, "model", "a string", "an integer", '{"model": 5}'),
        wrong(create, "tools", "an array", "a string", '{"model": "m", "tools": "x"}'),
        wrong(
            create,
            "response_format",
            "one of a string or an object",
            "an integer",
            assistant(response_format=5),
        ),
        wrong(
            messages,
            "content",
            "one of a string or an array",
            "a boolean",
            {"role": "user", "content": True},
        ),
        wrong(messages, "content[0]", "an object", "null", {"role": "user", "content": [None]}),
    ]


def _values() -> list[Case]:
    """Returns values that are no choice, out of range, or too long."""
    create, messages, runs = (
        "POST /assistants",
        "POST /threads/{idle}/messages",
        "POST /threads/{idle}/runs",
    )

    def invalid(request: str, message: str, param: str, body: Any = None) -> Case:
        return Case(Kind.invalid_value, request, message, param, body)

    def out_of_range(kind: Kind, request: str, param: str, *words: str, body: Any = None) -> Case:
        return Case(kind, request, BETWEEN.format(param, *words), param, body)

    def too_long(param: str, maximum: int, length: int, body: Any) -> Case:
        message = TOO_LONG.format(param, maximum, length)
        return Case(Kind.string_above_max, create, message, param, body)

    return [
        invalid(
            messages,
            CHOICES.format("system", "'user' and 'assistant'"),
            "role",
            USER | {"role": "system"},
        ),
        invalid(
            "POST /threads",
            CHOICES.format("system", "'user' and 'assistant'"),
            "messages[0].role",
            {"messages": [USER | {"role": "system"}]},
        ),
        invalid(
            "GET /threads/{idle}/messages?order=up",
            CHOICES.format("up", "'asc' and 'desc'"),
            "order",
        ),
        invalid(
            create,
            CHOICES.format("x", "'code_interpreter', 'file_search', and 'function'"),
            "tools[0].type",
            assistant(tools=[{"type": "x"}]),
        ),
        invalid("GET /assistants?after=msg_x", "Invalid 'after': 'msg_x'.", "after"),
        invalid("GET /threads/{idle}/runs?before=x", "Invalid 'before': 'x'.", "before"),
        invalid(
            create,
            "Invalid 'temperature': expected a finite number.",
            "temperature",
            assistant(temperature="NaN"),
        ),
        invalid(
            create,
            "Invalid 'model': the NUL character is not allowed.",
            "model",
            assistant(model="m\0"),
        ),
        Case(
            Kind.string_above_max,
            f"GET /threads/{{idle}}/messages?run_id={'x' * 513}",
            TOO_LONG.format("run_id", 512, 513),
            "run_id",
        ),
        invalid(
            create,
            "Invalid 'tools[0].function.name': string does not match pattern. Expected a string "
            "that matches the pattern '^[a-zA-Z0-9_-]+$'.",
            "tools[0].function.name",
            assistant(tools=[{"type": "function", "function": {"name": "a b"}}]),
        ),
        invalid(
            runs,
            "Invalid 'tool_choice': there is no function 'f' among the tools.",
            "tool_choice",
            RUN | {"tool_choice": FUNCTION},
        ),
        out_of_range(
            Kind.integer_above_max,
            "GET /assistants?limit=101",
            *("limit", "integer above maximum", "<= 100", "101"),
        ),
        out_of_range(
            Kind.integer_below_min,
            "GET /threads/{done}/runs/{done_run}/steps?limit=0",
            *("limit", "integer below minimum", ">= 1", "0"),
        ),
        out_of_range(
            Kind.integer_below_min,
            runs,
            *("max_prompt_tokens", "integer below minimum", ">= 256", "255"),
            body=RUN | {"max_prompt_tokens": 255},
        ),
        out_of_range(
            Kind.integer_below_min,
            runs,
            *("truncation_strategy.last_messages", "integer below minimum", ">= 1", "0"),
            body=RUN | {"truncation_strategy": {"type": "last_messages", "last_messages": 0}},
        ),
        out_of_range(
            Kind.decimal_above_max,
            create,
            *("temperature", "decimal above maximum", "<= 2", "2.5"),
            body=assistant(temperature=2.5),
        ),
        out_of_range(
            Kind.decimal_below_min,
            create,
            *("top_p", "decimal below minimum", ">= 0", "-1"),
            body=assistant(top_p=-1),
        ),
        too_long("name", 256, 300, assistant(name="n" * 300)),
        too_long("description", 512, 513, assistant(description="n" * 513)),
        too_long("instructions", 256_000, 256_001, assistant(instructions="é" * 256_001)),
        too_long("metadata.a", 512, 513, assistant(metadata={"a": "v" * 513})),
        too_long("metadata key", 64, 65, assistant(metadata={"k" * 65: ""})),
        Case(
            Kind.array_above_max,
            create,
            TOO_MANY.format("tools", 128, 129),
            "tools",
            assistant(tools=[{"type": "code_interpreter"}] * 129),
        ),
        Case(
            Kind.array_above_max,
            runs,
            TOO_MANY.format("tools", 20, 21),
            "tools",
            RUN | {"tools": [FUNCTION] * 21},
        ),
        Case(
            Kind.array_below_min,
            messages,
            "Invalid 'content': empty array. Expected an array with minimum length 1, but got an "
            "empty array instead.",
            "content",
            {"role": "user", "content": []},
        ),
        Case(
            Kind.too_many_properties,
            create,
            TOO_MANY_PROPERTIES.format("metadata", 16, 17),
            "metadata",
            assistant(metadata={str(number): "" for number in range(17)}),
        ),
    ]


def _unknown_paths() -> list[Case]:
    return [
        Case(None, f"{verb} /x", f"Invalid URL ({verb} /v1/x)", rest_only=True, status=404)
        for verb in ("GET", "POST", "DELETE")
    ]


CASES = [
    *(*_unknown_objects(), *_files(), *_states(), *_parameters(), *_values(), *_unknown_paths()),
    *vector_store_cases.CASES,
]
