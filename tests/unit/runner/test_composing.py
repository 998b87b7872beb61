"""What becomes of a text's references, however the model divides it."""

import asyncio
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from service.runner.composing import Composition
from service.runner.references import MAX_QUOTE, References
from service.types.events import Event
from storage.conversation import Context
from storage.rows import RunStep
from tests.support.types import samples

FRAGMENTS = st.sampled_from(
    [
        "Bees 🐝 ", "honey", "【1:0†a.txt】", "【1:1†b】", "【7:0†no】", "【1:9†a】", "【重要】",
        "【1:",
        "†", "】", "【", " [x](sandbox:/mnt/data/x.csv)", " sandbox:/mnt/data/no.csv ", "\n", "s",
    ]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS, max_size=12).map("".join)

SEARCH = {"id": "call_1", "type": "file_search", "file_search": samples.SEARCHED}
WRITE = {"id": "call_2", "type": "code_interpreter", "code_interpreter": {"outputs": []}}
EXECUTED = [None, {"name": "python", "files": {"/mnt/data/x.csv": "file-2"}}]


def step(*calls: dict[str, Any], **changes: Any) -> RunStep:
    return samples.calls_step(*calls, status="completed", **changes)


REFERENCES = References.of(Context([], [step(SEARCH, WRITE, replay={"executed": EXECUTED})], {}))


async def linked(path: str) -> str | None:
    return None


def composition(references: References = REFERENCES) -> Composition:
    return Composition("msg_1", references, linked, marks=True, links=True)


async def composed(pieces: list[str]) -> tuple[Composition, list[dict[str, Any]]]:
    """Returns the message of a text that comes in pieces, and the parts of its deltas."""
    made = composition()
    events: list[Event] = [*made.begin()]
    for piece in pieces:
        events += await made.add_text(piece)
    events += await made.end()
    parts = [part for each in events for part in orjson.loads(each.data)["delta"]["content"]]
    return made, parts


@given(TEXTS, st.data())
def test_a_text_is_the_same_however_it_is_divided(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole, _ = asyncio.run(composed([text]))
    made, parts = asyncio.run(composed(pieces))
    assert made.content == whole.content
    assert made.attachments(last=True) == whole.attachments(last=True)
    [part] = made.content
    value, annotations = part["text"]["value"], part["text"]["annotations"]
    assert "".join(each["text"]["value"] for each in parts) == value
    assert parts[0]["text"]["annotations"] == []
    # Each annotation comes with its text, whole, and says where it stands, in characters.
    shown = [each["text"] for each in parts if each["text"].get("annotations")]
    assert [each["annotations"][0]["text"] for each in shown] == [each["value"] for each in shown]
    assert [each["annotations"][0]["index"] for each in shown] == [*range(len(annotations))]
    for each in annotations:
        assert value[each["start_index"] : each["end_index"]] == each["text"]
    cited = [each for each in annotations if each["type"] == "file_citation"]
    real = ("【1:0†a.txt】", "【1:1†b】")
    assert len(cited) == sum(value.count(mark) for mark in real)
    assert "【7:0†no】" not in value
    assert "【1:9†a】" not in value


def test_the_nearest_result_is_cited_by_its_words() -> None:
    text = "Bees make honey from nectar, and keep it in wax combs. " + "x" * MAX_QUOTE
    results = [
        {"file_id": "file-1", "file_name": "sky.txt", "score": 1.0, "content": _text("Blue sky.")},
        {"file_id": "file-2", "file_name": "b【】.txt", "score": 0.5, "content": _text(text)},
    ]
    search = {**SEARCH, "file_search": {"results": results}}
    references = References.of(Context([], [step(search)], {}))
    found = references.nearest("They make honey from nectar.")
    assert found is not None
    assert (found.mark, found.file_id) == ("【1:1†b__.txt】", "file-2")
    assert found.quote == text[:MAX_QUOTE]
    assert references.nearest("Nobody knows what they make out of it.") is None
    assert references.nearest("Honey?") is None
    assert references.nearest("") is None


def _text(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]
