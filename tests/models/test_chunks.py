"""The dialects of chat-completion servers, event by event."""

from collections.abc import Collection
from typing import Any

import pytest

from service.models.chunks import (
    CallDelta,
    Chunk,
    Finished,
    Reader,
    RefusalDelta,
    Replay,
    TextDelta,
)
from service.models.failures import ModelError
from tests.support.models.raw_server import choice


def read(*events: object, functions: Collection[str] = (), think: bool = True) -> list[Chunk]:
    reader = Reader(functions=functions, think=think)
    chunks: list[Chunk] = [piece for event in events for piece in reader.read(event)]
    end = reader.finish()
    return [*chunks, *reader.rest(), end]


def call(
    name: str | None = None, arguments: Any = None, **rest: Any
) -> dict[str, Any]:  # one piece of a call
    function = {"name": name, "arguments": arguments}
    return {**rest, "function": {k: v for k, v in function.items() if v is not None}}


def calls(
    *pieces: dict[str, Any], reason: str = "tool_calls", functions: Collection[str] = ()
) -> list[Chunk]:
    """Each piece in an event of its own; what comes of them, without the end."""
    events = [choice(tool_calls=[piece]) for piece in pieces]
    *chunks, end = read(*events, choice(reason), functions=functions)
    assert isinstance(end, Finished)
    assert end.reason == "tool_calls"
    return chunks


def test_text_and_what_adds_nothing() -> None:
    assert read(
        choice(role="assistant", content=None),
        {"choices": []},
        {},
        {"choices": None, "usage": None},
        choice(content="Hel", refusal=None, tool_calls=None),
        choice(content="", reasoning_content="hm", function_call={"name": "", "arguments": ""}),
        choice(function_call=None),
        {"choices": [{"index": 1, "delta": {"content": "another answer"}}]},
        {"choices": [{"delta": {"content": "lo"}}]},
        choice("stop"),
        {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}},
    ) == [
        TextDelta("Hel"),
        TextDelta("lo"),
        Finished(
            "stop",
            {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
            Replay({"reasoning_content": "hm"}, []),
        ),
    ]


def test_text_in_parts() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
        {"type": "text", "text": "Hel"},
        {"type": "text", "text": "lo\0"},
        {"type": "text"},
    ]
    assert read(choice(content=parts), choice(content=[]), choice("stop")) == [
        TextDelta("Hello\ufffd"),
        Finished("stop", None),
    ]


def test_refusal() -> None:
    assert read(choice(refusal="No."), choice("stop"))[0] == RefusalDelta("No.")


def test_text_that_cannot_be_stored() -> None:
    *texts, _ = read(choice(content="a\0b\ud83d"), choice("stop"))
    assert texts == [TextDelta("a\ufffdb"), TextDelta("\ufffd")]
    assert read(choice("stop", content="b\ud83d"))[0] == TextDelta("b\ufffd")
    assert read(choice(content="\ud83d\ude00"), choice("stop"))[0] == TextDelta("😀")


def test_a_character_in_two_halves() -> None:
    halves = [choice(content="a\ud83d"), {"choices": []}, choice(), choice(content="\ude00b")]
    assert read(*halves, choice("stop"))[:-1] == [TextDelta("a"), TextDelta("😀b")]


def test_a_message_in_place_of_a_delta() -> None:
    whole = {"role": "assistant", "content": "Hello", "tool_calls": [call("f", "{}", id="a")]}
    named = {"delta": None, "message": whole, "finish_reason": "tool_calls"}
    assert read({"choices": [named]}) == [
        TextDelta("Hello"),
        CallDelta(0, "a", "f", "{}"),
        Finished("tool_calls", None, Replay({}, [{"id": "a"}])),
    ]
    assert read({"choices": [{"message": whole}]}, choice("stop"))[0] == TextDelta("Hello")
    both = {"choices": [{"delta": {}, "message": whole, "finish_reason": "stop"}]}
    assert read(choice(content="Hello"), both) == [TextDelta("Hello"), Finished("stop", None)]


def test_a_call_that_is_sent_in_the_old_way_too() -> None:
    old = {"name": "f", "arguments": "{}"}
    event = choice(function_call=old, tool_calls=[call("f", "{}", id="a")])
    assert read(event, choice("tool_calls"))[0] == CallDelta(0, "a", "f", "{}")


@pytest.mark.parametrize("given_reason", ["tool_calls", "function_call"])
def test_an_end_with_calls_that_never_came(given_reason: str) -> None:
    with pytest.raises(ModelError, match="no answer") as caught:
        read(choice(content=""), choice(given_reason))
    assert (caught.value.code, caught.value.retryable) == ("server_error", False)


def test_a_name_that_cannot_be_stored() -> None:
    assert calls(call("f\0\ud83d", "{}")) == [CallDelta(0, None, "f\ufffd\ufffd", "{}")]


@pytest.mark.parametrize("name", [5, {"a": 1}, [], ""])
def test_a_name_that_is_none(name: object) -> None:
    with pytest.raises(ModelError, match="without naming it"):
        read(choice(tool_calls=[{"function": {"name": name}}]), choice("tool_calls"))


@pytest.mark.parametrize(
    ("given_reason", "reason"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("function_call", "stop"),
        ("tool_calls", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
    ],
)
def test_reasons(given_reason: str, reason: str) -> None:
    found = read(choice(content="x"), choice(given_reason))
    assert found == [TextDelta("x"), Finished(reason, None)]  # type: ignore[arg-type]


@pytest.mark.parametrize("given_reason", ["error", "abort", "", None])
def test_no_good_end(given_reason: str | None) -> None:
    with pytest.raises(ModelError) as caught:
        read(choice(content=""), choice(given_reason))
    assert (caught.value.code, caught.value.retryable) == ("server_error", True)


def test_calls_as_openai_streams_them() -> None:
    assert calls(
        call("f", "", index=0, id="a", type="function"),
        call(None, '{"x"', index=0),
        call(None, ":1}", index=0),
        call("g", "", index=1, id="b"),
        call(None, "{}", index=1),
    ) == [
        CallDelta(0, "a", "f", ""),
        CallDelta(0, None, None, '{"x"'),
        CallDelta(0, None, None, ":1}"),
        CallDelta(1, "b", "g", ""),
        CallDelta(1, None, None, "{}"),
    ]


WHOLE = [CallDelta(0, None, "f", "{}"), CallDelta(1, None, "g", "{}")]
IDS = [CallDelta(0, "a", "f", "{}"), CallDelta(1, "b", "f", "{}")]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([call("f", "{}", index=0), call("g", "{}", index=1)], WHOLE),
        ([call("f", "{}"), call("g", "{}")], WHOLE),
        ([call("f", "{}", index=0), call("g", "{}", index=0)], WHOLE),
        ([call("f", "{}", index=1), call("g", "{}", index=2)], WHOLE),
        ([call("f", {}, index=0), call("g", {}, index=1)], WHOLE),
        ([call("f", "{}", index=0, id="a"), call("f", "{}", index=0, id="b")], IDS),
        ([call("f", "{}", id="a"), call("f", "{}", id="b")], IDS),
    ],
    ids=["no id", "no index", "one index", "index from 1", "objects", "one index, ids", "ids only"],
)
def test_whole_calls(pieces: list[dict[str, Any]], expected: list[Chunk]) -> None:
    assert calls(*pieces) == expected
    assert calls(*pieces, reason="stop") == expected


def test_repeated_id_and_name() -> None:
    pieces = [call("f", piece, index=0, id="a") for piece in ("", '{"x":', "1}")]
    assert calls(*pieces) == [
        CallDelta(0, "a", "f", ""),
        CallDelta(0, None, None, '{"x":'),
        CallDelta(0, None, None, "1}"),
    ]


def test_pieces_without_index_and_id() -> None:
    pieces = [call("f", '{"x":'), call(None, "1}"), call("f", "{}")]
    assert calls(*pieces) == [
        CallDelta(0, None, "f", '{"x":'),
        CallDelta(0, None, None, "1}"),
        CallDelta(1, None, "f", "{}"),
    ]


def test_name_after_arguments() -> None:
    pieces = [call(None, "{", index=0, id="a"), call("f", "}", index=0)]
    assert calls(*pieces) == [CallDelta(0, "a", "f", "{}")]


def test_call_without_a_name() -> None:
    with pytest.raises(ModelError, match="without naming it"):
        read(choice(tool_calls=[call(None, "{}", index=0)]), choice("tool_calls"))


def test_call_cut_off() -> None:
    chunks = read(choice(tool_calls=[call("f", "{", index=0)]), choice("length"))
    assert chunks[-1] == Finished("length", None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ({"message": "Out of memory.", "code": 500}, "Out of memory."),
        ("Out of memory.", "Out of memory."),
        ({"code": 500}, "The model server broke the answer off."),
    ],
)
def test_error_event(error: object, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(choice(content="x"), {"error": error}, choice("stop"))
    assert (caught.value.code, caught.value.message) == ("server_error", message)


@pytest.mark.parametrize(
    "event",
    [
        [],
        "text",
        None,
        {"choices": 5},
        {"choices": ["x"]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"message": "x"}]},
        choice(content=5),
        choice(content={"text": "x"}),
        choice(content=False),
        choice(refusal=5),
        choice(function_call={"name": "f", "arguments": "{}"}),
        choice(function_call="f"),
        choice(content=["x"]),
        choice(content=[{"type": "text", "text": 5}]),
        choice(tool_calls=["x"]),
        choice(tool_calls=[{"index": [], "function": {}}]),
    ],
    ids=repr,
)
def test_nonsense(event: object) -> None:
    with pytest.raises(ModelError, match="no answer") as caught:
        read(event)
    assert caught.value.code == "server_error"


@pytest.mark.parametrize(
    ("usage", "read_as"),
    [
        ({"prompt_tokens": "many", "completion_tokens": 3}, (0, 3, 3)),
        ({"prompt_tokens": -1, "completion_tokens": 3}, (0, 3, 3)),
        ({"prompt_tokens": 2, "completion_tokens": 10**30}, (2, 0, 2)),
        ({"prompt_tokens": 2, "total_tokens": float("inf")}, (2, 0, 2)),
        ({"prompt_tokens": float("nan")}, (0, 0, 0)),
        ({"prompt_tokens": None, "completion_tokens": []}, (0, 0, 0)),
        ({"prompt_tokens": True, "completion_tokens": 3}, (0, 3, 3)),
        ({}, (0, 0, 0)),
    ],
    ids=repr,
)
def test_usage_that_makes_no_sense(usage: object, read_as: tuple[int, int, int]) -> None:
    kinds = ("prompt_tokens", "completion_tokens", "total_tokens")
    *_, end = read(choice(content="Hello"), choice("stop"), {"usage": usage})
    assert end == Finished("stop", dict(zip(kinds, read_as, strict=True)))


@pytest.mark.parametrize(
    "event",
    [
        {"usage": {"prompt_tokens": 2, "completion_tokens": 3}},
        {"choices": [], "x_groq": {"usage": {"prompt_tokens": 2, "completion_tokens": 3}}},
        {"choices": [{"delta": {}, "usage": {"prompt_tokens": 2, "completion_tokens": 3}}]},
    ],
    ids=["OpenAI", "Groq", "Kimi"],
)
def test_places_of_the_usage(event: dict[str, Any]) -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert read(event, choice("stop"), {"usage": None, "x_groq": "?"}) == [Finished("stop", usage)]
    assert read(choice("stop"), event) == [Finished("stop", usage)]


def test_arguments_as_an_object_keep_their_letters() -> None:
    assert calls(call("f", {"city": "Zürich"}, index=0)) == [
        CallDelta(0, None, "f", '{"city": "Zürich"}')
    ]


@pytest.mark.parametrize(
    "event",
    [
        [],
        None,
        {"error": {"message": "Too late."}},
        {"choices": 5},
        choice(content=5),
        choice(tool_calls=["x"]),
        choice("error"),
        choice("content_filter"),
        {"usage": "many"},
    ],
    ids=repr,
)
def test_nothing_after_the_end_undoes_it(event: object) -> None:
    assert read(choice("stop", content="x"), event) == [TextDelta("x"), Finished("stop", None)]


def test_usage_after_the_end_is_kept() -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert read(choice("stop"), {"usage": usage}, {"usage": {}}) == [Finished("stop", usage)]


def test_an_error_within_a_choice() -> None:
    with pytest.raises(ModelError, match="Overloaded") as caught:
        read({"choices": [{"error": {"code": 503, "message": "Overloaded."}, "delta": {}}]})
    assert caught.value.retryable
