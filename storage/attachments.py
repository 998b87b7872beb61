"""Attachments: files of messages, which their thread's tools get."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage import entries, resources, store_lock
from storage.entries import NewEntry
from storage.resources import NewStore, file_ids, store_ids
from storage.rows import Thread
from storage.transaction import Transaction

AUTO: Mapping[str, Any] = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
}
"""How the text of an attached file is cut into chunks."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to insert; `content` is a list of parts as responses show them."""

    role: str
    content: list[dict[str, Any]]
    attachments: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def files_of(messages: Sequence[NewMessage]) -> list[str]:
    """Returns the ids of all files that messages show or have attached."""
    return [*images(messages), *named(messages)]


def named(messages: Sequence[NewMessage], tool: str | None = None) -> list[str]:
    """Returns the ids of the attached files, each once: of all, or of those that a tool gets."""
    attachments = (each for message in messages for each in message.attachments)
    return list(
        dict.fromkeys(
            each["file_id"]
            for each in attachments
            if tool is None or {"type": tool} in each["tools"]
        )
    )


def images(messages: Iterable[NewMessage]) -> list[str]:
    """Returns the ids of the files that are images of the messages, each once."""
    parts = (part for message in messages for part in message.content)
    found = (part["image_file"]["file_id"] for part in parts if part["type"] == "image_file")
    return list(dict.fromkeys(found))


def attach(tx: Transaction, thread: Thread, messages: Sequence[NewMessage], now: float) -> bool:
    """Gives attached files to a locked thread's tools; returns whether the thread has changed.

    Its row is not written. The files are locked (see store_lock.lock_files). The thread's vector
    store is made if there is none. Raises NotFound (the vector store), StoreExpired, StoreFull.
    """
    before = thread.tool_resources
    stored = dict(before)
    read = [id for id in named(messages, "code_interpreter") if id not in file_ids(before)]
    if read:
        stored["code_interpreter"] = {"file_ids": [*file_ids(before), *read]}
    searched = [NewEntry(id, AUTO, {}) for id in named(messages, "file_search")]
    if searched and (stores := store_ids(before)):
        entries.add(tx, store_lock.lock_open(tx, stores[0]), searched, now)
    elif searched:
        made = resources.make_store(tx, NewStore({}, searched), now, of_thread=True)
        stored["file_search"] = {"vector_store_ids": [made]}
    if stored == before:
        return False
    thread.tool_resources = stored
    resources.note(tx, thread.id, stored, before)
    return True
