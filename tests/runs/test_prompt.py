"""From rows to the request that a model gets."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.models.client import ChatModel
from service.runner.prompt import OutOfTokens
from storage.conversation import Context
from storage.tables import Run
from tests.support.model_server import ModelServer
from tests.support.runs.prompts import (
    Build,
    Messages,
    build_whole,
    called,
    context,
    message,
    output,
    run,
    spoke,
    turn,
)
from tests.support.storage.rows import call

FUNCTION = {"type": "function", "function": {"name": "f", "strict": False}}

CONTEXT = 1000
"""Tokens. By default a quarter of it is kept for the answer."""


@pytest.fixture
async def in_context(models: ModelServer) -> AsyncIterator[Messages]:
    """As `messages`, for a model whose context is known."""
    model = ChatModel(models.base_url, "none", idle_timeout=60, context=CONTEXT)

    async def messages(run: Run, context: Context) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await build_whole(run, context, model.tokens))["messages"]
        return found

    yield messages
    await model.close()


async def test_a_plain_conversation(build: Build) -> None:
    thread = context(
        message("user", "Hi"), message("assistant", "Hello"), message("user", "a", "b")
    )
    assert await build(run(), thread) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "a\nb"},
        ],
        "temperature": 0.5,
        "top_p": 1.0,
    }


async def test_what_has_no_value_is_left_out(build: Build) -> None:
    unchosen = ("temperature", "top_p", "tool_choice", "parallel_tool_calls")
    bare = run(instructions="", **dict.fromkeys(unchosen))
    assert await build(bare, context()) == {"model": "m", "messages": []}
    bare.tools = [{"type": "function", "function": {"name": "f"}}]
    expected = {"model": "m", "messages": [], "tools": bare.tools}
    assert await build(bare, context()) == expected


async def test_images_are_for_users_only(messages: Messages) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}
    refusal = {"type": "refusal", "refusal": "No."}
    thread = context(message("user", "Look", image), message("assistant", "Well", image, refusal))
    assert await messages(run(instructions=""), thread) == [
        {"role": "user", "content": [{"type": "text", "text": "Look"}, image]},
        {"role": "assistant", "content": "Well\nNo."},
    ]


async def test_empty_turns_are_left_out(messages: Messages) -> None:
    thread = context(
        message("user", "Hi"), message("assistant", ""), message("user", ""), message("user", "Hm?")
    )
    empty = message("assistant", "", id="msg_1")
    steps = (spoke("msg_1"), called(call("call_1", output="3")))
    asked = context(*thread.messages, steps=steps, written=(empty,))
    turns = await messages(run(instructions=""), asked)
    assert [each["content"] for each in turns] == ["Hi", "Hm?", None, "3"]


async def test_blank_turns_are_left_out(messages: Messages) -> None:
    thread = context(
        message("user", "Hi"),
        message("assistant", "\n"),
        message("user", " \n", "\t"),
        message("user", " Hm?\n", " "),
    )
    spoken = message("assistant", "\n\n", id="msg_1")
    steps = (spoke("msg_1"), called(call("call_1", output=" ")))
    asked = context(*thread.messages, steps=steps, written=(spoken,))
    turns = await messages(run(instructions=""), asked)
    assert [each["content"] for each in turns] == ["Hi", " Hm?\n", None, " "]


async def test_turns_of_empty_parts_are_left_out(messages: Messages) -> None:
    nothing = {"type": "refusal", "refusal": ""}
    thread = context(
        message("user", "Hi"), message("assistant", "", nothing, ""), message("user", "", "")
    )
    spoken = message("assistant", "", "", id="msg_1")
    steps = (spoke("msg_1"), called(call("call_1", output="3")))
    asked = context(*thread.messages, steps=steps, written=(spoken,))
    turns = await messages(run(instructions=""), asked)
    assert [each["content"] for each in turns] == ["Hi", None, "3"]


async def test_empty_parts_are_left_out_of_turns(messages: Messages) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}
    file = {"type": "image_file", "image_file": {"file_id": "file-x", "detail": "auto"}}
    thread = context(
        message("user", "", "Hi", "", "there", ""),
        message("user", "", image, "Look", ""),
        message("user", "", image),
        message("user", "", file),
        message("user", "Well?", file),
        message("assistant", "", image, "Yes."),
    )
    assert [each["content"] for each in await messages(run(instructions=""), thread)] == [
        "Hi\nthere",
        [image, {"type": "text", "text": "Look"}],
        [image],
        [file],
        [{"type": "text", "text": "Well?"}, file],
        "Yes.",
    ]


async def test_a_message_without_content_is_left_out(messages: Messages) -> None:
    thread = context(message("user", "Hi"), message("assistant"), message("user", "Hm?"))
    assert [each["content"] for each in await messages(run(instructions=""), thread)] == [
        "Hi",
        "Hm?",
    ]


async def test_tools_and_their_choice(build: Build) -> None:
    request = await build(run(tools=[FUNCTION], tool_choice="required"), context())
    assert (request["tools"], request["tool_choice"]) == ([FUNCTION], "required")
    assert request["parallel_tool_calls"] is True
    # Forced again after its outputs, it would never end.
    after = context(steps=(called(call("call_1", "1")),))
    request = await build(run(tools=[FUNCTION], tool_choice="required"), after)
    assert "tool_choice" not in request


async def test_own_calls_and_outputs_follow_the_thread(messages: Messages) -> None:
    steps = (called(call("call_1", "1"), call("call_2", "2")), called(call("call_3", "3")))
    assert await messages(run(instructions=""), context(message("user", "Go"), steps=steps)) == [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": None, "tool_calls": [turn("call_1"), turn("call_2")]},
        output("call_1", "1"),
        output("call_2", "2"),
        {"role": "assistant", "content": None, "tool_calls": [turn("call_3")]},
        output("call_3", "3"),
    ]


async def test_a_message_and_calls_of_one_turn_are_one_message(messages: Messages) -> None:
    spoken = message("assistant", "One moment.", id="msg_1")
    steps = (spoke("msg_1"), called(call("call_1", "1")))
    assert await messages(run(instructions=""), context(steps=steps, written=(spoken,))) == [
        {"role": "assistant", "content": "One moment.", "tool_calls": [turn("call_1")]},
        output("call_1", "1"),
    ]


async def test_calls_whose_message_was_deleted(messages: Messages) -> None:
    steps = (spoke("msg_gone"), called(call("call_1", "1")))
    assert await messages(run(instructions=""), context(steps=steps)) == [
        {"role": "assistant", "content": None, "tool_calls": [turn("call_1")]},
        output("call_1", "1"),
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "json_object"}),
        ({"type": "json_schema", "json_schema": {"name": "n"}},
         {"type": "json_schema", "json_schema": {"name": "n"}}),
    ],
)  # fmt: skip
async def test_response_formats(build: Build, given: Any, expected: Any) -> None:
    assert (await build(run(response_format=given), context())).get("response_format") == expected


async def test_only_forced_calls_are_taken_back(build: Build) -> None:
    after = context(steps=(called(call("call_1", "1")),))
    named = {"type": "function", "function": {"name": "f"}}
    for choice, expected in [("none", "none"), ("auto", "auto"), (named, None)]:
        request = await build(run(tools=[FUNCTION], tool_choice=choice), after)
        assert request.get("tool_choice") == expected


# About 250 tokens each, by the estimate.
LONG = "x" * 1000


@pytest.mark.parametrize(("budget", "kept"), [(256, 0), (400, 1), (600, 2), (900, 3), (100_000, 3)])
async def test_the_oldest_messages_are_dropped_first(
    messages: Messages, budget: int, kept: int
) -> None:
    older = [message("user" if n % 2 else "assistant", f"{n}{LONG}") for n in range(3)]
    thread = context(*older, message("user", "Hi"))
    asked = await messages(run(max_prompt_tokens=budget), thread)
    assert asked[0]["role"] == "system"
    assert asked[-1]["content"] == "Hi"
    assert [each["content"][0] for each in asked[1:-1]] == ["0", "1", "2"][3 - kept :]


async def test_the_newest_user_message_is_never_dropped(messages: Messages) -> None:
    with pytest.raises(OutOfTokens, match="max_prompt_tokens"):
        await messages(run(max_prompt_tokens=256), context(message("user", LONG * 2)))
    after = context(message("user", "Hi"), message("assistant", LONG * 2))
    with pytest.raises(OutOfTokens, match="max_prompt_tokens"):
        await messages(run(max_prompt_tokens=256), after)


async def test_tokens_of_earlier_turns_count(build: Build, messages: Messages) -> None:
    usage = {"prompt_tokens": 900, "completion_tokens": 200, "total_tokens": 1100}
    steps = (called(call("call_1", "1"), usage=usage),)
    thread = context(message("user", LONG), message("user", "Hi"), steps=steps)
    asked = await messages(run(max_prompt_tokens=1100), thread)
    assert [each["role"] for each in asked] == ["system", "user", "assistant", "tool"]
    with pytest.raises(OutOfTokens, match="max_prompt_tokens"):
        await messages(run(max_prompt_tokens=900), thread)
    assert "max_completion_tokens" not in await build(run(), thread)
    assert (await build(run(max_completion_tokens=256), thread))["max_completion_tokens"] == 56
    for limit in (200, 100):
        with pytest.raises(OutOfTokens, match="max_completion_tokens"):
            await build(run(max_completion_tokens=limit), thread)


async def test_calls_and_outputs_stay_together(messages: Messages) -> None:
    steps = (called(call("call_1", LONG)), called(call("call_2", "2")))
    thread = context(message("user", LONG), message("user", "Hi"), steps=steps)
    asked = await messages(run(max_prompt_tokens=400), thread)
    assert [each["role"] for each in asked] == ["system", "user", *["assistant", "tool"] * 2]
    assert asked[1]["content"] == "Hi"
    # They are never left out: the model would call again.
    with pytest.raises(OutOfTokens, match="max_prompt_tokens"):
        await messages(run(max_prompt_tokens=256), thread)


async def test_a_thread_without_a_user(messages: Messages) -> None:
    thread = context(*(message("assistant", f"{n}{LONG}") for n in range(3)))
    asked = await messages(run(max_prompt_tokens=600), thread)
    assert [each["content"][0] for each in asked] == ["B", "1", "2"]
    thread = context(message("assistant", LONG * 2))
    asked = await messages(run(max_prompt_tokens=256), thread)
    assert [each["role"] for each in asked] == ["system"]


@pytest.mark.parametrize("budget", [256, 300, 2000, 5000, 6000])
async def test_as_many_as_fit_with_few_counts(
    models: ModelServer, messages: Messages, budget: int
) -> None:
    model = models.script(tokenizer="llama.cpp")
    older = [message("user", f"{n} is a number") for n in range(700)]
    limited = run(model=model, instructions="", max_prompt_tokens=budget)
    asked = await messages(limited, context(*older))
    # Four words, and four tokens for the message.
    assert len(asked) == min(budget // 8, 700)
    assert asked[-1]["content"] == "699 is a number"
    assert len(models.tokenized(model)) < 15


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({}, 2),
        ({"max_completion_tokens": 300}, 2),
        # Half of the context is kept for an answer at most, whatever it may take in all.
        ({"max_completion_tokens": 500}, 1),
        ({"max_completion_tokens": 100_000}, 1),
        # Of two budgets the smaller one counts.
        ({"max_prompt_tokens": 100_000}, 2),
        ({"max_prompt_tokens": 400}, 1),
        ({"max_prompt_tokens": 256}, 0),
    ],
)
async def test_a_thread_is_kept_within_the_context(
    in_context: Messages, limits: dict[str, int], kept: int
) -> None:
    older = [message("user" if n % 2 else "assistant", f"{n}{LONG}") for n in range(10)]
    thread = context(*older, message("user", "Hi"))
    asked = await in_context(run(**limits), thread)
    assert (asked[0]["role"], asked[-1]["content"]) == ("system", "Hi")
    assert [each["content"][0] for each in asked[1:-1]] == [str(n) for n in range(10 - kept, 10)]


async def test_each_turn_has_the_context_to_itself(in_context: Messages) -> None:
    usage = {"prompt_tokens": 900, "completion_tokens": 90, "total_tokens": 990}
    steps = (called(call("call_1", "1"), usage=usage),)
    asked = await in_context(run(), context(message("user", LONG), steps=steps))
    assert [each["role"] for each in asked] == ["system", "user", "assistant", "tool"]


async def test_what_may_not_be_left_out_is_sent_though_too_long(in_context: Messages) -> None:
    thread = context(message("user", LONG), message("user", "y" * 8000))
    for limits in ({}, {"max_prompt_tokens": 100_000}):
        asked = await in_context(run(**limits), thread)
        assert [each["content"][0] for each in asked] == ["B", "y"]
    # A budget of the caller's is kept to.
    with pytest.raises(OutOfTokens, match="max_prompt_tokens"):
        await in_context(run(max_prompt_tokens=1500), thread)
