"""Assistants in the database."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import clock, ids, pages
from storage.database import Database, finishing
from storage.lookup import by_id
from storage.pages import Page, PageRequest
from storage.tables import Assistant


@finishing
class Assistants:
    """Assistants of a project. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Works on `database`."""
        self._database = database

    async def create(self, project_id: str, values: Mapping[str, Any]) -> Assistant:
        """Inserts an assistant of these columns and returns it."""
        async with self._database.transaction() as session:
            position = ids.new_position()
            assistant = Assistant(
                id=ids.make_id(ids.ASSISTANT, position),
                project_id=project_id,
                position=position,
                created_at=int(await clock.read(session)),
                **values,
            )
            session.add(assistant)
        return assistant

    async def get(self, project_id: str, assistant_id: str) -> Assistant:
        """Returns an assistant. Raises NotFound."""
        async with self._database.read() as session:
            return await _one(session, project_id, assistant_id)

    async def list(self, project_id: str, page: PageRequest) -> Page[Assistant]:
        """Returns a page of the project's assistants. Raises InvalidCursor."""
        async with self._database.read() as session:
            where = Assistant.project_id == project_id
            return await pages.fetch(session, Assistant, ids.ASSISTANT, page, where)

    async def modify(
        self, project_id: str, assistant_id: str, changes: Mapping[str, Any]
    ) -> Assistant:
        """Replaces the given columns. Raises NotFound."""
        async with self._database.transaction() as session:
            assistant = await _one(session, project_id, assistant_id, lock=True)
            for column, value in changes.items():
                setattr(assistant, column, value)
        return assistant

    async def delete(self, project_id: str, assistant_id: str) -> None:
        """Deletes an assistant; its runs stay. Raises NotFound."""
        async with self._database.transaction() as session:
            await session.delete(await _one(session, project_id, assistant_id, lock=True))


async def _one(
    session: AsyncSession, project_id: str, assistant_id: str, *, lock: bool = False
) -> Assistant:
    statement = select(Assistant).where(
        Assistant.project_id == project_id, Assistant.id == assistant_id
    )
    if lock:
        statement = statement.with_for_update()
    return await by_id(session, statement, "assistant", assistant_id)
