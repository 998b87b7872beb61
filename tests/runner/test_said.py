"""What streams complete by themselves: the text so far of a message that ends without it."""

import contextlib

from assistants.v1 import events_pb2, messages_pb2

from service.runner import events
from service.runner.bus import InProcessBus
from service.runner.said import Said

ID = "msg_1"


def ended(name: str, text: str = "") -> events_pb2.RunEvent:
    content = [messages_pb2.MessageContent(text=messages_pb2.MessageContent.Text(value=text))]
    message = messages_pb2.Message(id=ID, content=content if text else [])
    return events_pb2.RunEvent(event=f"thread.message.{name}", message=message)


def told(*happened: events_pb2.RunEvent) -> list[messages_pb2.MessageContent]:
    """Returns the parts of the message in the last of the events."""
    said = Said()
    return list([said.hear(event) for event in happened][-1].message.content)


def text(index: int, piece: str) -> events_pb2.RunEvent:
    return events.text_delta(ID, index, piece, first=False)


def test_a_message_that_ends_without_its_text_gets_it_in_the_order_of_its_parts() -> None:
    no = events.refusal_delta(ID, 1, "N"), events.refusal_delta(ID, 1, "o")
    whole = told(*no, *(text(0, piece) for piece in "Hello"), ended("incomplete"))
    assert [part.text.value or part.refusal for part in whole] == ["Hello", "No"]


def test_a_message_that_has_its_text_keeps_it() -> None:
    assert [part.text.value for part in told(text(0, "a"), ended("incomplete", "ab"))] == ["ab"]


def test_a_message_that_said_nothing_stays_empty() -> None:
    assert told(ended("incomplete")) == []
    assert told(text(0, "a"), ended("completed", "a"), ended("incomplete")) == []


async def test_what_one_stream_completes_no_other_one_sees() -> None:
    bus = InProcessBus()
    await bus.publish("run_1", 0, text(0, "a"), ended("incomplete"))
    for _ in range(2):
        async with contextlib.aclosing(bus.subscribe("run_1", 0)) as source:
            first, last = await anext(source), await anext(source)
        assert len(last.message.content) == 0
        assert len(told(first, last)) == 1
