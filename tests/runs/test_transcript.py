"""What streams complete by themselves: the text so far of a message that ends without it."""

import contextlib
from typing import Any

import orjson

from service.runner.events import build
from service.runner.events.memory import MemoryBus
from service.runner.events.transcript import Transcript
from service.types.events import Event
from tests.support.runs.reading import one_by_one
from tests.support.storage.rows import text_part
from tests.support.types import samples
from tests.support.types.samples import message

ID = "msg_1"


def ended(status: str, text: str = "") -> Event:
    return build.message(message(status=status, content=[text_part(text)] if text else []))


def last_content(*happened: Event) -> list[dict[str, Any]]:
    """Returns the parts of the message in the last of the events."""
    transcript = Transcript()
    last = [transcript.add(event) for event in happened][-1]
    content: list[dict[str, Any]] = orjson.loads(last.data)["content"]
    return content


def text(index: int, piece: str) -> Event:
    return build.text_delta(ID, index, piece, first=False)


def test_a_message_that_ends_without_its_text_gets_it_in_the_order_of_its_parts() -> None:
    no = build.refusal_delta(ID, 1, "N"), build.refusal_delta(ID, 1, "o")
    whole = last_content(*no, *(text(0, piece) for piece in "Hello"), ended("incomplete"))
    assert whole == [text_part("Hello"), {"type": "refusal", "refusal": "No"}]


def test_so_it_gets_its_annotations_and_images() -> None:
    first, second = samples.NUMBERED
    whole = last_content(
        text(0, "a"),
        build.annotated_text_delta(ID, 0, "b", [first]),
        build.image_file_delta(ID, 1, samples.IMAGE),
        build.annotated_text_delta(ID, 0, "", [second]),
        ended("incomplete"),
    )
    annotated = {"value": "ab", "annotations": samples.ANNOTATIONS}
    assert whole == [
        {"type": "text", "text": annotated},
        {"type": "image_file", "image_file": samples.IMAGE},
    ]


def test_a_message_that_has_its_text_keeps_it() -> None:
    assert last_content(text(0, "a"), ended("incomplete", "ab")) == [text_part("ab")]


def test_a_message_without_text_stays_empty() -> None:
    assert last_content(ended("incomplete")) == []
    assert last_content(text(0, "a"), ended("completed", "a"), ended("incomplete")) == []


async def test_what_one_stream_completes_no_other_one_sees() -> None:
    bus = MemoryBus()
    await bus.publish("run_1", 0, text(0, "a"), ended("incomplete"))
    for _ in range(2):
        async with contextlib.aclosing(one_by_one(bus.subscribe("run_1", 0))) as source:
            first, last = await anext(source), await anext(source)
        assert orjson.loads(last.data)["content"] == []
        assert last_content(first, last) == [text_part("a")]
