"""Model servers that refuse what OpenAI's takes, each in the words of a real one.

Each refuses by looking at the request, and takes it once it is in the server's form.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.script import Fail, Refuses

Request = Mapping[str, Any]


@dataclass(frozen=True)
class Dialect:
    """A server's form of requests.

    A request with all that the server refuses is refused `refusals` times. Then `quirks` are known.
    """

    refuses: Refuses
    quirks: frozenset[str]
    refusals: int = 1


def dialect(
    wrong: Callable[[Request], bool], refusal: Fail, *quirks: str, refusals: int = 1
) -> Dialect:
    """Returns the dialect of a server that gives the refusal to what is wrong."""
    return Dialect(lambda request: refusal if wrong(request) else None, frozenset(quirks), refusals)


def both(*dialects: Dialect) -> Dialect:
    """Returns a server that refuses what any of these does, one thing at a time."""
    return Dialect(
        lambda request: next(filter(None, (each.refuses(request) for each in dialects)), None),
        frozenset[str]().union(*(each.quirks for each in dialects)),
        sum(each.refusals for each in dialects),
    )


def has(parameter: str) -> Callable[[Request], bool]:
    """Returns a test for a parameter."""
    return lambda request: parameter in request


def unsupported(parameter: str) -> Fail:
    """Returns OpenAI's refusal of a parameter."""
    message = f"Unsupported parameter: '{parameter}' is not supported with this model."
    inner = {"message": message, "type": "invalid_request_error", "param": parameter}
    return Fail(400, body={"error": inner | {"code": "unsupported_parameter"}})


def roles(request: Request) -> list[str]:
    """Returns the roles that a chat template looks at: not those of calls and their outputs."""
    return [
        turn["role"]
        for turn in request["messages"]
        if turn["role"] != "tool" and not turn.get("tool_calls")
    ]


def has_system(request: Request) -> bool:
    return "system" in roles(request)


def does_not_alternate(request: Request) -> bool:
    """Whether users and assistants do not take turns, a user first and last."""
    spoken = [role for role in roles(request) if role != "system"]
    turns = [("user", "assistant")[at % 2] for at in range(len(spoken))]
    return spoken != turns or request["messages"][-1]["role"] == "assistant"


def has_neighbours(request: Request) -> bool:
    spoken = roles(request)
    return any(spoken[at] == role for at, role in enumerate(spoken[1:]))


def begins_with_the_assistant(request: Request) -> bool:
    return next((role for role in roles(request) if role != "system"), "") != "user"


def has_null(request: Request) -> bool:
    return any(turn["content"] is None for turn in request["messages"])


def has_strict(request: Request) -> bool:
    return any("strict" in tool["function"] for tool in request.get("tools", ()))


def has_names(request: Request) -> bool:
    return any("name" in turn for turn in request["messages"])


def extra(parameter: str) -> dict[str, Any]:
    """Returns what pydantic says of a field that it does not know."""
    return {"type": "extra_forbidden", "loc": ["body", parameter], "msg": "Extra inputs forbidden"}


ALTERNATE = "Conversation roles must alternate user/assistant/user/assistant/..."
TEMPLATE = (
    f"{ALTERNATE} at row 9, column 5:\n{{%- if messages|length > 1 and (message['role'] == 'user')"
    " != (loop.index0 % 2 == 0) %}\n ^\n{{- raise_exception('...') }}"
)

SYSTEM = dialect(has_system, Fail(500, "System role not supported"), "no_system")

DIALECTS: dict[str, Dialect] = {
    "Mistral: no stream options": dialect(
        has("stream_options"),
        Fail(422, body={"object": "error", "message": {"detail": [extra("stream_options")]}}),
        "no_stream_options",
    ),
    "vLLM: no stream options": dialect(
        has("stream_options"),
        Fail(400, f"[{extra('stream_options')}]"),
        "no_stream_options",
    ),
    "vLLM: no usage in stream options": dialect(
        lambda request: bool(request.get("stream_options")),
        Fail(422, body={"detail": [extra("include_usage")]}),
        "no_stream_options",
    ),
    "NIM: the older limit": dialect(
        has("max_completion_tokens"),
        Fail(422, body={"detail": "body -> max_completion_tokens\n  Extra inputs are forbidden"}),
        "max_tokens",
    ),
    "OpenAI: a reasoning model": both(
        dialect(has("temperature"), unsupported("temperature"), "no_temperature"),
        dialect(has("top_p"), unsupported("top_p"), "no_top_p"),
        dialect(
            has("parallel_tool_calls"), unsupported("parallel_tool_calls"), "no_parallel_tool_calls"
        ),
    ),
    "no choice of tools": dialect(
        has("tool_choice"),
        Fail(400, "Unrecognized request argument supplied: tool_choice"),
        "no_tool_choice",
    ),
    "nothing strict": dialect(has_strict, Fail(400, 'unknown field "strict"'), "no_strict"),
    "llama.cpp: Gemma has no system": SYSTEM,
    "llama.cpp: Ministral has no system": dialect(
        has_system,
        Fail(400, "Only user, assistant and tool roles are supported, got system."),
        "no_system",
    ),
    "vLLM: Mistral alternates": dialect(
        does_not_alternate, Fail(400, f"After the optional system message, {ALTERNATE}"),
        "alternating_roles",
    ),
    "llama.cpp: Mistral alternates": dialect(
        does_not_alternate, Fail(500, body={"error": {"code": 500, "message": TEMPLATE}}),
        "alternating_roles",
    ),
    "Gemini: alternating": dialect(
        does_not_alternate,
        Fail(400, body=[{"error": {"code": 400, "message": "Ensure that requests alternate"}}]),
        "alternating_roles",
    ),
    "DeepSeek: no neighbours": dialect(
        has_neighbours,
        Fail(400, "The model does not support successive user or assistant messages."),
        "alternating_roles",
    ),
    "Anthropic: the user first": dialect(
        begins_with_the_assistant,
        Fail(400, 'messages: first message must use the "user" role'),
        "alternating_roles",
    ),
    "LM Studio: alternating without a system": both(
        SYSTEM,
        dialect(
            does_not_alternate,
            Fail(500, body={"error": f"Error rendering prompt with jinja template: {ALTERNATE}"}),
            "alternating_roles",
        ),
    ),
    "vLLM: a system does not alternate": dialect(
        lambda request: has_system(request) or does_not_alternate(request),
        Fail(400, ALTERNATE),
        "alternating_roles",
        "no_system",
        refusals=2,
    ),
    "without a reason": dialect(
        lambda request: has_system(request) or does_not_alternate(request),
        Fail(400, body={"error": "Error rendering prompt"}),
        "alternating_roles",
        "no_system",
        "empty_content",
    ),
    "Mistral: no null": dialect(
        has_null,
        Fail(422, body={"detail": [{"loc": ["body", "messages", 3, "content"], "msg": "no text"}]}),
        "empty_content",
    ),
    "a template that adds null to a text": dialect(
        has_null, Fail(500, 'can only concatenate str (not "NoneType") to str'), "empty_content"
    ),
    "Groq: no names of tools": dialect(
        has_names,
        Fail(400, "'messages.4' : for 'role:tool' : property 'name' is unsupported"),
        "plain_turns",
    ),
    "everything": both(
        dialect(has("stream_options"), Fail(400, "stream_options"), "no_stream_options"),
        dialect(has("max_completion_tokens"), unsupported("max_completion_tokens"), "max_tokens"),
        SYSTEM,
        dialect(does_not_alternate, Fail(400, ALTERNATE), "alternating_roles"),
        dialect(has_null, Fail(400, "content must not be null"), "empty_content"),
        dialect(
            has_names,
            Fail(422, body={"detail": [extra("name")]}),
            "plain_turns",
        ),
    ),
}  # fmt: skip
"""Servers by what they refuse. Those with a name do so by public reports, in words like these."""
