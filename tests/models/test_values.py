"""JSON as model servers write it: orjson's where that is exact, and what else they send."""

import json
import math
from typing import Any

import pytest

from service.models import values
from service.models.client import CallDelta, ChatModel, Finished, TextDelta
from tests.models.test_client import answer, error_of, request
from tests.support.models.raw_server import RawServer, choice, events

BIG = 2**64 + 1


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        {"a": [1, -1, 1.5, True, None, "ü", "\0", "\U0001f600"]},
        2**63 - 1,
        2**63,
        -(2**63),
        BIG,
        -BIG,
        10**40,
        [1, BIG],
        {"a": {"b": [BIG, 0.1]}},
        0.12345678901234567,
        1e300,
        "1" * 40,
        "\ud83d",
        "\ude00\ud83d",
        math.inf,
        -math.inf,
    ],
    ids=repr,
)
@pytest.mark.parametrize("escaped", [False, True])
def test_values(value: object, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped).encode(errors="backslashreplace")
    loaded = values.load(text)
    assert loaded == value
    assert repr(loaded) == repr(value)  # 1.0 is not 1.


def test_what_is_no_number() -> None:
    loaded = values.load(b'{"a": NaN}')
    assert isinstance(loaded, dict)
    assert math.isnan(loaded["a"])


def test_the_last_of_two_counts() -> None:
    assert values.load(b'{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    "data",
    [b"", b" ", b"{", b"{}{}", b"01", b"1.", b"'a'", b'"\x01"', b'"\xff"', b'"\xed\xa0\xbd"',
     b"\xef\xbb\xbf{}", b"nan", b"{,}", b"9" * 5000],
)  # fmt: skip
def test_what_is_no_json(data: bytes) -> None:
    with pytest.raises(ValueError):
        values.load(data)


def test_what_is_too_deep() -> None:
    with pytest.raises(RecursionError):
        values.load(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize("number", [BIG, -BIG, 1])
@pytest.mark.parametrize("text", ["ü", "\ud83d", "\U0001f600"])
def test_requests(number: int, text: str) -> None:
    value: dict[str, Any] = {"a": [number, text, 1.5, None], "b": {"c": True}}
    assert json.loads(values.dump(value)) == value


async def test_an_answer_that_orjson_would_not_take(raw: RawServer, odd_model: ChatModel) -> None:
    odd = choice(content="\ud83d") | {"probability": math.nan}
    raw.answer(events(odd, choice(content="\ude00"), choice("stop"), "[DONE]"))
    assert await answer(odd_model, request()) == [TextDelta("\U0001f600"), Finished("stop", None)]


async def test_numbers_are_not_rounded(raw: RawServer, odd_model: ChatModel) -> None:
    function = {"name": "f", "arguments": {"id": BIG}}
    call = choice(tool_calls=[{"index": 0, "id": "c", "function": function}], ticket=BIG)
    raw.answer(events(call, choice("tool_calls"), "[DONE]"))
    *deltas, end = await answer(odd_model, request())
    assert deltas == [CallDelta(0, "c", "f", json.dumps({"id": BIG}))]
    assert isinstance(end, Finished)
    assert end.replay is not None
    assert end.replay.turn == {"ticket": BIG}


async def test_text_that_is_no_utf8_fails(raw: RawServer, odd_model: ChatModel) -> None:
    raw.answer(events(choice(content="x")).replace(b'"x"', b'"\xed\xa0\xbd"'))
    error = await error_of(odd_model, request())
    assert error.message == "The model server sent something that is no answer."
