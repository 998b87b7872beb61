"""Everything that the specification knows is shown through Envoy, or is exempt by name."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.rest.conftest import connect
from tests.support.compatibility import walk
from tests.support.compatibility.coverage import covers, events, everything, shown
from tests.support.compatibility.exempt import CODE_INTERPRETER, NEVER
from tests.support.model_server import ModelServer
from tests.support.rest.scene import Scene
from tests.support.rest.wire import Wire, operations
from tests.support.script import Answer, Hold
from tests.support.stack import Stack


@pytest.fixture
def impatient(model_server: ModelServer) -> Iterator[Stack]:
    """A server of its own, whose runs expire soon, and which does not wait for them at its end."""
    settings = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_RUN_LIFETIME": "2",
        "ASSISTANTS_SHUTDOWN_GRACE": "0",
    }
    with Stack(settings) as stack:
        yield stack.start()


def test_every_operation_event_and_property(
    client: openai.OpenAI, impatient: Stack, models: ModelServer, wire: Wire
) -> None:
    walk.assistants(client)
    walk.files(client)
    walk.threads(client)
    walk.vector_stores(client)
    walk.file_search(client, models)
    walk.errors(client)
    walk.choices(client, models)
    walk.calls(client, models)
    walk.refusal(client, models)
    walk.ends(client, models)
    walk.cancelling(client, models)
    with connect(impatient, wire) as other:
        walk.expiry(other, models)
        _end_of_the_server(other, impatient, models)

    wire.check()
    names = {name for exchange in wire.exchanges for name in shown(exchange)}
    known, exempt = everything(), CODE_INTERPRETER | NEVER
    assert names <= known
    unexercised = known - names
    assert (len(operations()), len(events())) == (48, 25)
    assert unexercised - set(_exempt(exempt, known)) == set(), "not exercised"
    assert set(_exempt(exempt, names)) == set(), "exercised, though exempt"
    assert {name for name in exempt if not set(_exempt({name}, known))} == set(), "not known"


def _exempt(by: frozenset[str] | set[str], names: set[str]) -> Iterator[str]:
    return (name for name in names if any(covers(each, name) for each in by))


def _end_of_the_server(client: openai.OpenAI, stack: Stack, models: ModelServer) -> None:
    hold = Hold(Answer("Hello there"), after="Hello")
    scene = Scene.create(client, models.script(hold))
    with (
        pytest.raises(openai.APIError, match="shutting down"),
        client.beta.threads.runs.stream(**scene.ids) as stream,
    ):
        deltas = iter(stream.text_deltas)
        assert next(deltas)
        assert stack.terminate() == 0, stack.printed()
        list(deltas)


GIVEN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "zeta": {"type": "number", "minimum": -1.5, "maximum": 1e300, "default": 1e-7},
        "Alpha": {"enum": [0, -1, 2**53, -(2**53), 0.1, "", "é😀\n", True, False, None]},
        "": {"items": [[], {}, [[{"b": {"y": 1, "a": [3, 2, 1]}}]]]},
        "10": {"const": 10},
        "9": {"const": 123456789012},
    },
    "additionalProperties": False,
    "$defs": {"b": {}, "a": {}},
}


def test_json_comes_back_as_it_was_given(
    client: openai.OpenAI, models: ModelServer, wire: Wire
) -> None:
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": GIVEN}}
    schema = {"name": "form", "schema": GIVEN}
    form: Any = {"type": "json_schema", "json_schema": schema}
    model = models.script(Answer("{}"))
    scene = Scene.create(client, model, tools=[tool], response_format=form)
    client.beta.assistants.update(scene.assistant_id, tools=[tool], response_format=form)
    _check_given(wire.last.data)
    client.beta.assistants.retrieve(scene.assistant_id)
    _check_given(wire.last.data)
    run = scene.run()
    _check_given(wire.last.data)
    [asked] = models.requests(model)
    assert _exactly(json.dumps(asked["tools"][0]["function"]["parameters"])) == EXACTLY
    client.beta.assistants.update(scene.assistant_id, tools=[], response_format="auto")
    other = models.script(Answer("{}"))
    with client.beta.threads.runs.stream(
        **scene.ids, model=other, tools=[tool], response_format=form
    ) as stream:
        stream.until_done()
    _, data = wire.last.events[0]
    _check_given(json.dumps(data).encode())
    assert run.status == "completed"


def _exactly(text: str | bytes) -> str:
    """Returns JSON in a form that shows the order of keys, and whether numbers are integers."""
    return repr(json.loads(text, object_pairs_hook=list))


EXACTLY = _exactly(json.dumps(GIVEN))


def _check_given(body: bytes) -> None:
    found = json.loads(body)
    [tool] = found["tools"]
    for schema in (
        tool["function"]["parameters"],
        found["response_format"]["json_schema"]["schema"],
    ):
        assert _exactly(json.dumps(schema)) == EXACTLY
