"""Threads in the database."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import clock, ids, transitions
from storage.database import Database
from storage.messages import NewMessage, add_messages
from storage.tables import ACTIVE, Run, Thread
from storage.thread_lock import find, lock
from storage.transitions import Ended


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

    async def modify(self, project_id: str, thread_id: str, changes: Mapping[str, Any]) -> Thread:
        """Replaces the given columns. Raises NotFound."""
        async with self._database.transaction() as session:
            thread = await lock(session, project_id, thread_id)
            for column, value in changes.items():
                setattr(thread, column, value)
        return thread

    async def delete(self, project_id: str, thread_id: str) -> list[Ended]:
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
    add_messages(session, thread, messages, int(now))
    return thread
