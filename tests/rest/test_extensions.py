"""What OpenAI's API does not have: the list of threads, and copies of them."""

import json
import uuid
from typing import Any
from urllib.parse import quote

import openai
import pytest

from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene, expect, text_of
from tests.support.rest.wire import Wire
from tests.support.script import Answer, Hold


def _list(client: openai.OpenAI, **params: Any) -> Any:
    """Returns a page of threads; metadata may be an object."""
    if isinstance(params.get("metadata"), dict):
        params["metadata"] = json.dumps(params["metadata"])
    return client.get("/threads", cast_to=object, options={"params": params})


def _copy(client: openai.OpenAI, source: str, **body: Any) -> Any:
    return client.post(f"/threads/{source}/copy", cast_to=object, body=body)


def _ids(page: Any) -> list[str]:
    return [thread["id"] for thread in page["data"]]


@pytest.fixture
def five(client: openai.OpenAI) -> tuple[dict[str, str], list[str]]:
    """What five threads have in common, as other tests make threads too; and their ids."""
    mark = {"mark": str(uuid.uuid4())}
    made = [
        client.beta.threads.create(metadata={**mark, "n": str(number), "odd": str(number % 2)}).id
        for number in range(5)
    ]
    return mark, made


def test_threads_newest_first(client: openai.OpenAI, wire: Wire) -> None:
    made = [client.beta.threads.create(metadata={"n": str(number)}) for number in range(3)]
    page = _list(client, limit=2)
    assert wire.last.path == "/v1/threads"
    assert page == {
        "object": "list",
        "data": [made[2].to_dict(), made[1].to_dict()],
        "first_id": made[2].id,
        "last_id": made[1].id,
        "has_more": True,
    }
    assert made[2].id in _ids(_list(client))


def test_an_empty_page(client: openai.OpenAI) -> None:
    page = _list(client, metadata={"mark": str(uuid.uuid4())})
    assert page == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages(client: openai.OpenAI, five: tuple[dict[str, str], list[str]], order: str) -> None:
    mark, made = five
    shown = made if order == "asc" else made[::-1]

    def page(**cursors: str) -> tuple[list[str], bool]:
        found = _list(client, metadata=mark, order=order, limit=2, **cursors)
        return _ids(found), found["has_more"]

    assert page() == (shown[:2], True)
    assert page(after=shown[1]) == (shown[2:4], True)
    assert page(after=shown[3]) == (shown[4:], False)
    assert page(before=shown[4]) == (shown[2:4], True)
    assert page(before=shown[1]) == (shown[:1], False)
    assert page(after=shown[0], before=shown[2]) == (shown[1:2], False)


def test_every_pair_counts(client: openai.OpenAI, five: tuple[dict[str, str], list[str]]) -> None:
    mark, made = five
    assert _ids(_list(client, metadata=mark | {"odd": "1"}, order="asc")) == made[1::2]
    assert _ids(_list(client, metadata=mark | {"odd": "1", "n": "3"})) == [made[3]]
    assert _ids(_list(client, metadata=mark | {"odd": "0", "n": "3"})) == []
    assert _ids(_list(client, metadata=mark | {"N": "3"})) == []
    client.beta.threads.delete(made[3])
    assert _ids(_list(client, metadata=mark | {"odd": "1"})) == [made[1]]


@pytest.mark.parametrize("key", ["a.b", 'a"b', "a b&c=d+e%20", "\\", "ключ\n", "\U0001f511", "#?/"])
def test_odd_keys(client: openai.OpenAI, key: str) -> None:
    pairs = {key: key, "mark": str(uuid.uuid4())}
    thread = client.beta.threads.create(metadata=pairs)
    assert _ids(_list(client, metadata=pairs)) == [thread.id]
    # The same without any escapes but those of the query.
    query = quote(json.dumps(pairs, ensure_ascii=False))
    assert _ids(client.get(f"/threads?metadata={query}", cast_to=object)) == [thread.id]


@pytest.mark.parametrize("nothing", ["", "{}", " { } "])
def test_a_filter_of_nothing(client: openai.OpenAI, nothing: str) -> None:
    thread = client.beta.threads.create()
    assert thread.id in _ids(_list(client, metadata=nothing))


NO_JSON = (
    'Invalid \'metadata\': expected a JSON object as text, such as {"key":"value"}.',
    "invalid_value",
)
NO_STRINGS = (
    "Invalid type for 'metadata': expected an object with string values.",
    "invalid_type",
)


def _no_object(got: str) -> tuple[str, str]:
    message = f"Invalid type for 'metadata': expected an object, but got {got} instead."
    return message, "invalid_type"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("key", NO_JSON),
        ("{", NO_JSON),
        ("{'key': 'value'}", NO_JSON),
        ('{"key": "value"} x', NO_JSON),
        ('{"key": NaN}', NO_JSON),
        ('{"key": "\\ud800"}', NO_JSON),
        ("[" * 5000, NO_JSON),
        (" ", NO_JSON),
        ("[]", _no_object("an array")),
        ('"key"', _no_object("a string")),
        ("5", _no_object("an integer")),
        ("1e5", _no_object("a decimal")),
        ("true", _no_object("a boolean")),
        ("null", _no_object("null")),
        ('{"key": 5}', NO_STRINGS),
        ('{"key": null}', NO_STRINGS),
        ('{"a": "b", "key": ["value"]}', NO_STRINGS),
        ('{"key": {"a": "b"}}', NO_STRINGS),
        (
            json.dumps({str(number): "" for number in range(17)}),
            (
                "Invalid 'metadata': too many properties. Expected an object with at most 16 "
                "properties, but got an object with 17 properties instead.",
                "object_above_max_properties",
            ),
        ),
    ],
)
def test_filters_that_are_none(client: openai.OpenAI, given: str, problem: tuple[str, str]) -> None:
    message, code = problem
    expect(client, lambda c: _list(c, metadata=given), 400, message, "metadata", code)


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "msg_01ARZ3NDEKTSV4RRFFQ69G5FAV"}, "after"),
        ({"before": "x"}, "before"),
        ({"metadata": '{"a": "\\u0000"}'}, "metadata.a"),
        ({"foo": "x"}, "foo"),
        ({"metadata[key]": "value"}, "metadata%5Bkey%5D"),
    ],
)
def test_what_the_list_refuses(client: openai.OpenAI, params: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        _list(client, **params)
    assert refused.value.param == param


def test_a_copy(client: openai.OpenAI, models: ModelServer, wire: Wire) -> None:
    scene = Scene.create(client, models.script(Answer("One."), Answer("Two.")))
    client.beta.threads.update(
        scene.thread_id,
        metadata={"a": "b"},
        tool_resources={"code_interpreter": {"file_ids": []}},
    )
    scene.run()
    copied = _copy(client, scene.thread_id)
    assert copied["id"] != scene.thread_id
    assert (copied["object"], copied["metadata"]) == ("thread", {"a": "b"})
    assert copied["tool_resources"] == {"code_interpreter": {"file_ids": []}}
    client.beta.threads.retrieve(copied["id"])
    assert wire.last.body == copied

    branch = Scene(client, scene.assistant_id, copied["id"])
    for old, new in zip(scene.messages(), branch.messages(), strict=True):
        changed = {"id": new.id, "thread_id": branch.thread_id, "run_id": None}
        assert new == old.model_copy(update=changed)
        assert new.id != old.id
    # It goes on by itself, from where it was.
    branch.run()
    assert branch.texts() == ["Hello", "One.", "Two."]
    assert scene.texts() == ["Hello", "One."]
    request = models.requests(model_of(client, scene))[-1]
    assert [each["content"] for each in request["messages"]] == ["Hello", "One."]


def model_of(client: openai.OpenAI, scene: Scene) -> str:
    """Returns the model of the scene's assistant."""
    return str(client.beta.assistants.retrieve(scene.assistant_id).model)


def test_a_copy_up_to_a_message(client: openai.OpenAI) -> None:
    history: Any = [{"role": "user", "content": str(number)} for number in range(4)]
    thread = client.beta.threads.create(messages=history)
    messages = list(client.beta.threads.messages.list(thread.id, order="asc"))
    for count, message in enumerate(messages, 1):
        copied = _copy(client, thread.id, up_to_message_id=message.id)
        found = client.beta.threads.messages.list(copied["id"], order="asc")
        assert [text_of(each) for each in found] == ["0", "1", "2", "3"][:count]


@pytest.mark.parametrize("options", [{}, {"body": {}}, {"body": {"up_to_message_id": None}}])
def test_a_copy_without_a_limit(client: openai.OpenAI, options: Any) -> None:
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
    copied: Any = client.post(f"/threads/{thread.id}/copy", cast_to=object, **options)
    [message] = client.beta.threads.messages.list(copied["id"])
    assert text_of(message) == "Hello"


def test_a_copy_while_a_run_is_active(client: openai.OpenAI, models: ModelServer) -> None:
    held = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(held), "Hi")
    stream: Any = client.beta.threads.runs.create(**scene.ids, stream=True)
    assert any(event.event == "thread.message.delta" for event in stream)
    assert [message.status for message in scene.messages()] == ["completed", "in_progress"]
    branch = Scene(client, scene.assistant_id, _copy(client, scene.thread_id)["id"])
    assert branch.texts() == ["Hi"]
    client.beta.threads.messages.create(branch.thread_id, role="user", content="Free?")
    held.release()
    assert [event.event for event in stream][-1] == "thread.run.completed"
    assert (scene.texts(), branch.texts()) == (["Hi", "Hello there"], ["Hi", "Free?"])


def test_what_cannot_be_copied(client: openai.OpenAI) -> None:
    thread = client.beta.threads.create()
    other = client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
    [elsewhere] = client.beta.threads.messages.list(other.id)
    for call, message in (
        (lambda c: _copy(c, "thread_x"), "No thread found with id 'thread_x'."),
        (lambda c: _copy(c, "runs"), "No thread found with id 'runs'."),
        (
            lambda c: _copy(c, thread.id, up_to_message_id="msg_x"),
            "No message found with id 'msg_x'.",
        ),
        (
            lambda c: _copy(c, thread.id, up_to_message_id=elsewhere.id),
            f"No message found with id '{elsewhere.id}'.",
        ),
    ):
        expect(client, call, 404, message, None, None)
    for body, param in (
        ({"thread_id": other.id}, "thread_id"),
        ({"metadata": {}}, "metadata"),
        ({"up_to_message_id": ["x"]}, "up_to_message_id"),
        ({"up_to_message_id": 5}, "up_to_message_id"),
        ({"up_to_message_id": "x" * 513}, "up_to_message_id"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            _copy(client, thread.id, **body)
        assert refused.value.param == param
