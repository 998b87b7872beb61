"""Which refusals say that a model calls no functions at all."""

from typing import Any

import pytest

from service.models.dialect import refuses_tools
from service.models.failures import refusal_of

TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "f"}}]}


def refuses(body: Any, request: Any = TOOLS) -> bool:
    refusal = refusal_of(400, body)
    assert refusal is not None
    return refuses_tools(refusal, request)


@pytest.mark.parametrize(
    "body",
    [
        {"message": "registry.ollama.ai/library/gemma:2b does not support tools"},
        {
            "message": '"auto" tool choice requires --enable-auto-tool-choice and '
            "--tool-call-parser to be set"
        },
        {"message": "tools param requires --jinja flag"},
        {"message": "`tools` is not supported with this model"},
        {"message": "Tool calling is not supported for this model."},
        {"message": "This model does not support function calling"},
        {"message": "Unrecognized request argument supplied: tools"},
        {"message": "Functions are not available for 'x'"},
        [{"loc": ["body", "tools"], "msg": "Extra inputs are not permitted"}],
    ],
)
def test_a_model_without_functions(body: Any) -> None:
    assert refuses(body)
    assert not refuses(body, {"messages": []})


@pytest.mark.parametrize(
    "message",
    [
        "Invalid schema for function 'f': In context=(), 'default' is not permitted.",
        "tools[0].function.strict is not supported",
        "tool_choice 'required' is not supported",
        "Unexpected role 'tool'",
        "tools.0.function: unknown field `strict`",
        "This model's maximum context length is 8192 tokens.",
        "Unknown parameter: 'reasoning_effort'.",
    ],
)
def test_other_refusals(message: str) -> None:
    assert not refuses({"message": message})
