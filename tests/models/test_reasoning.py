"""Reasoning is kept for its server and is no part of the answer."""

from typing import Any

import pytest

from service.models.chunks import Finished, Reader, RefusalDelta, Replay, TextDelta
from tests.support.models.raw_server import choice


def answer(
    *deltas: dict[str, Any], reason: str = "stop", think: bool = True
) -> tuple[str, Finished]:
    reader = Reader(think=think)
    pieces = [p for delta in deltas for p in reader.read(choice(**delta))]
    pieces += reader.read(choice(reason))
    end = reader.finish()
    pieces += reader.rest()
    return "".join(p.text for p in pieces if isinstance(p, TextDelta)), end


def reasoned(text: str) -> Replay | None:
    return Replay({"reasoning_content": text}, []) if text else None


@pytest.mark.parametrize(
    ("text", "thought", "shown"),
    [
        ("<think>Hm.</think>Hello", "Hm.", "Hello"),
        ("\n <think>\nHm.\n</think>\n\nHello \n", "\nHm.\n", "Hello \n"),
        ("<think></think>Hello", "", "Hello"),
        ("<think>a < b </thin </think>Hello", "a < b </thin ", "Hello"),
        ("<think>Hm", "Hm", ""),
        ("<think>Hm</th", "Hm</th", ""),
        ("Hello <think>Hm</think>", "", "Hello <think>Hm</think>"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        (" Hello", "", " Hello"),
        ("<thi", "", "<thi"),
        ("<thinking>", "", "<thinking>"),
        (" ", "", " "),
        ("</think>Hello", "", "</think>Hello"),
    ],
)
def test_reasoning_in_the_text(text: str, thought: str, shown: str) -> None:
    for size in range(1, len(text) + 1):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        got = answer(*({"content": piece} for piece in pieces))
        assert got == (shown, Finished("stop", None, reasoned(thought)))
    assert answer({"content": text}, think=False) == (text, Finished("stop", None))


def test_an_answer_is_not_held_back() -> None:
    reader = Reader()
    assert reader.read(choice(content="<")) == []
    assert reader.read(choice(content="b>")) == [TextDelta("<b>")]
    assert reader.read(choice(content="<think>")) == [TextDelta("<think>")]


@pytest.mark.parametrize(
    ("deltas", "turn"),
    [
        ([{"reasoning_content": "a"}, {"reasoning_content": "b"}], {"reasoning_content": "ab"}),
        ([{"reasoning": "a"}, {"reasoning": None}, {"reasoning": "b"}], {"reasoning": "ab"}),
        (
            [{"reasoning_details": [{"text": "a"}]}, {"reasoning_details": [{"text": "b"}]}],
            {"reasoning_details": [{"text": "a"}, {"text": "b"}]},
        ),
        (
            [{"extra_content": {"google": {"s": "a"}}}, {"extra_content": {"google": {"t": 1}}}],
            {"extra_content": {"google": {"s": "a", "t": 1}}},
        ),
        ([{"own": 1}, {"own": 2}], {"own": 2}),
        ([{"own": "a\0\ud83d", "far": [float("inf")]}], {"own": "a\ufffd\ufffd", "far": [None]}),
        ([{"reasoning_content": "", "annotations": [], "own": {}, "audio": None}], None),
    ],
)
def test_fields_that_only_the_server_understands(
    deltas: list[dict[str, Any]], turn: dict[str, Any] | None
) -> None:
    text, end = answer({"role": "assistant"}, *deltas, {"content": "Hello"})
    assert (text, end.replay) == ("Hello", turn and Replay(turn, []))


@pytest.mark.parametrize("delta", [{"reasoning": "Hm."}, {"content": "<think>Hm."}])
def test_a_model_that_only_reasoned(
    delta: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    text, end = answer(delta)
    assert (text, end.reason) == ("", "stop")
    assert "only reasoned" in capsys.readouterr().out


@pytest.mark.parametrize("delta", [{"content": "Hello"}, {"refusal": "No."}])
def test_a_model_that_reasoned_and_answered(
    delta: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answer({"reasoning": "Hm."}, delta)
    assert "only reasoned" not in capsys.readouterr().out


def test_reasoning_before_a_refusal() -> None:
    reader = Reader()
    assert reader.read(choice(reasoning="Hm.", refusal="No.")) == [RefusalDelta("No.")]
