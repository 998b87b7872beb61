import json

import pytest
from assistants.v1 import common_pb2, events_pb2

from gateway import sse
from tests.gateway import test_json as samples
from tests.schemas import validate_event

EVENTS = [
    events_pb2.RunEvent(event="thread.created", thread=samples.THREAD),
    events_pb2.RunEvent(event="thread.run.queued", run=samples.EMPTY_RUN),
    events_pb2.RunEvent(event="thread.run.step.failed", run_step=samples.CALLS_STEP),
    events_pb2.RunEvent(event="thread.run.step.delta", run_step_delta=samples.STEP_DELTA),
    events_pb2.RunEvent(event="thread.message.created", message=samples.EMPTY_MESSAGE),
    events_pb2.RunEvent(event="thread.message.delta", message_delta=samples.MESSAGE_DELTA),
    events_pb2.RunEvent(event="error", error=common_pb2.Error(message="m", type="server_error")),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event)
def test_an_event_is_a_name_a_line_of_json_and_a_blank_line(event: events_pb2.RunEvent) -> None:
    name, data, *rest = sse.encode(event).decode().split("\n")
    assert (name, rest) == (f"event: {event.event}", ["", ""])
    validate_event(event.event, json.loads(data.removeprefix("data: ")))


def test_line_breaks_in_a_text_stay_inside_the_json() -> None:
    text = events_pb2.MessageDelta.TextDelta(value="a\n\nb\r\u2028")
    delta = events_pb2.MessageDelta(content=[events_pb2.MessageDelta.ContentDelta(text=text)])
    event = sse.encode(events_pb2.RunEvent(event="thread.message.delta", message_delta=delta))
    assert event.count(b"\n") == 3
    assert b"\r" not in event


def test_done_ends_a_stream() -> None:
    done = events_pb2.RunEvent(event="done", done=events_pb2.RunEvent.Done())
    assert sse.encode(done) == b"event: done\ndata: [DONE]\n\n"
