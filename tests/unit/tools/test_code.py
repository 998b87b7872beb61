"""Code is understood in whatever form a model gives it."""

import json

import pytest

from service.runner.tools import code
from service.runner.tools.tool import ToolFailed

CODE = 'print("a\\n")\nx = {"b": 1}'
FENCED = f"```python\n{CODE}\n```"


@pytest.mark.parametrize(
    "arguments",
    [
        CODE,
        FENCED,
        f"```\n{CODE}\n```\n",
        f"\n~~~py\n{CODE}\n~~~",
        f"```python\n{CODE}",
        f"```python\r\n{CODE}\r\n```\r\n",
        f"````python \n{CODE}\n````",
        json.dumps({"code": CODE}),
        json.dumps({"input": CODE}),
        json.dumps({"python": CODE, "more": 1}),
        json.dumps({"code": FENCED}),
        json.dumps({"code": CODE.split("\n")}),
        json.dumps(CODE),
        json.dumps(FENCED),
        f"```json\n{json.dumps({'code': CODE})}\n```",
        repr({"code": CODE}),
        # Line ends that are not escaped, quotes that are not, an object that is not closed.
        '{"code": "print("a\\\\n")\\nx = {"b": 1}"}',
        json.dumps({"code": CODE})[:-1],
        json.dumps({"code": CODE})[:-2],
    ],
)
def test_code(arguments: str) -> None:
    assert code.parse(arguments) == CODE


@pytest.mark.parametrize(
    "arguments", ['{"a": 1}["a"]', '"""A text."""\nx = 1', "'a'.upper()", "{1, 2}", "1 + 1", "None"]
)
def test_what_looks_like_json_and_is_python(arguments: str) -> None:
    assert code.parse(arguments) == arguments


def test_line_ends_that_json_forbids() -> None:
    assert code.parse('{"code": "x = 1\ny = 2"}') == "x = 1\ny = 2"


@pytest.mark.parametrize(
    "arguments",
    ["", " \n", "{}", '{"code": ""}', '{"query": "a"}', '{"code": 1}', "```\n```", '""'],
)
def test_no_code(arguments: str) -> None:
    with pytest.raises(ToolFailed, match="No code was given"):
        code.parse(arguments)


def test_half_a_character_is_replaced() -> None:
    assert code.parse(r'{"code": "x = \"\ud800\""}') == 'x = "?"'


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a":' * 100_000,
        '"' + " " * 1_000_000,
        "```" * 300_000,
        # An end that is none, at every place where it could be looked for.
        "```\n" + "```" + " " * 1_000_000 + "x",
        "`" * 500_000 + "\n" + "`" * 499_999 + "x",
        "```" + " " * 1_000_000 + "x y\nz",
        "{" + "1 + " * 1_000_000,
    ],
    ids=range(7),
)
def test_strange_arguments_take_no_long_time(arguments: str) -> None:
    assert code.parse(arguments)
