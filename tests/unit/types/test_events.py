"""Events: their data is as published, and protobuf says the same."""

import orjson
import pytest
from assistants.v1 import events_pb2

from service.runner.events import build
from service.types.events import Event, to_proto
from tests.support.schemas import validate_event
from tests.support.types import samples, walker, walker_values
from tests.support.types.event_samples import EVENTS
from tests.unit.types.test_answers import all_fields, set_fields

NAMED = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)


@NAMED
def test_data_is_as_published(event: Event) -> None:
    data = event.data.decode()
    validate_event(event.name, data if event.name == "done" else orjson.loads(data))


@NAMED
def test_protobuf_says_the_same_to_the_byte(event: Event) -> None:
    event.number = 7
    message = events_pb2.RunEvent.FromString(to_proto(event).SerializeToString())
    assert (message.event, message.sequence_number) == (event.name, 7)
    match message.WhichOneof("data"):
        case "done":
            assert (event.name, event.data) == ("done", b"[DONE]")
        case "error":
            body = walker_values.error(message.error)
            assert orjson.loads(event.data) == {**body, "error": body}
        case field:
            assert walker.render(getattr(message, str(field))).decode() == event.data.decode()


def test_no_field_of_protobuf_is_forgotten() -> None:
    given = {name for event in EVENTS for name in set_fields(to_proto(event))}
    known = set(all_fields(events_pb2.RunEvent.DESCRIPTOR, set()))
    requests = {name for name in known if ".vector_stores" in name or ".VectorStore." in name}
    # Numbers are given when events are published.
    assert known - given - requests <= {"assistants.v1.RunEvent.sequence_number"}


def test_only_the_first_delta_of_a_text_or_call_introduces_it() -> None:
    first, later = (build.text_delta("msg_1", 0, "a", first=first) for first in (True, False))
    [part] = orjson.loads(first.data)["delta"]["content"]
    assert part["text"] == {"value": "a", "annotations": []}
    [part] = orjson.loads(later.data)["delta"]["content"]
    assert part["text"] == {"value": "a"}
    begun = build.call_begun("step_1", 0, samples.BEGUN[0])
    [call] = orjson.loads(begun.data)["delta"]["step_details"]["tool_calls"]
    assert call == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": "", "output": None},
    }
    going_on = build.call_delta("step_1", 0, "function", {"arguments": "{}"})
    [call] = orjson.loads(going_on.data)["delta"]["step_details"]["tool_calls"]
    assert call == {"index": 0, "type": "function", "function": {"arguments": "{}"}}


def test_a_run_shows_its_reasoning_effort_in_protobuf_only() -> None:
    for event in (*build.run_created(samples.FULL_RUN), *build.run(samples.FULL_RUN)):
        assert b"reasoning_effort" not in event.data
        assert event.name == "done" or to_proto(event).run.reasoning_effort == "low"
    assert not to_proto(build.run(samples.run())[0]).run.HasField("reasoning_effort")


def test_what_is_withdrawn_has_ended_when_it_is_published_or_began() -> None:
    for at, shown in ((7, 7), (None, 1)):
        message = build.withdrawal(build.message(samples.message()), at)
        assert orjson.loads(message.data)["incomplete_at"] == shown
        step = build.withdrawal(build.step(samples.step()), at)
        assert orjson.loads(step.data)["failed_at"] == shown
