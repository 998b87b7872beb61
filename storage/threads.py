"""Threads in the database."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, inspect, literal
from sqlalchemy import insert as insert_into
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import clock, ids, pages, transitions
from storage.database import Database, finishing
from storage.json_pairs import has_pairs
from storage.lookup import by_id
from storage.messages import PORTION, NewMessage, add_messages
from storage.pages import Page, PageRequest
from storage.tables import ACTIVE, Message, MessageStatus, Run, Thread
from storage.thread_lock import find, lock
from storage.transitions import Ended


@finishing
class Threads:
    """Threads of a project. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Works on `database`."""
        self._database = database

    async def create(
        self,
        project_id: str,
        metadata: Mapping[str, str],
        tool_resources: Mapping[str, Any],
        messages: Sequence[NewMessage],
    ) -> Thread:
        """Inserts a thread with its first messages, oldest first, and returns it."""
        async with self._database.transaction() as session:
            return await insert(session, project_id, metadata, tool_resources, messages)

    async def get(self, project_id: str, thread_id: str) -> Thread:
        """Returns a thread. Raises NotFound."""
        async with self._database.read() as session:
            return await find(session, project_id, thread_id)

    async def list(
        self, project_id: str, page: PageRequest, metadata: Mapping[str, str]
    ) -> Page[Thread]:
        """Returns a page of the project's threads whose metadata has all the given pairs.

        Raises InvalidCursor.
        """
        where = [has_pairs(Thread.metadata_, metadata)] if metadata else []
        async with self._database.read() as session:
            parent = Thread.project_id == project_id
            return await pages.fetch(session, Thread, ids.THREAD, page, parent, *where)

    async def copy(self, project_id: str, thread_id: str, up_to: str | None = None) -> Thread:
        """Inserts a thread that begins as another one did, and returns it.

        It has the other's metadata and tool resources, and copies of its messages up to and
        including the message `up_to`, or of all. Those that a run is still writing are left out.
        Raises NotFound (the thread, or the message).
        """
        async with self._database.transaction() as session:
            source = await lock(session, project_id, thread_id)
            copied = await _messages(session, source, up_to)
            thread = await insert(session, project_id, source.metadata_, source.tool_resources, [])
            await _copy_messages(session, copied, thread)
        return thread

    async def modify(self, project_id: str, thread_id: str, changes: Mapping[str, Any]) -> Thread:
        """Replaces the given columns. Raises NotFound."""
        async with self._database.transaction() as session:
            thread = await lock(session, project_id, thread_id)
            for column, value in changes.items():
                setattr(thread, column, value)
        return thread

    async def delete(self, project_id: str, thread_id: str) -> Sequence[Ended]:
        """Deletes a thread with all it holds; returns the active runs that it cancelled.

        Raises NotFound.
        """
        async with self._database.transaction() as session:
            await lock(session, project_id, thread_id)
            now = await clock.read(session)
            active = select(Run.id).where(Run.thread_id == thread_id, col(Run.status).in_(ACTIVE))
            ended = [
                await transitions.end(session, run_id, transitions.DISCARD, now)
                for run_id in (await session.exec(active)).all()
            ]
            await session.flush()
            # Messages, runs and steps go with their thread: ON DELETE CASCADE.
            await session.exec(
                delete(Thread)
                .where(col(Thread.id) == thread_id)
                .execution_options(synchronize_session=False)
            )
        return [each for each in ended if each is not None]


async def insert(
    session: AsyncSession,
    project_id: str,
    metadata: Mapping[str, str],
    tool_resources: Mapping[str, Any],
    messages: Sequence[NewMessage],
) -> Thread:
    """Inserts a thread with its first messages into the running transaction."""
    position = ids.new_position()
    now = await clock.read(session)
    thread = Thread(
        id=ids.make_id(ids.THREAD, position),
        project_id=project_id,
        position=position,
        created_at=int(now),
        metadata_=dict(metadata),
        tool_resources=dict(tool_resources),
    )
    session.add(thread)
    await session.flush()
    await add_messages(session, thread, messages, int(now))
    return thread


async def _messages(session: AsyncSession, thread: Thread, up_to: str | None) -> list[str]:
    """Returns the ids of the messages that have ended, oldest first, to the end or `up_to` one."""
    statement = select(Message.id).where(
        Message.thread_id == thread.id, Message.status != MessageStatus.in_progress
    )
    if up_to is not None:
        last = select(Message.position).where(Message.thread_id == thread.id, Message.id == up_to)
        position = await by_id(session, last, "message", up_to)
        statement = statement.where(Message.position <= position)
    return list((await session.exec(statement.order_by(Message.position))).all())


async def _copy_messages(session: AsyncSession, copied: Sequence[str], thread: Thread) -> None:
    """Inserts copies of the messages of these ids, in their order, into a new thread."""
    # What they say never leaves the database. Their run stays behind, as runs are not copied.
    columns = {each.name: each for each in inspect(Message).columns if each.name != "run_id"}
    values = columns | {
        "id": bindparam("new", type_=columns["id"].type),
        "position": bindparam("new_position", type_=columns["position"].type),
        "thread_id": literal(thread.id),
    }
    copies = select(*values.values()).where(columns["id"] == bindparam("old"))
    statement = insert_into(Message).from_select(list(values), copies)
    connection = await session.connection()
    for start in range(0, len(copied), PORTION):
        changes = []
        for old in copied[start : start + PORTION]:
            thread.last_position = ids.next_position(thread.last_position)
            new = ids.make_id(ids.MESSAGE, thread.last_position)
            changes.append({"old": old, "new": new, "new_position": thread.last_position})
        await connection.execute(statement, changes)
