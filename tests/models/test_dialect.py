"""What a server refuses is asked otherwise, at once, and remembered once it has answered."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.models.client import ChatModel
from service.models.dialect import MAX_MODELS, Dialects, Quirk, adapted
from tests.models.conftest import KEY
from tests.models.test_client import answer, error_of, failure, request, text_of
from tests.support.dialects import DIALECTS, Dialect, unsupported
from tests.support.model_server import ModelServer
from tests.support.models.raw_server import RawServer, choice, events
from tests.support.script import Answer, Fail

DOCUMENT = Path(__file__).parents[2] / "docs/models.md"

SYSTEM = {"role": "system", "content": "Be brief."}
NEIGHBOURS = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
CALL: dict[str, Any] = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLS: list[dict[str, Any]] = [
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a", "name": "f", "content": "o"},
]
FUNCTION = {"type": "function", "function": {"name": "f", "strict": False}}


def everything(model: str) -> dict[str, Any]:
    """Returns a request with all that any of the dialects refuses."""
    return {
        "model": model,
        "messages": [SYSTEM, {"role": "assistant", "content": "Hi."}, *NEIGHBOURS, *CALLS],
        "temperature": 1,
        "top_p": 1.0,
        "max_completion_tokens": 300,
        "reasoning_effort": "medium",
        "tools": [FUNCTION],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }


def sent(body: dict[str, Any]) -> dict[str, Any]:
    """Returns a request as it is sent in OpenAI's form."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
async def test_every_dialect(models: ModelServer, model: ChatModel, dialect: Dialect) -> None:
    name = models.script(Answer("One."), Answer("Two."), refuses=dialect.refuses)
    asked = everything(name)
    assert text_of(await answer(model, asked)) == "One."
    requests = models.requests(name)
    assert len(requests) == dialect.refusals + 1
    assert requests[0] == sent(asked)
    assert requests[-1] == adapted(sent(asked), {Quirk(each) for each in dialect.quirks})
    # It is remembered.
    assert text_of(await answer(model, asked)) == "Two."
    assert models.requests(name)[len(requests) :] == requests[-1:]


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
async def test_quirks_from_the_start(models: ModelServer, dialect: Dialect) -> None:
    model = ChatModel(models.base_url, KEY, 60, quirks={Quirk(each) for each in dialect.quirks})
    name = models.script(Answer("One."), refuses=dialect.refuses)
    assert text_of(await answer(model, everything(name))) == "One."
    assert len(models.requests(name)) == 1
    await model.close()


async def test_another_model_is_another_matter(models: ModelServer, model: ChatModel) -> None:
    picky = models.script(Answer("x"), refuses=DIALECTS["vLLM: no stream options"].refuses)
    plain = models.script(Answer("y"))
    for name in (picky, plain):
        await answer(model, request(name))
    assert models.requests(plain) == [sent(request(plain))]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("temperature", 0.5),
        ("top_p", 0.1),
        ("parallel_tool_calls", False),
        ("tool_choice", "required"),
        ("reasoning_effort", "high"),
        ("response_format", {"type": "json_object"}),
        ("tools", [FUNCTION]),
    ],
)
async def test_what_was_chosen_is_not_left_out(
    models: ModelServer, model: ChatModel, parameter: str, value: Any
) -> None:
    refusal = unsupported(parameter)
    assert refusal.body is not None
    refuses = lambda request: refusal if parameter in request else None  # noqa: E731
    name = models.script(refuses=refuses)
    asked = request(name, messages=[SYSTEM, *NEIGHBOURS], **{parameter: value})
    refused_with = refusal.body["error"]["message"]
    assert await failure(model, asked) == ("invalid_prompt", refused_with)
    assert models.requests(name) == [sent(asked)]


async def test_a_function_that_is_strict_stays_so(models: ModelServer, model: ChatModel) -> None:
    strict = {"type": "function", "function": {"name": "g", "strict": True}}
    name = models.script(Fail(400, "Unknown name 'strict'"))
    asked = request(name, tools=[FUNCTION, strict])
    assert await failure(model, asked) == ("invalid_prompt", "Unknown name 'strict'")
    assert len(models.requests(name)) == 1


async def test_a_schema_that_is_not_strict(models: ModelServer, model: ChatModel) -> None:
    schema = {"name": "s", "schema": {"properties": {"strict": {}}}}
    given = {"type": "json_schema", "json_schema": {**schema, "strict": False}}
    name = models.script(Fail(400, "Unknown name 'strict'"), Answer("x"))
    await answer(model, request(name, response_format=given))
    assert models.requests(name)[1]["response_format"] == {**given, "json_schema": schema}


async def test_what_is_learned_of_a_default_says_nothing_of_other_values(
    models: ModelServer, model: ChatModel
) -> None:
    name = models.script(
        Answer("x"), Answer("y"), refuses=DIALECTS["OpenAI: a reasoning model"].refuses
    )
    await answer(model, request(name, temperature=1))
    assert (await error_of(model, request(name, temperature=0.5))).code == "invalid_prompt"
    assert models.requests(name)[-1]["temperature"] == 0.5


@pytest.mark.parametrize(
    "refusal",
    [
        Fail(400, "This model's maximum context length is 4096 tokens."),
        Fail(400, "Your messages are too long."),
        Fail(413, "Request entity too large"),
        Fail(400, "Invalid parameter: n"),
        Fail(400, "Flagged by our content policy."),
        Fail(400, "The model x does not exist"),
        Fail(401, "Who are you?"),
        Fail(404, "Where?"),
        Fail(429, "Slow down."),
        Fail(503, "Roles must alternate."),
    ],
    ids=lambda fail: fail.message,
)
async def test_what_is_not_about_the_form(
    models: ModelServer, model: ChatModel, refusal: Fail
) -> None:
    name = models.script(refusal)
    await error_of(model, request(name, messages=[SYSTEM, *NEIGHBOURS]))
    assert len(models.requests(name)) == 1


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_a_prompt_that_cannot_be_put_otherwise(
    models: ModelServer, model: ChatModel, status: int
) -> None:
    name = models.script(Fail(status, "Roles must alternate."))
    assert (await error_of(model, request(name))).message == "Roles must alternate."
    assert len(models.requests(name)) == 1


async def test_what_does_not_help_is_not_remembered(models: ModelServer, model: ChatModel) -> None:
    name = models.script(Fail(400, "No."), Fail(400, "Still no."), Answer("x"))
    asked = request(name, messages=[SYSTEM, *NEIGHBOURS])
    # What a server says of a guess is beside the point.
    assert await failure(model, asked) == ("invalid_prompt", "No.")
    await answer(model, asked)
    assert models.requests(name)[2] == sent(asked)


async def test_fields_that_only_some_servers_understand(
    models: ModelServer, model: ChatModel
) -> None:
    name = models.script(Fail(400, "Unknown field 'extra_content'"), Answer("x"))
    own: dict[str, Any] = {"extra_content": {"google": {}}}
    call = {**CALL, **own, "function": {**CALL["function"], **own}}
    asked = request(name, messages=[{**CALLS[0], "tool_calls": [call], "reasoning": "r"}, CALLS[1]])
    await answer(model, asked)
    output = {key: value for key, value in CALLS[1].items() if key != "name"}
    assert models.requests(name)[1]["messages"] == [CALLS[0], output]


def test_plain_turns_are_merged() -> None:
    named = [{"role": "user", "content": text, "name": "u"} for text in "ab"]
    quirks = {Quirk.plain_turns, Quirk.alternating_roles}
    merged = {"role": "user", "content": "a\n\nb"}
    assert adapted(request(messages=named), quirks)["messages"] == [merged]


async def test_a_name_of_a_parameter_is_none_of_a_turn(
    models: ModelServer, model: ChatModel
) -> None:
    name = models.script(Fail(400, 'Unknown name "stream_options"'), Answer("x"))
    asked = request(name, messages=CALLS)
    await answer(model, asked)
    assert models.requests(name)[1] == {**asked, "stream": True}


async def test_a_limit_that_is_refused_under_both_names(
    models: ModelServer, model: ChatModel
) -> None:
    refused_with = "max_completion_tokens: bad value"
    other = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."
    name = models.script(Fail(400, refused_with), Fail(400, other), Answer("x"))
    asked = request(name, max_completion_tokens=300)
    assert await failure(model, asked) == ("invalid_prompt", refused_with)
    await answer(model, asked)
    assert "max_tokens" not in models.requests(name)[2]


async def test_a_limit_that_is_too_high(models: ModelServer, model: ChatModel) -> None:
    refused_with = "max_completion_tokens is too large: 9000."
    name = models.script(Fail(400, refused_with))
    asked = request(name, max_completion_tokens=9000)
    assert await failure(model, asked) == ("invalid_prompt", refused_with)


async def test_a_refusal_of_what_was_changed_in_time(models: ModelServer, model: ChatModel) -> None:
    name = models.script(Fail(400, "stream_options?"), Fail(400, "Not that prompt."))
    assert await failure(model, request(name)) == ("invalid_prompt", "Not that prompt.")


async def test_a_server_that_is_busy_when_asked_otherwise(
    models: ModelServer, model: ChatModel
) -> None:
    name = models.script(Fail(400, "stream_options?"), Fail(429, "Slow down."), Answer("x"))
    assert (await error_of(model, request(name))).retryable
    await answer(model, request(name))
    assert models.requests(name)[2] == sent(request(name))


async def test_a_fault_that_has_passed_is_no_lesson(models: ModelServer, model: ChatModel) -> None:
    name = models.script(Fail(500, "Internal system error"), Answer("x"), Answer("y"))
    asked = request(name, messages=[SYSTEM, *NEIGHBOURS])
    for text in ("x", "y"):
        assert text_of(await answer(model, asked)) == text
    assert models.requests(name)[2] == sent(asked)


async def test_a_refusal_on_a_stream(raw: RawServer, odd_model: ChatModel) -> None:
    refusal = {"error": {"message": "Roles must alternate", "code": 400}}
    raw.answer(events(refusal))
    raw.answer(events(choice("stop", content="x")))
    assert text_of(await answer(odd_model, request(messages=NEIGHBOURS))) == "x"
    body = json.loads(raw.requests[1].partition("\r\n\r\n")[2])
    assert body["messages"] == [{"role": "user", "content": "a\n\nb"}]


async def test_nothing_is_asked_again_after_the_first_piece(
    raw: RawServer, odd_model: ChatModel
) -> None:
    refusal = {"error": {"message": "Roles must alternate", "code": 400}}
    raw.answer(events(choice(content="x"), refusal))
    assert (await error_of(odd_model, request(messages=NEIGHBOURS))).refusal is not None
    assert len(raw.requests) == 1


async def test_thoughts_that_are_text(models: ModelServer) -> None:
    model = ChatModel(models.base_url, KEY, 60, quirks={Quirk.no_think})
    name = models.script(Answer("<think>a</think>b"))
    assert text_of(await answer(model, request(name))) == "<think>a</think>b"
    await model.close()


def test_few_models_are_remembered() -> None:
    dialects = Dialects({Quirk.max_tokens})
    for at in range(MAX_MODELS + 1):
        dialects.of("m0")
        dialects.learn(f"m{at}", {Quirk.no_top_p})
    assert dialects.of("m0") == {Quirk.max_tokens, Quirk.no_top_p}
    assert dialects.of("m1") == {Quirk.max_tokens}


def test_every_quirk_is_documented() -> None:
    text = DOCUMENT.read_text()
    assert [quirk for quirk in Quirk if f"| `{quirk}` |" not in text] == []


def test_each_model_has_a_dialect_of_its_own() -> None:
    # The table itself: what is refused has a form in which it is not.
    body = sent(everything("m"))
    for each in DIALECTS.values():
        assert each.refuses(body) is not None
        assert each.refuses(adapted(body, {Quirk(quirk) for quirk in each.quirks})) is None
