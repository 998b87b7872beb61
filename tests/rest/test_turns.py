"""What stands where when a model both calls functions and speaks in one turn."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, outputs
from tests.support.script import Act, Answer, Calls


class CallsFirst(Calls):
    """Speaks after its calls, as some servers pass it on."""

    def acts(self) -> Iterator[Act]:
        yield from sorted(super().acts(), key=_rank)


def _rank(act: Act) -> int:
    assert isinstance(act, dict)
    return ["tool_calls", "content", "finish_reason"].index(next(iter(act)))


@pytest.mark.parametrize("step", [Calls, CallsFirst])
def test_the_message_comes_first(
    client: openai.OpenAI, models: ModelServer, step: type[Calls]
) -> None:
    model = models.script(step(("look", {}), text="One moment."), Answer("Done."))
    scene = Scene.create(client, model, tools=[function("look")])
    run = scene.run()
    assert run.status == "requires_action"
    first, second = scene.steps(run)
    assert (first.type, first.status) == ("message_creation", "completed")
    assert (second.type, second.status) == ("tool_calls", "in_progress")
    # Pages go by the order, too.
    page = client.beta.threads.runs.steps.list(
        run.id, thread_id=run.thread_id, order="asc", after=first.id
    )
    assert [each.id for each in page.data] == [second.id]
    assert scene.texts() == ["Hello", "One moment."]
    client.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=run.thread_id, tool_outputs=outputs(run, "seen")
    )
    assert scene.end_of(run).status == "completed"
    # What the turn took stands on its last step.
    assert [each.usage and each.usage.total_tokens for each in scene.steps(run)] == [0, 25, 25]
    assert scene.texts() == ["Hello", "One moment.", "Done."]
    _, asked = models.requests(model)
    user, assistant, tool = asked["messages"]
    assert user["content"] == "Hello"
    assert (assistant["role"], assistant["content"]) == ("assistant", "One moment.")
    assert [call["function"]["name"] for call in assistant["tool_calls"]] == ["look"]
    assert (tool["role"], tool["content"]) == ("tool", "seen")


def test_each_stream_publishes_in_the_model_s_order(
    client: openai.OpenAI, models: ModelServer
) -> None:
    model = models.script(CallsFirst(("look", {}), text="One moment."))
    scene = Scene.create(client, model, tools=[function("look")])
    with client.beta.threads.runs.stream(**scene.ids) as stream:
        names = [event.event for event in stream]
        run: Any = stream.current_run
    assert [name for name in names if name.endswith((".created", ".completed"))] == [
        "thread.run.created",
        "thread.run.step.created",
        "thread.run.step.created",
        "thread.message.created",
        "thread.message.completed",
        "thread.run.step.completed",
    ]
    assert names[-1] == "thread.run.requires_action"
    assert run.status == "requires_action"
