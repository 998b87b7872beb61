"""Messages in the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import clock, ids, pages, thread_lock
from storage.database import Database, finishing
from storage.errors import LockedThread
from storage.lookup import by_id
from storage.pages import Page, PageRequest
from storage.tables import Message, MessageStatus, Thread

PORTION = 500
"""Messages that are handled in one go: it takes some ten milliseconds."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to insert; `content` is a list of parts as responses show them."""

    role: str
    content: list[dict[str, Any]]
    attachments: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


@finishing
class Messages:
    """Messages of a project's threads. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Works on `database`."""
        self._database = database

    async def create(
        self, project_id: str, thread_id: str, new: NewMessage, *, queue: bool = False
    ) -> Message:
        """Adds a message to the end of a thread.

        While a run is active this raises LockedThread, unless `queue` is true: then the message is
        for the next run. Raises NotFound.
        """
        async with self._database.transaction() as session:
            thread = await thread_lock.lock(session, project_id, thread_id)
            active = None if queue else await thread_lock.active_run(session, thread)
            if active is not None:
                raise LockedThread(thread.id, active)
            now = int(await clock.read(session))
            row = _row(thread, new, now)
            await session.exec(insert(Message), params=row)
            return Message(**row)

    async def get(self, project_id: str, thread_id: str, message_id: str) -> Message:
        """Returns a message. Raises NotFound."""
        async with self._database.read() as session:
            await thread_lock.find(session, project_id, thread_id)
            return await _one(session, thread_id, message_id)

    async def list(
        self, project_id: str, thread_id: str, page: PageRequest, run_id: str | None = None
    ) -> Page[Message]:
        """Returns a page of a thread's messages, or of those that a run wrote.

        Raises NotFound (the thread), InvalidCursor.
        """
        async with self._database.read() as session:
            await thread_lock.find(session, project_id, thread_id)
            where = [Message.thread_id == thread_id]
            if run_id is not None:
                where.append(Message.run_id == run_id)
            return await pages.fetch(session, Message, ids.MESSAGE, page, *where)

    async def modify(
        self, project_id: str, thread_id: str, message_id: str, changes: Mapping[str, Any]
    ) -> Message:
        """Replaces the given columns. Raises NotFound."""
        async with self._database.transaction() as session:
            await thread_lock.lock(session, project_id, thread_id)
            message = await _one(session, thread_id, message_id)
            for column, value in changes.items():
                setattr(message, column, value)
        return message

    async def delete(self, project_id: str, thread_id: str, message_id: str) -> None:
        """Deletes a message. Raises NotFound."""
        async with self._database.transaction() as session:
            await thread_lock.lock(session, project_id, thread_id)
            await session.delete(await _one(session, thread_id, message_id))


async def add_messages(
    session: AsyncSession, thread: Thread, messages: Sequence[NewMessage], now: int
) -> None:
    """Adds messages, oldest first, to the end of a locked thread.

    Others have their turn between portions: a request may bring very many.
    """
    for start in range(0, len(messages), PORTION):
        rows = [_row(thread, new, now) for new in messages[start : start + PORTION]]
        await session.exec(insert(Message), params=rows)


def _row(thread: Thread, new: NewMessage, now: int) -> dict[str, Any]:
    thread.last_position = ids.next_position(thread.last_position)
    return {
        "id": ids.make_id(ids.MESSAGE, thread.last_position),
        "project_id": thread.project_id,
        "thread_id": thread.id,
        "position": thread.last_position,
        "created_at": now,
        "status": MessageStatus.completed,
        "role": new.role,
        "content": new.content,
        "attachments": new.attachments,
        "metadata_": new.metadata,
        "completed_at": now,
    }


async def _one(session: AsyncSession, thread_id: str, message_id: str) -> Message:
    statement = select(Message).where(Message.thread_id == thread_id, Message.id == message_id)
    return await by_id(session, statement, "message", message_id)
