"""Server-sent events: what stands around their data, and how many travel together."""

import pytest

from gateway import sse
from service.types.events import Event
from tests.support.types.event_samples import EVENTS


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_an_event_is_a_name_a_line_of_json_and_a_blank_line(event: Event) -> None:
    name, data, *rest = sse.encode(event).decode().split("\n")
    assert (name, rest) == (f"event: {event.name}", ["", ""])
    assert data == f"data: {event.data.decode()}"
    assert "\r" not in data


def test_a_number_stands_before_the_name_if_asked_for() -> None:
    event = Event("done", b"[DONE]", number=7)
    assert sse.encode(event) == b"event: done\ndata: [DONE]\n\n"
    assert sse.encode(event, with_id=True) == b"id: 7\nevent: done\ndata: [DONE]\n\n"


@pytest.mark.parametrize("with_ids", [True, False])
def test_what_is_ready_together_travels_together(with_ids: bool) -> None:
    [portion] = sse.portions(EVENTS, with_ids=with_ids)
    assert portion == b"".join(sse.encode(event, with_id=with_ids) for event in EVENTS)
    assert list(sse.portions([], with_ids=with_ids)) == []


def test_long_events_travel_one_by_one() -> None:
    events = [Event("a", b"x" * size) for size in (sse.PORTION, 1, 1, sse.PORTION * 2, 1)]
    portions = list(sse.portions(events, with_ids=False))
    assert [portion.count(b"event: ") for portion in portions] == [1, 3, 1]
    assert b"".join(portions) == b"".join(map(sse.encode, events))
