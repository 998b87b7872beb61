"""What servicers return, and how each transport presents it.

Servicers answer with rows, pages of rows and the like: what a call means, not how it looks. The
REST services write `to_json` of it, the typed ones the bytes of `to_proto`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.message import Message as ProtoMessage

from service.types import (
    assistants,
    files,
    messages,
    models,
    paging,
    runs,
    steps,
    threads,
    uploads,
    vector_store_files,
    vector_store_search,
    vector_stores,
)
from service.types.json_value import Json
from service.types.models import Model, Models
from service.types.steps import WithContents
from service.types.vector_store_search import Results
from storage import rows
from storage.pages import Page
from storage.runs import Found, RunPage
from storage.uploads import Part, Shown
from storage.vector_store_files import Entry, Text


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object of this kind was deleted."""

    kind: Literal[
        "assistant", "thread", "thread.message", "file", "vector_store", "vector_store.file"
    ]
    id: str


Answer = (
    rows.Assistant
    | rows.Thread
    | rows.Message
    | rows.Run
    | rows.RunStep
    | rows.File
    | Shown
    | Part
    | WithContents
    | Model
    | Models
    | rows.VectorStore
    | rows.VectorStoreBatch
    | Entry
    | Text
    | Results
    | Found
    | Page[Any]
    | Deleted
)
"""What a unary method returns."""


def to_json(answer: Answer) -> Json:
    """Returns the whole body that OpenAI's API answers with."""
    return _JSON[type(answer)](answer)


def to_proto(answer: Answer, kind: type[ProtoMessage]) -> ProtoMessage:
    """Returns the answer as a message of `kind`, the method's output."""
    match answer:
        case Page():
            data = [_FIELDS[type(item)](item) for item in _items(answer)]
            return paging.to_proto(answer, data, kind)
        case Deleted():
            return kind(id=answer.id, deleted=True)
        case _:
            return kind(**_FIELDS[type(answer)](answer))


def _page(page: Page[Any]) -> Json:
    return paging.to_json(page, [_JSON[type(item)](item) for item in _items(page)])


def _items(page: Page[Any]) -> list[Any]:
    if isinstance(page, RunPage):
        return [Found(run, page.pending) for run in page.data]
    return page.data


def _deleted(answer: Deleted) -> Json:
    # Of a file, the hosted API does not say that it is a deletion.
    name = answer.kind if answer.kind == "file" else f"{answer.kind}.deleted"
    return {"id": answer.id, "object": name, "deleted": True}


def _found(found: Found) -> Json:
    return runs.to_json(found.run, found.pending)


_JSON: Mapping[type, Callable[[Any], Json]] = {
    rows.Assistant: assistants.to_json,
    rows.Thread: threads.to_json,
    rows.Message: messages.to_json,
    rows.Run: runs.to_json,
    rows.RunStep: steps.to_json,
    rows.File: files.to_json,
    Shown: uploads.to_json,
    Part: uploads.part_to_json,
    WithContents: lambda step: steps.to_json(step.row, contents=True),
    rows.VectorStore: vector_stores.to_json,
    rows.VectorStoreBatch: vector_store_files.batch_to_json,
    Entry: vector_store_files.to_json,
    Text: vector_store_files.text_to_json,
    Results: vector_store_search.to_json,
    Found: _found,
    Page: _page,
    RunPage: _page,
    Deleted: _deleted,
    Model: models.to_json,
    Models: models.list_to_json,
}

_FIELDS: Mapping[type, Callable[[Any], Json]] = {
    rows.Assistant: lambda row: assistants.to_fields(
        assistants.to_json(row), assistants.extensions(row)
    ),
    rows.Thread: lambda row: threads.to_fields(threads.to_json(row)),
    rows.Message: lambda row: messages.to_fields(messages.to_json(row)),
    rows.Run: lambda row: runs.to_fields(runs.to_json(row), runs.extensions(row)),
    rows.RunStep: lambda row: steps.to_fields(steps.to_json(row)),
    rows.File: lambda row: files.to_fields(files.to_json(row)),
    Shown: lambda shown: uploads.to_fields(uploads.to_json(shown)),
    Part: lambda part: uploads.part_to_fields(uploads.part_to_json(part)),
    WithContents: lambda step: steps.to_fields(steps.to_json(step.row, contents=True)),
    rows.VectorStore: lambda row: vector_stores.to_fields(
        vector_stores.to_json(row), vector_stores.extensions(row)
    ),
    rows.VectorStoreBatch: lambda row: vector_store_files.batch_to_fields(
        vector_store_files.batch_to_json(row)
    ),
    Entry: lambda entry: vector_store_files.to_fields(vector_store_files.to_json(entry)),
    Text: lambda text: vector_store_files.text_to_fields(vector_store_files.text_to_json(text)),
    Results: lambda found: vector_store_search.to_fields(vector_store_search.to_json(found)),
    Model: lambda model: models.to_fields(models.to_json(model)),
    Models: lambda found: {"data": [models.to_fields(models.to_json(each)) for each in found.data]},
    Found: lambda found: runs.to_fields(_found(found), runs.extensions(found.run)),
}
