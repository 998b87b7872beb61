"""Lists: pages, cursors, orders, through the client's auto-paging."""

from typing import Any, Literal

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, function, outputs
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Calls

Order = Literal["asc", "desc"]
INCLUDE: Any = ["step_details.tool_calls[*].file_search.results[*].content"]


@pytest.fixture
def seven(client: openai.OpenAI) -> tuple[str, list[str]]:
    """A thread and the ids of its seven messages, oldest first."""
    messages: Any = [{"role": "user", "content": str(number)} for number in range(7)]
    thread = client.beta.threads.create(messages=messages)
    listed = client.beta.threads.messages.list(thread.id, order="asc").data
    assert [message.content[0].to_dict()["text"] for message in listed] == [
        {"value": str(number), "annotations": []} for number in range(7)
    ]
    return thread.id, [message.id for message in listed]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_auto_paging(
    client: openai.OpenAI, wire: Wire, seven: tuple[str, list[str]], order: Order, limit: int
) -> None:
    thread_id, ids = seven
    before = len(wire.exchanges)
    pages = client.beta.threads.messages.list(thread_id, order=order, limit=limit)
    assert [message.id for message in pages] == (ids if order == "asc" else ids[::-1])
    bodies = [exchange.body for exchange in wire.exchanges[before:]]
    assert [body["has_more"] for body in bodies] == [True] * (len(bodies) - 1) + [False]
    assert len(bodies) == -(-7 // limit)
    for body in bodies:
        assert len(body["data"]) <= limit
        assert (body["first_id"], body["last_id"]) == (
            body["data"][0]["id"],
            body["data"][-1]["id"],
        )


def test_newest_first_is_the_default(client: openai.OpenAI, seven: tuple[str, list[str]]) -> None:
    thread_id, ids = seven
    assert [message.id for message in client.beta.threads.messages.list(thread_id)] == ids[::-1]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_the_page_ahead_of_a_cursor(
    client: openai.OpenAI, seven: tuple[str, list[str]], order: Order
) -> None:
    thread_id, ids = seven
    shown = ids if order == "asc" else ids[::-1]

    def page(**cursors: str) -> tuple[list[str], bool]:
        result = client.beta.threads.messages.list(thread_id, order=order, limit=2, **cursors)  # type: ignore[arg-type]
        return [message.id for message in result.data], bool(result.has_more)

    assert page(before=shown[4]) == (shown[2:4], True)
    assert page(before=shown[2]) == (shown[:2], False)
    assert page(before=shown[1]) == (shown[:1], False)
    assert page(before=shown[0]) == ([], False)
    assert page(after=shown[0]) == (shown[1:3], True)
    assert page(after=shown[4]) == (shown[5:], False)
    assert page(after=shown[6]) == ([], False)
    assert page(after=shown[1], before=shown[3]) == (shown[2:3], False)


def test_the_cursor_may_be_gone(client: openai.OpenAI, seven: tuple[str, list[str]]) -> None:
    thread_id, ids = seven
    client.beta.threads.messages.delete(ids[3], thread_id=thread_id)
    page = client.beta.threads.messages.list(thread_id, order="asc", after=ids[3])
    assert [message.id for message in page] == ids[4:]


@pytest.mark.parametrize("param", ["after", "before"])
@pytest.mark.parametrize("cursor", ["run_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nothing"])
def test_a_cursor_of_another_kind(
    client: openai.OpenAI, seven: tuple[str, list[str]], param: str, cursor: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.beta.threads.messages.list(seven[0], **{param: cursor})  # type: ignore[arg-type]
    assert refused.value.param == param


def test_assistants(client: openai.OpenAI) -> None:
    made = [client.beta.assistants.create(model="any", name=str(n)).id for n in range(7)]
    # Other tests make assistants too: ours are found between two of them.
    listed = client.beta.assistants.list(order="asc", limit=2, after=made[0], before=made[6])
    assert [assistant.id for assistant in listed.data] == made[1:3]
    found = []
    for assistant in client.beta.assistants.list(order="asc", limit=2, after=made[0]):
        found.append(assistant.id)
        if assistant.id == made[6]:
            break
    assert [each for each in found if each in made] == made[1:]
    newest = client.beta.assistants.list(limit=2, before=made[3])
    assert newest.data[-1].id == made[4]


def test_runs_and_their_steps(client: openai.OpenAI, models: ModelServer) -> None:
    steps = [step for _ in range(3) for step in (Calls(("look", {})), Answer("Yes."))]
    scene = Scene.create(client, models.script(*steps), tools=[function("look")])
    ids = []
    for _ in range(3):
        run = scene.run()
        client.beta.threads.runs.submit_tool_outputs(
            run.id, thread_id=run.thread_id, tool_outputs=outputs(run, "seen")
        )
        ids.append(scene.end_of(run).id)
    assert [run.id for run in client.beta.threads.runs.list(scene.thread_id, limit=1)] == ids[::-1]
    listed = client.beta.threads.runs.list(scene.thread_id, limit=2, order="asc")
    assert [run.id for run in listed] == ids
    runs = client.beta.threads.runs
    shown = list(runs.steps.list(ids[1], thread_id=scene.thread_id, limit=1, include=INCLUDE))
    assert [step.type for step in shown] == ["message_creation", "tool_calls"]
    assert {step.run_id for step in shown} == {ids[1]}
    page = runs.steps.list(ids[1], thread_id=scene.thread_id, after=shown[0].id)
    assert page.data == shown[1:]
    page = runs.steps.list(ids[1], thread_id=scene.thread_id, before=shown[1].id)
    assert page.data == shown[:1]


def test_include(client: openai.OpenAI, models: ModelServer) -> None:
    scene = Scene.create(client, models.script(Answer("Yes.")))
    run = scene.run(include=INCLUDE)
    steps = client.beta.threads.runs.steps
    [step] = steps.list(run.id, thread_id=run.thread_id, include=INCLUDE)
    found = steps.retrieve(step.id, thread_id=run.thread_id, run_id=run.id, include=INCLUDE)
    assert found == step
    unknown: Any = ["everything"]
    with pytest.raises(openai.BadRequestError) as refused:
        steps.list(run.id, thread_id=run.thread_id, include=unknown)
    assert (refused.value.param, refused.value.code) == ("include[]", "invalid_value")
    with pytest.raises(openai.BadRequestError):
        scene.start(include=unknown)
