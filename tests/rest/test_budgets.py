"""Runs that may take so many tokens and no more, and what they have taken in the end."""

from typing import Any

import openai
import pytest

from tests.support.model_server import ModelServer, Tokenizer
from tests.support.rest.scene import Scene, function, outputs
from tests.support.script import Answer, Calls, Fail
from tests.support.stack import serving


def submit(scene: Scene, run: Any, *texts: str) -> Any:
    """Submits the outputs of the run's calls, and waits for what it comes to."""
    scene.client.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=run.thread_id, tool_outputs=outputs(run, *texts)
    )
    return scene.end_of(run)


def calls(prompt_tokens: int, completion_tokens: int, text: str = "") -> Calls:
    """A turn that calls a function and takes so many tokens."""
    step = Calls(("look", {}), text=text)
    step.prompt_tokens, step.completion_tokens = prompt_tokens, completion_tokens
    return step


def reason(run: Any) -> tuple[str, str | None]:
    """The run's status, and why it is incomplete if it is."""
    details = run.incomplete_details
    return run.status, details.reason if details else None


def thread_of(scene: Scene, *texts: str) -> None:
    """Adds messages, of the user and of the assistant in turns."""
    for number, text in enumerate(texts):
        role: Any = "assistant" if number % 2 else "user"
        scene.client.beta.threads.messages.create(scene.thread_id, role=role, content=text)


def asked(models: ModelServer, model: str) -> list[list[Any]]:
    """The contents of the messages in each request."""
    return [
        [message["content"] for message in request["messages"]]
        for request in models.requests(model)
    ]


def test_the_oldest_messages_are_left_out(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("Yes."))
    scene = Scene.create(client, model, "old " * 300, instructions="Be brief.")
    thread_of(scene, "less old", "older " * 10, "new")
    assert scene.run(max_prompt_tokens=256).status == "completed"
    assert asked(models, model) == [["Be brief.", "less old", "older " * 10, "new"]]


@pytest.mark.parametrize("tokenizer", ["llama.cpp", "vllm"])
def test_by_the_count_of_the_tokenizer(
    client: openai.OpenAI, models: ModelServer, tokenizer: Tokenizer
) -> None:
    model = models.script(Answer("Yes."), tokenizer=tokenizer)
    # By an estimate all of it would fit: 200 tokens of two bytes.
    scene = Scene.create(client, model, "a " * 200)
    thread_of(scene, "b " * 200, "c")
    assert scene.run(max_prompt_tokens=256).status == "completed"
    assert asked(models, model) == [["b " * 200, "c"]]
    assert models.tokenized(model)[0] == "Hello"
    assert len(models.tokenized(model)) > 1


def test_by_estimates_that_learn(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(Answer("Yes.", prompt_tokens=1000), Answer("Yes."))
    scene = Scene.create(client, model, "x" * 520)
    scene.run()
    # About 140 tokens, as was thought before the model reported a thousand.
    assert reason(scene.run(max_prompt_tokens=256)) == ("incomplete", "max_prompt_tokens")
    thread_of(scene, "short")
    assert reason(scene.run(max_prompt_tokens=256)) == ("completed", None)
    assert asked(models, model) == [["x" * 520], ["Yes.", "short"]]


def test_not_even_the_newest_fits(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script()
    scene = Scene.create(client, model)
    thread_of(scene, "word " * 1000, "Go on.")
    assert reason(scene.run(max_prompt_tokens=256)) == ("incomplete", "max_prompt_tokens")
    assert models.requests(model) == []


def test_instructions_and_tools_are_part_of_the_prompt(
    client: openai.OpenAI, models: ModelServer
) -> None:
    long = "word " * 400
    for has in (
        {"instructions": long},
        {"tools": [{"type": "function", "function": {"name": "f", "description": long[:1000]}}]},
    ):
        scene = Scene.create(client, models.script(), **has)
        assert reason(scene.run(max_prompt_tokens=256)) == ("incomplete", "max_prompt_tokens")


def test_the_prompts_of_all_turns_count(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(calls(200, 5), calls(600, 5))
    scene = Scene.create(client, model, "old " * 150, tools=[function("look")])
    thread_of(scene, "new")
    run = scene.run(max_prompt_tokens=400)
    assert run.status == "requires_action"
    run = submit(scene, run, "seen")
    assert run.status == "requires_action"
    run = submit(scene, run, "seen")
    assert reason(run) == ("incomplete", "max_prompt_tokens")
    first, second = asked(models, model)
    assert first == ["old " * 150, "new"]
    # What the run has called and got stays together, and stays.
    assert second == ["new", None, "seen"]


def test_the_answers_of_all_turns_count(client: openai.OpenAI, models: ModelServer) -> None:
    cut = Answer("Cut sh", finish_reason="length", completion_tokens=56)
    model = models.script(calls(20, 200, text="Wait."), cut)
    scene = Scene.create(client, model, tools=[function("look")])
    run = submit(scene, scene.run(max_completion_tokens=256), "seen")
    assert reason(run) == ("incomplete", "max_completion_tokens")
    limits = [request["max_completion_tokens"] for request in models.requests(model)]
    assert limits == [256, 56]
    assert scene.texts() == ["Hello", "Wait.", "Cut sh"]
    assert [message.status for message in scene.messages()] == [
        "completed",
        "completed",
        "incomplete",
    ]


def test_usage_is_the_sum_of_what_was_reported(client: openai.OpenAI, models: ModelServer) -> None:
    steps = [calls(100, 10, text="Wait."), calls(200, 20)]
    model = models.script(*steps, Answer("Done.", prompt_tokens=300, completion_tokens=30))
    scene = Scene.create(client, model, tools=[function("look")])
    run = scene.run()
    for _ in range(2):
        assert run.usage is None
        run = submit(scene, run, "seen")
    assert run.status == "completed"
    assert run.usage is not None
    assert (run.usage.prompt_tokens, run.usage.completion_tokens) == (600, 60)
    assert run.usage.total_tokens == 660
    # A turn that says something and calls reports once: on its last step.
    taken = [step.usage and step.usage.total_tokens for step in scene.steps(run)]
    assert [step.type for step in scene.steps(run)] == [
        "message_creation",
        "tool_calls",
        "tool_calls",
        "message_creation",
    ]
    assert sum(each or 0 for each in taken) == 660
    assert taken[1:] == [110, 220, 330]


def refusal(context: int) -> Fail:
    """What OpenAI's and many other servers say to a prompt that is longer than that."""
    message = f"This model's maximum context length is {context} tokens. Please reduce the length."
    return Fail(400, message, "context_length_exceeded")


def test_a_thread_that_is_longer_than_the_context(
    client: openai.OpenAI, models: ModelServer
) -> None:
    """Nobody knows the context: the refusal names it."""
    model = models.script(refusal(400), Answer("Yes."), Answer("No."))
    scene = Scene.create(client, model, "old " * 300)
    thread_of(scene, "less old", "older " * 100, "new")
    assert scene.run().status == "completed"
    all_of_it = ["old " * 300, "less old", "older " * 100, "new"]
    assert asked(models, model) == [all_of_it, all_of_it[1:]]
    # It is known from here on.
    assert scene.run(truncation_strategy={"type": "last_messages", "last_messages": 3}).status
    assert asked(models, model)[2] == ["older " * 100, "new", "Yes."]


def test_refused_until_it_fits(client: openai.OpenAI, models: ModelServer) -> None:
    """Estimates may be too low, here by half: each refusal corrects them."""
    model = models.script(*[refusal(400)] * 3, Answer("Yes."))
    scene = Scene.create(client, model, "0" * 240)
    thread_of(scene, *(str(n) * 240 for n in range(1, 9)))
    assert scene.run().status == "completed"
    lengths = [len(contents) for contents in asked(models, model)]
    assert lengths == sorted(set(lengths), reverse=True)
    assert len(lengths) == 4


def test_nothing_is_left_to_leave_out(client: openai.OpenAI, models: ModelServer) -> None:
    model = models.script(refusal(400))
    scene = Scene.create(client, model)
    thread_of(scene, "word " * 1000)
    # Shorter by the first message, and refused again.
    scene.client.beta.threads.messages.delete(scene.messages()[0].id, thread_id=scene.thread_id)
    run = scene.run()
    assert reason(run) == ("failed", None)
    assert run.last_error is not None
    assert run.last_error.code == "invalid_prompt"
    assert run.last_error.message.startswith("This model's maximum context length is 400 tokens.")


def test_a_context_that_is_set(model_server: ModelServer, models: ModelServer) -> None:
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_MODEL_CONTEXT_TOKENS": "400",
    }
    model = models.script(Answer("Yes."))
    with (
        serving(env) as stack,
        openai.OpenAI(base_url=stack.base_url, api_key="test", max_retries=0) as client,
    ):
        scene = Scene.create(client, model, "old " * 400)
        thread_of(scene, "less old", "new")
        assert scene.run().status == "completed"
    assert asked(models, model) == [["less old", "new"]]


def test_what_is_sent_while_the_context_is_not_known(
    model_server: ModelServer, models: ModelServer
) -> None:
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_MODEL_PROMPT_BYTES": "1024",
    }
    model = models.script(Answer("Yes."), Answer("Yes."), refusal(400), Answer("Yes."))
    with (
        serving(env) as stack,
        openai.OpenAI(base_url=stack.base_url, api_key="test", max_retries=0) as client,
    ):
        scene = Scene.create(client, model, "short")
        assert scene.run().status == "completed"
        scene.client.beta.threads.messages.create(
            scene.thread_id, role="user", content="too long " * 200
        )
        # The newest message of the user is sent, whatever it takes.
        assert scene.run().status == "completed"
        thread_of(scene, "old " * 120, "less old " * 20, "new " * 60)
        assert scene.run().status == "completed"
    first, second, third, fourth = asked(models, model)
    assert (first, second) == (["short"], ["too long " * 200])
    # What the refusal names is less still.
    assert third == ["old " * 120, "less old " * 20, "new " * 60]
    assert fourth == third[1:]
