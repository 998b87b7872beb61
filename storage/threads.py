"""Threads in the database."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from storage import ids, pages, tables, thread_lock, transitions
from storage.database import Database
from storage.dialects import has_pairs
from storage.lookup import by_id
from storage.messages import PORTION, NewMessage, new_messages
from storage.pages import Page, PageRequest
from storage.quotas import Quotas
from storage.repository import (
    Repository,
    gets,
    reads,
    writes,
    writes_to_thread,
    writes_whole_thread,
)
from storage.rows import Thread, table
from storage.statements import Statement, one_of, param, project
from storage.tables import ACTIVE, MessageStatus
from storage.transaction import Transaction
from storage.transitions import Ended

_TABLE = table(tables.Thread)
_MESSAGES = table(tables.Message)
_RUNS = table(tables.Run)

_OF_PROJECT = _TABLE.c.project_id == project()
LIST = pages.List(Thread, ids.THREAD, _OF_PROJECT)
LIST_WITH_PAIRS = pages.List(Thread, ids.THREAD, _OF_PROJECT, has_pairs(_TABLE.c.metadata, "pairs"))
# Messages, runs and steps go with their thread: ON DELETE CASCADE.
DELETE: Statement[Any] = Statement(sa.delete(_TABLE).where(_TABLE.c.id == param("id")))
ACTIVE_RUNS: Statement[Any] = Statement(
    sa.select(_RUNS.c.id).where(
        _RUNS.c.thread_id == param("thread_id"), one_of(_RUNS.c.status, ACTIVE)
    )
)
_COPIED = (
    sa.select(_MESSAGES.c.id)
    .where(
        _MESSAGES.c.thread_id == param("thread_id"),
        _MESSAGES.c.status != sa.literal(str(MessageStatus.in_progress)),
    )
    .order_by(_MESSAGES.c.position)
)
COPIED: Statement[Any] = Statement(_COPIED)
COPIED_UP_TO: Statement[Any] = Statement(
    _COPIED.where(_MESSAGES.c.position <= param("last", _MESSAGES.c.position))
)
POSITION: Statement[Any] = Statement(
    sa.select(_MESSAGES.c.position).where(
        _MESSAGES.c.thread_id == param("thread_id"), _MESSAGES.c.id == param("id")
    )
)


def _copy() -> Statement[Any]:
    """Returns the statement that copies a message. What it says never leaves the database."""
    # Their run stays behind, as runs are not copied.
    columns = {each.name: each for each in _MESSAGES.c if each.name != "run_id"}
    values: dict[str, Any] = {
        **columns,
        "id": param("new", columns["id"]),
        "position": param("new_position", columns["position"]),
        "context_position": param("new_position", columns["position"]),
        "thread_id": param("thread_id", columns["thread_id"]),
    }
    copies = sa.select(*values.values()).where(columns["id"] == param("old"))
    return Statement(sa.insert(_MESSAGES).from_select(list(values), copies))


COPY = _copy()


class Threads(Repository):
    """Threads of a project."""

    def __init__(self, database: Database, quotas: Quotas) -> None:
        """Works on `database`, within `quotas`."""
        super().__init__(database)
        self._quotas = quotas

    @writes
    def create(
        self,
        tx: Transaction,
        metadata: Mapping[str, str],
        tool_resources: Mapping[str, Any],
        messages: Sequence[NewMessage],
    ) -> Thread:
        """Inserts a thread with its first messages, oldest first, and returns it.

        Raises QuotaExceeded.
        """
        now = tx.now()
        self._quotas.admit(tx, now, messages=len(messages))
        thread = new_thread(tx, metadata, tool_resources, int(now))
        rows = new_messages(thread, messages, int(now))
        tx.insert(thread)
        tx.insert(*rows)
        return thread

    @gets
    def get(self, tx: Transaction, thread_id: str) -> Thread:
        """Returns a thread. Raises NotFound."""
        return thread_lock.find(tx, thread_id)

    @reads
    def list(self, tx: Transaction, page: PageRequest, metadata: Mapping[str, str]) -> Page[Thread]:
        """Returns a page of the project's threads whose metadata has all the given pairs.

        Raises InvalidCursor.
        """
        if not metadata:
            return LIST.page(tx, page)
        return LIST_WITH_PAIRS.page(tx, page, pairs=orjson.dumps(dict(metadata)).decode())

    @writes_whole_thread
    def copy(self, tx: Transaction, thread_id: str, up_to: str | None = None) -> Thread:
        """Inserts a thread that begins as another one did, and returns it.

        It has the other's metadata and tool resources, and copies of its messages up to and
        including the message `up_to`, or of all. Those that a run is still writing are left out.
        Raises NotFound (the thread, or the message), QuotaExceeded.
        """
        source = thread_lock.lock(tx, thread_id)
        copied = _messages(tx, source, up_to)
        now = tx.now()
        self._quotas.admit(tx, now, messages=len(copied))
        thread = new_thread(tx, source.metadata_, source.tool_resources, int(now))
        tx.insert(thread)
        _copy_messages(tx, copied, thread)
        if copied:
            thread_lock.advance(tx, thread)
        return thread

    @writes_to_thread
    def modify(self, tx: Transaction, thread_id: str, changes: Mapping[str, Any]) -> Thread:
        """Replaces the given attributes. Raises NotFound."""
        return tx.update(thread_lock.lock(tx, thread_id), **changes)

    @writes_whole_thread
    def delete(self, tx: Transaction, thread_id: str) -> Sequence[Ended]:
        """Deletes a thread with all it holds; returns the active runs that it cancelled.

        Raises NotFound.
        """
        thread_lock.lock(tx, thread_id)
        now = tx.now()
        ended = [
            transitions.end(tx, run_id, transitions.DISCARD, now)
            for (run_id,) in tx.all(ACTIVE_RUNS, thread_id=thread_id)
        ]
        self._quotas.count_thread(tx, thread_id)
        tx.run(DELETE, id=thread_id)
        return [each for each in ended if each is not None]


def new_thread(
    tx: Transaction, metadata: Mapping[str, str], tool_resources: Mapping[str, Any], now: int
) -> Thread:
    """Returns a thread of the transaction's project that is not inserted yet."""
    position = ids.new_position()
    return Thread(
        id=ids.make_id(ids.THREAD, position),
        project_id=tx.project,
        position=position,
        created_at=now,
        metadata_=dict(metadata),
        tool_resources=dict(tool_resources),
    )


def _messages(tx: Transaction, thread: Thread, up_to: str | None) -> list[str]:
    """Returns the ids of the messages that have ended, oldest first, to the end or `up_to` one."""
    if up_to is None:
        found = tx.all(COPIED, thread_id=thread.id)
    else:
        (last,) = by_id(tx, POSITION, "message", up_to, thread_id=thread.id)
        found = tx.all(COPIED_UP_TO, thread_id=thread.id, last=last)
    return [id for (id,) in found]


def _copy_messages(tx: Transaction, copied: Sequence[str], thread: Thread) -> None:
    """Inserts copies of the messages of these ids, in their order, into a new thread."""
    for start in range(0, len(copied), PORTION):
        changes = []
        for old in copied[start : start + PORTION]:
            thread.last_position = position = ids.next_position(thread.last_position)
            new = ids.make_id(ids.MESSAGE, position)
            changes.append(
                {"old": old, "new": new, "new_position": position, "thread_id": thread.id}
            )
        tx.many(COPY, changes)
