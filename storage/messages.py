"""Messages in the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from storage import ids, pages, tables, thread_lock
from storage.database import Database
from storage.errors import LockedThread
from storage.lookup import by_id
from storage.pages import Page, PageRequest
from storage.quotas import Quotas
from storage.repository import Repository, gets, writes_to_thread
from storage.rows import Message, Thread, table
from storage.statements import Statement, param
from storage.tables import MessageStatus
from storage.transaction import Transaction

PORTION = 500
"""Messages that are handled in one go: it takes some ten milliseconds."""

_TABLE = table(tables.Message)
_IN_THREAD = _TABLE.c.thread_id == param("thread_id")
GET = Statement(sa.select(_TABLE).where(_IN_THREAD, _TABLE.c.id == param("id")), Message)
DELETE: Statement[Any] = Statement(sa.delete(_TABLE).where(_IN_THREAD, _TABLE.c.id == param("id")))
LIST = pages.List(Message, ids.MESSAGE, _IN_THREAD)
# A run's messages are few: found by the thread, which it names too, all of it would be read.
LIST_OF_RUN = pages.List(
    Message,
    ids.MESSAGE,
    _TABLE.c.thread_id.concat("") == param("thread_id"),
    _TABLE.c.run_id == param("run_id"),
)


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to insert; `content` is a list of parts as responses show them."""

    role: str
    content: list[dict[str, Any]]
    attachments: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


class Messages(Repository):
    """Messages of a project's threads."""

    def __init__(self, database: Database, quotas: Quotas) -> None:
        """Works on `database`, within `quotas`."""
        super().__init__(database)
        self._quotas = quotas

    @writes_to_thread
    def create(
        self, tx: Transaction, thread_id: str, new: NewMessage, *, queue: bool = False
    ) -> Message:
        """Adds a message to the end of a thread.

        While a run is active this raises LockedThread, unless `queue` is true: then the message is
        for the next run. Raises NotFound, QuotaExceeded.
        """
        thread = thread_lock.lock(tx, thread_id)
        now, active = thread_lock.state(tx, thread)
        if active is not None and not queue:
            raise LockedThread(thread.id, active)
        self._quotas.admit(tx, now, messages=1)
        message = _row(thread, new, int(now))
        tx.insert(message)
        thread_lock.advance(tx, thread)
        return message

    @gets
    def get(self, tx: Transaction, thread_id: str, message_id: str) -> Message:
        """Returns a message. Raises NotFound."""
        thread_lock.find(tx, thread_id)
        return by_id(tx, GET, "message", message_id, thread_id=thread_id)

    @gets
    def list(
        self, tx: Transaction, thread_id: str, page: PageRequest, run_id: str | None = None
    ) -> Page[Message]:
        """Returns a page of a thread's messages, or of those that a run wrote.

        Raises NotFound (the thread), InvalidCursor.
        """
        thread_lock.find(tx, thread_id)
        if run_id is None:
            return LIST.page(tx, page, thread_id=thread_id)
        return LIST_OF_RUN.page(tx, page, thread_id=thread_id, run_id=run_id)

    @writes_to_thread
    def modify(
        self, tx: Transaction, thread_id: str, message_id: str, changes: Mapping[str, Any]
    ) -> Message:
        """Replaces the given attributes. Raises NotFound."""
        thread_lock.lock(tx, thread_id)
        message = by_id(tx, GET, "message", message_id, thread_id=thread_id)
        return tx.update(message, **changes)

    @writes_to_thread
    def delete(self, tx: Transaction, thread_id: str, message_id: str) -> None:
        """Deletes a message. Raises NotFound."""
        thread_lock.lock(tx, thread_id)
        by_id(tx, GET, "message", message_id, thread_id=thread_id)
        tx.run(DELETE, thread_id=thread_id, id=message_id)
        self._quotas.count(tx, tx.project, -1)


def add_messages(tx: Transaction, thread: Thread, messages: Sequence[NewMessage], now: int) -> None:
    """Adds messages, oldest first, to the end of a locked thread, whose row is not written yet."""
    tx.insert(*new_messages(thread, messages, now))


def new_messages(thread: Thread, messages: Sequence[NewMessage], now: int) -> list[Message]:
    """Returns messages, oldest first, at the end of a locked thread; no row is written yet."""
    return [_row(thread, new, now) for new in messages]


def _row(thread: Thread, new: NewMessage, now: int) -> Message:
    thread.last_position = ids.next_position(thread.last_position)
    return Message(
        id=ids.make_id(ids.MESSAGE, thread.last_position),
        project_id=thread.project_id,
        thread_id=thread.id,
        position=thread.last_position,
        context_position=thread.last_position,
        created_at=now,
        status=MessageStatus.completed,
        role=new.role,
        content=new.content,
        attachments=new.attachments,
        metadata_=new.metadata,
        completed_at=now,
    )
