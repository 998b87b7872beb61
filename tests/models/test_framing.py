"""How the events of an answer may lie in a response."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.models.client import CallDelta, ChatModel, Chunk, Finished, ModelError, TextDelta
from service.models.framing import Decoder
from tests.support.models.raw_server import RawServer, choice

HELLO = [choice(content="Hel"), choice(content="lo"), choice("stop")]
USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def data(*values: object, end: str = "\n") -> str:
    return "".join(f"data: {json.dumps(value)}{end}{end}" for value in values)


def typed(content_type: str, body: str | bytes) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n\r\n".encode() + body


async def chunks(model: ChatModel) -> list[Chunk]:
    return [chunk async for chunks in model.stream(REQUEST) for chunk in chunks]


def whole(finish_reason: str | None = "stop", **message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "refusal": None, "annotations": [], **message}
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    return {"object": "chat.completion", "choices": choices, "usage": USAGE}


NOTHING = [
    "data:\n\n",
    "data: \n\n",
    "event: ping\n\n",
    "event: ping\ndata: now\n\n",
    "retry: 9\n\n",
]
NOTHING += [
    ": a comment\nid: 5\n\n",
    "id: 5\n\n",
    ":\n\n",
    "\n\n",
    "whatever\n\n",
    "event: ping\ndata:\n\n",
]


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("place", range(4))
async def test_events_without_data(
    raw: RawServer, odd_model: ChatModel, nothing: str, place: int
) -> None:
    events = [data(event) for event in HELLO]
    events.insert(place, nothing)
    raw.answer(typed("text/event-stream", "".join(events) + "data: [DONE]\n\n"))
    assert await chunks(odd_model) == [TextDelta("Hel"), TextDelta("lo"), Finished("stop", None)]


@pytest.mark.parametrize(
    "body",
    [
        "\ufeff" + data(*HELLO),
        data(*HELLO, end="\r\n"),
        data(*HELLO, end="\r"),
        data(*HELLO).replace("data: ", "data:"),
        data(*HELLO).rstrip("\n"),
        "\n\n" + data(*HELLO) + "data: [DONE]",
        data(*HELLO).replace('"delta"', '\ndata: "delta"'),
    ],
    ids=["byte order mark", "CRLF", "CR", "no space", "no last line", "done", "lines of data"],
)
async def test_event_streams(raw: RawServer, odd_model: ChatModel, body: str) -> None:
    expected = [TextDelta("Hel"), TextDelta("lo"), Finished("stop", None)]
    raw.answer(typed("text/event-stream", body))
    assert await chunks(odd_model) == expected
    raw.answers.clear()
    # Byte by byte.
    raw.answer(*(bytes([byte]) for byte in typed("text/event-stream", body)))
    assert await chunks(odd_model) == expected


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/html", "text/plain", "application/octet-stream"]
)
async def test_an_event_stream_under_another_type(
    raw: RawServer, odd_model: ChatModel, content_type: str
) -> None:
    raw.answer(typed(content_type, data(*HELLO)))
    assert await chunks(odd_model) == [TextDelta("Hel"), TextDelta("lo"), Finished("stop", None)]


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain"])
@pytest.mark.parametrize("before", ["", "\ufeff", "\n "])
async def test_one_whole_answer(
    raw: RawServer, odd_model: ChatModel, content_type: str, before: str
) -> None:
    raw.answer(typed(content_type, before + json.dumps(whole(content="Hello"), indent=1)))
    assert await chunks(odd_model) == [TextDelta("Hello"), Finished("stop", USAGE)]


async def test_one_whole_answer_with_calls(raw: RawServer, odd_model: ChatModel) -> None:
    calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": a}}
             for i, a in (("a", '{"x":1}'), ("b", ""))]  # fmt: skip
    body = whole("tool_calls", content=None, tool_calls=calls)
    raw.answer(typed("application/json", json.dumps(body)))
    *deltas, end = await chunks(odd_model)
    assert deltas == [
        CallDelta(0, "a", "f", '{"x":1}'),
        CallDelta(1, "b", "f", ""),
        CallDelta(1, None, None, "{}"),
    ]
    assert isinstance(end, Finished)
    assert (end.reason, end.usage) == ("tool_calls", USAGE)


@pytest.mark.parametrize("reason", [None, "", "null"])
async def test_one_whole_answer_that_does_not_say_why_it_ended(
    raw: RawServer, odd_model: ChatModel, reason: str | None
) -> None:
    raw.answer(typed("application/json", json.dumps(whole(reason, content="Hello"))))
    assert await chunks(odd_model) == [TextDelta("Hello"), Finished("stop", USAGE)]


@pytest.mark.parametrize(
    "after",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b'data: {"error": {"message": "Too late."}}\n\n',
        b"data: \xff\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"<html>",
    ],
    ids=["no JSON", "a list", "an error", "no text", "too deep", "a page"],
)
async def test_nothing_after_the_end_undoes_it(
    raw: RawServer, odd_model: ChatModel, after: bytes
) -> None:
    raw.answer(typed("text/event-stream", data(*HELLO).encode()), after)
    assert await chunks(odd_model) == [TextDelta("Hel"), TextDelta("lo"), Finished("stop", None)]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ('event: error\ndata: {"message": "No more."}\n\n', "server_error"),
        ('event: error\ndata: {"message": "No more.", "code": "429"}\n\n', "rate_limit_exceeded"),
        ('event: error\ndata: {"error": {"message": "No more."}}\n\n', "server_error"),
        ("event: error\ndata: No more.\n\n", "server_error"),
        ('data: {"object": "error", "message": "No more.", "code": 400}\n\n', "invalid_prompt"),
        ('data: [{"error": {"message": "No more.", "code": 400}}]\n\n', "invalid_prompt"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
async def test_errors_in_streams(
    raw: RawServer, odd_model: ChatModel, event: str, code: str, begun: bool
) -> None:
    raw.answer(typed("text/event-stream", data(*HELLO[: 2 * begun]) + event))
    with pytest.raises(ModelError, match=r"No more\.") as caught:
        await chunks(odd_model)
    assert (caught.value.code, caught.value.quoted) == (code, True)


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "No more."},
        [{"error": {"message": "No more."}}],
        {"object": "error", "message": "No more.", "code": 40001},
    ],
    ids=repr,
)
async def test_an_error_in_place_of_a_stream(
    raw: RawServer, odd_model: ChatModel, body: object
) -> None:
    raw.answer(typed("application/json", json.dumps(body)))
    with pytest.raises(ModelError, match=r"No more\."):
        await chunks(odd_model)


async def test_nothing_after_done_is_read(raw: RawServer, odd_model: ChatModel) -> None:
    raw.answer(typed("text/event-stream", data(HELLO[0]) + "data: [DONE]\n\n" + data(*HELLO[1:])))
    with pytest.raises(ModelError, match="broke the answer off") as caught:
        await chunks(odd_model)
    assert caught.value.retryable


async def test_an_event_that_is_cut_off(raw: RawServer, odd_model: ChatModel) -> None:
    raw.answer(typed("text/event-stream", data(HELLO[0]) + 'data: {"choices": ['))
    with pytest.raises(ModelError, match="broke the answer off") as caught:
        await chunks(odd_model)
    assert caught.value.retryable


async def test_the_declared_functions_join_names(raw: RawServer, odd_model: ChatModel) -> None:
    pieces = [{"index": 0, "function": {"name": name}} for name in ("get_", "weather")]
    events = [choice(tool_calls=[piece]) for piece in pieces]
    raw.answer(typed("text/event-stream", data(*events, choice("tool_calls"))))
    function = {"type": "function", "function": {"name": "get_weather"}}
    request = REQUEST | {"tools": [{"type": "other"}, function]}
    chunks = [chunk async for chunks in odd_model.stream(request) for chunk in chunks]
    named = [chunk for chunk in chunks if isinstance(chunk, CallDelta)]
    assert named == [CallDelta(0, None, "get_weather", ""), CallDelta(0, None, None, "{}")]


LINES = [
    "data: a",
    "data:",
    "data:  b",
    "data",
    "event: ping",
    "event:e",
    ": c",
    "id: 1",
    "data: ü",
    "",
]


@given(
    st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(["\n", "\r", "\r\n"])), max_size=12),
    st.sets(st.integers(1, 100)),
    st.booleans(),
)
def test_it_does_not_matter_where_a_body_is_cut(
    lines: list[tuple[str, str]], cuts: set[int], whole_lines: bool
) -> None:
    def read(body: str, cuts: list[int]) -> list[tuple[bytes, bytes]]:
        data, decoder = body.encode(), Decoder()
        bounds = itertools.pairwise([0, *(cut for cut in cuts if cut < len(data)), len(data)])
        parts = [data[start:end] for start, end in bounds]
        return [*(each for part in parts for each in decoder.read(part)), *decoder.rest()]

    body = "".join(text + end for text, end in lines)
    if lines and not whole_lines:
        body = body.removesuffix(lines[-1][1])
    # Between two ends of a line that are one, there is a line where there was none.
    apart = "".join(text + "\n" for text, _ in lines)
    whole = read(body, [])
    assert read(body, sorted(cuts)) == whole
    if not any(a[1] == "\r" and b == ("", "\n") for a, b in itertools.pairwise(lines)):
        assert whole == read(apart, [])
