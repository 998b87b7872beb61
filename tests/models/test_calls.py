"""Which pieces of function calls are one call's, in the dialects of servers."""

from collections.abc import Collection
from typing import Any

import pytest

from service.models.chunks import CallDelta, Finished, Reader, Replay
from tests.support.models.raw_server import choice


def call(name: str | None = None, arguments: Any = None, **rest: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {**rest, "function": {k: v for k, v in function.items() if v is not None}}


def answer(
    *deltas: list[dict[str, Any]], functions: Collection[str] = ()
) -> tuple[list[CallDelta], Finished]:
    reader = Reader(functions=functions)
    pieces = [p for calls in deltas for p in reader.read(choice(tool_calls=calls))]
    pieces += reader.read(choice("tool_calls"))
    end = reader.finish()
    pieces += reader.rest()
    return [piece for piece in pieces if isinstance(piece, CallDelta)], end


def joined(
    *pieces: dict[str, Any], functions: Collection[str] = ()
) -> list[tuple[str | None, str | None, str]]:
    """Returns id, name and arguments of each call of an answer with each piece in a delta."""
    deltas, _ = answer(*([piece] for piece in pieces), functions=functions)
    return whole(deltas)


def whole(deltas: list[CallDelta]) -> list[tuple[str | None, str | None, str]]:
    calls: list[list[CallDelta]] = []
    for delta in deltas:
        if delta.index == len(calls):
            calls.append([])
        else:
            assert (delta.id, delta.name) == (None, None)
        calls[delta.index].append(delta)
    return [(c[0].id, c[0].name, "".join(delta.arguments for delta in c)) for c in calls]


TWO = [("a", "f", '{"x":1}'), ("b", "g", "{}")]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param(
            [call("f", "{}", index=0, id=""), call("g", "{}", index=0, id="")],
            [(None, "f", "{}"), (None, "g", "{}")],
            id="one index, empty ids, names",
        ),
        pytest.param(
            [call("f", "{}", index=0, id="a"), call("g", "{}", index=0, id="a")],
            [("a", "f", "{}"), ("a", "g", "{}")],
            id="one index, one id, names",
        ),
        pytest.param(
            [
                call("f", '{"x":', index=0, id="a"),
                call(None, "1}", index=0),
                call("f", "{}", index=0, id="a"),
            ],
            [("a", "f", '{"x":1}'), ("a", "f", "{}")],
            id="a name after complete arguments",
        ),
        pytest.param(
            [
                call("f", "", index=0),
                call(None, '{"x":1}', index=0),
                call("f", "", index=0),
                call(None, '{"x":2}', index=0),
            ],
            [(None, "f", '{"x":1}'), (None, "f", '{"x":2}')],
            id="a name after complete arguments, its own later",
        ),
        pytest.param(
            [call("f", '{"x":1}', index=0, id="a"), call("f", "", index=0, id="a")],
            [("a", "f", '{"x":1}')],
            id="a name again in an empty last piece",
        ),
        pytest.param(
            [
                call("f", "", index=0, id="a"),
                call(None, '{"x":', index=0, id="b"),
                call(None, "1}", index=0, id="c"),
                call(None, "", index=0, id="d"),
            ],
            [("a", "f", '{"x":1}')],
            id="an id for each piece",
        ),
        pytest.param(
            [
                call("f", "", index=0, id="a"),
                call("f", '{"x":', index=0, id="b"),
                call("f", "1}", index=0, id="c"),
                call("f", "", index=0, id="d"),
            ],
            [("a", "f", '{"x":1}')],
            id="an id and the name for each piece",
        ),
        pytest.param(
            [
                call("f", "", id="a"),
                call("g", "", id="b"),
                call(None, '{"x"', id="a"),
                call(None, "{}", id="b"),
                call(None, ":1}", id="a"),
            ],
            TWO,
            id="no index, ids in turn",
        ),
        pytest.param(
            [
                call("f", "", index=0, id="a"),
                call("g", "", index=1, id="b"),
                call(None, '{"x":1}', id="a"),
                call(None, "{}", id="b"),
            ],
            TWO,
            id="no index after the first pieces",
        ),
        pytest.param(
            [
                call("f", "", index=0, id="a"),
                call("g", "", index=0, id="b"),
                call(None, '{"x":1}', index=0, id="a"),
                call(None, "{}", index=0, id="b"),
            ],
            TWO,
            id="one index, ids in turn",
        ),
        pytest.param(
            [
                call("f", "", index=0, id="x"),
                call("g", "", index=1, id="x"),
                call(None, '{"x":1}', index=0, id="x"),
                call(None, "{}", index=1, id="x"),
            ],
            [("x", "f", '{"x":1}'), ("x", "g", "{}")],
            id="two indexes, one id",
        ),
        pytest.param(
            [
                call("f", "", index=0, id="a"),
                call(None, '{"x":', index=1, id="a"),
                call(None, "1}", index=2, id="a"),
            ],
            [("a", "f", '{"x":1}')],
            id="an index for each piece",
        ),
        pytest.param(
            [call("f", '{"x":'), call("f", "1}")],
            [(None, "f", '{"x":1}')],
            id="the name amid the arguments",
        ),
        pytest.param(
            [call("f"), call("f")],
            [(None, "f", "{}"), (None, "f", "{}")],
            id="no index, no arguments",
        ),
    ],
)
def test_pieces(
    pieces: list[dict[str, Any]], expected: list[tuple[str | None, str | None, str]]
) -> None:
    assert joined(*pieces) == expected


def test_names_in_one_delta_are_different_calls() -> None:
    deltas, _ = answer([call("f", index=0), call("f", index=0)])
    assert whole(deltas) == [(None, "f", "{}"), (None, "f", "{}")]


FUNCTIONS = ("get", "get_weather", "weather", "nono", "list")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["get_", "weather"], ["get_weather"]),
        (["get", "_wea", "ther"], ["get_weather"]),
        (["get_", "get_weather"], ["get_weather"]),
        (["no", "no"], ["nono"]),
        (["get", "weather"], ["get", "weather"]),
        (["get", "get"], ["get"]),
        (["get"], ["get"]),
        (["get_", "list"], ["get_", "list"]),
        (["unheard", "_of"], ["unheard", "_of"]),
    ],
)
def test_names_in_pieces(names: list[str], expected: list[str]) -> None:
    pieces = [call(name, "", index=0) for name in names]
    calls = joined(*pieces, call(None, '{"x":1}', index=0), functions=FUNCTIONS)
    assert [name for _, name, _ in calls] == expected
    assert calls[-1][2] == '{"x":1}'


def test_a_name_in_pieces_after_which_nothing_comes() -> None:
    pieces = [call("get", index=0, id="a"), call("_weather", index=0)]
    assert joined(*pieces, functions=FUNCTIONS) == [("a", "get_weather", "{}")]


def test_a_whole_name_is_passed_on_at_once() -> None:
    reader = Reader(functions=FUNCTIONS)
    named = reader.read(choice(tool_calls=[call("get_weather", "", index=0, id="a")]))
    assert named == [CallDelta(0, "a", "get_weather", "")]


@pytest.mark.parametrize("arguments", [None, "", " "])
def test_no_arguments_are_an_object_in_a_delta_of_its_own(arguments: str | None) -> None:
    deltas, _ = answer([call("f", arguments, index=0, id="a")])
    assert deltas == [
        CallDelta(0, "a", "f", arguments or ""),
        CallDelta(0, None, None, "{}"),
    ]


def test_a_call_that_is_cut_off_gets_no_arguments() -> None:
    reader = Reader()
    reader.read(choice("length", tool_calls=[call("f", index=0)]))
    assert reader.finish().reason == "length"
    assert reader.rest() == []


def test_what_is_the_servers_own_is_replayed() -> None:
    signature = {"google": {"thought_signature": "s1"}}
    _, end = answer(
        [call("f", "{}", index=0, id="abc", type="function", extra_content=signature)],
        [call("g", "", index=1, custom=None), call(None, "{}", index=1, list=[1])],
        [{"index": 1, "list": [2], "function": {"own": "x"}}],
        [{"index": 1, "function": {"own": "y"}}],
    )
    assert end.replay == Replay(
        {},
        [
            {"id": "abc", "extra_content": signature},
            {"list": [1, 2], "function": {"own": "xy"}},
        ],
    )


def test_calls_of_which_there_is_nothing_to_replay() -> None:
    _, end = answer([call("f", "{}", index=0)])
    assert end.replay is None
