"""The message of one turn as it is composed: what has come of it, and the deltas that show it."""

from collections.abc import Awaitable, Callable
from typing import Any

from service.runner.events import build
from service.runner.marks import Link, Mark, Marks, Part, Plain
from service.runner.references import References
from service.types import content
from service.types.attachments import attachment
from service.types.events import Event
from service.types.json_value import Json
from service.types.tool_calls import CODE_INTERPRETER

Linked = Callable[[str], Awaitable[str | None]]
"""Returns the id of the file at an absolute path, if there is one. Raises Unreachable."""


class Composition:
    """The parts of a message: images ahead of them, a text with annotations, a refusal."""

    def __init__(
        self, message_id: str, references: References, linked: Linked, *, marks: bool, links: bool
    ) -> None:
        """Composes a message of which nothing has come.

        `references` is what the run's calls have given it. With `marks`, its text may cite results;
        with `links`, it may link to files, those that are not known yet being found by `linked`.
        """
        self._id = message_id
        self._references = references
        self._linked = linked
        self._images = list(references.images)
        self._marks = Marks(marks=marks, links=links)
        self._parts: dict[str, list[str]] = {}
        """The pieces of the text and of the refusal, whichever came first standing first."""
        self._length = 0
        """Characters of the text."""
        self._annotations: list[Json] = []
        self._attached: dict[str, None] = {}
        """The ids of the files that the text has linked to."""

    def begin(self) -> list[Event]:
        """Returns the deltas with which the message begins: its images."""
        return [
            build.image_file_delta(self._id, index, {"file_id": file_id})
            for index, file_id in enumerate(self._images)
        ]

    async def add_text(self, piece: str) -> list[Event]:
        """Adds a piece of the text; holds back what may be a reference. Raises Unreachable."""
        shown = [event for part in self._marks.add(piece) for event in await self._show(part)]
        return shown if piece else self._plain("")

    def add_refusal(self, piece: str) -> list[Event]:
        """Adds a piece of the refusal."""
        self._parts.setdefault("refusal", []).append(piece)
        return [build.refusal_delta(self._id, self._index("refusal"), piece)]

    async def end(self) -> list[Event]:
        """Adds what is held back. Raises Unreachable."""
        shown = [event for part in self._marks.rest() for event in await self._show(part)]
        return shown if self._parts else self._plain("")

    def cite(self) -> list[Event]:
        """Adds the mark of the result that the text is about, if it has none; see `nearest`."""
        text = "".join(self._parts.get("text", ()))
        if any(each["type"] == "file_citation" for each in self._annotations):
            return []
        found = self._references.nearest(text)
        return [] if found is None else self._annotated(found.mark, "file_citation", found.in_delta)

    @property
    def content(self) -> list[Json]:
        """The content, as far as it has come."""
        images = [content.image_file(file_id) for file_id in self._images]
        return images + [self._part(kind, "".join(self._parts[kind])) for kind in self._parts]

    def attachments(self, *, last: bool) -> list[Json]:
        """Returns the files that are attached; the run's `last` message has all that are left."""
        known = self._references.attached | self._attached.keys()
        left = [file_id for file_id in self._references.files.values() if file_id not in known]
        ids = dict.fromkeys([*self._attached, *(left if last else ())])
        return [attachment(file_id, CODE_INTERPRETER) for file_id in ids]

    def _part(self, kind: str, whole: str) -> Json:
        if kind == "refusal":
            return {"type": "refusal", "refusal": whole}
        annotations = [content.annotation_in_message(each) for each in self._annotations]
        return {"type": "text", "text": {"value": whole, "annotations": annotations}}

    async def _show(self, part: Part) -> list[Event]:
        match part:
            case Plain(text):
                return self._plain(text)
            case Mark(text):
                if (cited := self._references.citation(part)) is not None:
                    return self._annotated(text, "file_citation", cited.in_delta)
                return [] if part.is_certain else self._plain(text)
            case Link(text):
                file_id = await self._file(part)
                if file_id is None:
                    return self._plain(text)
                self._attached[file_id] = None
                return self._annotated(text, "file_path", {"file_id": file_id})

    async def _file(self, link: Link) -> str | None:
        """Returns the file that a link leads to, if there is one."""
        for path in link.paths:
            file_id = self._references.file(path) or await self._linked(path)
            if file_id is not None:
                return file_id
        return None

    def _plain(self, text: str) -> list[Event]:
        first = self._append(text)
        return [build.text_delta(self._id, self._index("text"), text, first=first)]

    def _annotated(self, text: str, kind: str, target: Json) -> list[Event]:
        # The first delta of a text introduces it, with no annotations.
        begun = [] if "text" in self._parts else self._plain("")
        start = self._length
        self._append(text)
        annotation: dict[str, Any] = {
            "index": len(self._annotations),
            "type": kind,
            "text": text,
            "start_index": start,
            "end_index": self._length,
            kind: target,
        }
        self._annotations.append(annotation)
        return [
            *begun,
            build.annotated_text_delta(self._id, self._index("text"), text, [annotation]),
        ]

    def _append(self, text: str) -> bool:
        """Adds to the text; returns whether that begins it."""
        first = "text" not in self._parts
        self._parts.setdefault("text", []).append(text)
        self._length += len(text)
        return first

    def _index(self, kind: str) -> int:
        return len(self._images) + list(self._parts).index(kind)
