"""What the texts of a run may refer to: all that the calls of the server's tools have given it."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from service.runner.marks import Mark
from service.types.tool_calls import CODE_INTERPRETER, FILE_SEARCH
from storage.conversation import Context
from storage.rows import RunStep

MAX_QUOTE = 1000
"""Characters of a result that are shown where it is cited."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A result that a text cites."""

    file_id: str
    quote: str


@dataclass(slots=True)
class References:
    """What the run's calls have given so far."""

    calls: int = 0
    """How many calls the run has made."""
    images: list[str] = field(default_factory=list)
    """Ids of the images that no message shows yet."""
    files: dict[str, str] = field(default_factory=dict)
    """The files that calls have written: ids by path."""
    attached: set[str] = field(default_factory=set)
    """Ids of the files that messages of the run have as attachments."""
    _results: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Context) -> "References":
        """Returns what the steps of a run have given, from oldest to newest."""
        found = cls()
        for step in context.steps:
            found._add(step)
        for message in context.step_messages.values():
            found.attached.update(each["file_id"] for each in message.attachments)
        return found

    @property
    def has_results(self) -> bool:
        """Whether there is anything to be cited."""
        return bool(self._results)

    def citation(self, mark: Mark) -> Citation | None:
        """Returns the result that a mark names, if there is one."""
        result = self._results.get((mark.number, mark.index))
        if result is None:
            return None
        texts = (part["text"] for part in result.get("content", ()))
        return Citation(result["file_id"], "\n".join(texts)[:MAX_QUOTE])

    def file(self, path: str) -> str | None:
        """Returns the file that was written under a path, be it escaped as in URLs or not."""
        return self.files.get(path) or self.files.get(unquote(path))

    def _add(self, step: RunStep) -> None:
        if step.type == "message_creation":
            self.images.clear()
            return
        executed = (step.replay or {}).get("executed") or []
        for each in executed:
            self.files |= (each or {}).get("files", {})
        for call in step.step_details["tool_calls"]:
            self.calls += 1
            details = call[call["type"]]
            if call["type"] == FILE_SEARCH:
                for index, result in enumerate(details.get("results", ())):
                    self._results[self.calls, index] = result
            if call["type"] == CODE_INTERPRETER:
                images = (each["image"] for each in details["outputs"] if each["type"] == "image")
                self.images += (image["file_id"] for image in images)
