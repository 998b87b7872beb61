"""Assistants in the database."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from storage import ids, pages, tables
from storage.errors import NotFound
from storage.lookup import by_id
from storage.pages import Page, PageRequest
from storage.repository import Repository, gets, writes
from storage.rows import Assistant, table
from storage.statements import Statement, param, project
from storage.transaction import Transaction

_TABLE = table(tables.Assistant)
_ONE = sa.select(_TABLE).where(_TABLE.c.project_id == project(), _TABLE.c.id == param("id"))
GET = Statement(_ONE, Assistant)
LOCK = Statement(_ONE.with_for_update(), Assistant)
DELETE: Statement[Any] = Statement(
    sa.delete(_TABLE).where(_TABLE.c.project_id == project(), _TABLE.c.id == param("id"))
)
LIST = pages.List(Assistant, ids.ASSISTANT, _TABLE.c.project_id == project())


class Assistants(Repository):
    """Assistants of a project."""

    @writes
    def create(self, tx: Transaction, values: Mapping[str, Any]) -> Assistant:
        """Inserts an assistant of these attributes and returns it."""
        position = ids.new_position()
        assistant = Assistant(
            id=ids.make_id(ids.ASSISTANT, position),
            project_id=tx.project,
            position=position,
            created_at=int(tx.now()),
            **values,
        )
        tx.insert(assistant)
        return assistant

    @gets
    def get(self, tx: Transaction, assistant_id: str) -> Assistant:
        """Returns an assistant. Raises NotFound."""
        return by_id(tx, GET, "assistant", assistant_id)

    @gets
    def list(self, tx: Transaction, page: PageRequest) -> Page[Assistant]:
        """Returns a page of the project's assistants. Raises InvalidCursor."""
        return LIST.page(tx, page)

    @writes
    def modify(self, tx: Transaction, assistant_id: str, changes: Mapping[str, Any]) -> Assistant:
        """Replaces the given attributes. Raises NotFound."""
        return tx.update(by_id(tx, LOCK, "assistant", assistant_id), **changes)

    @writes
    def delete(self, tx: Transaction, assistant_id: str) -> None:
        """Deletes an assistant; its runs stay. Raises NotFound."""
        if "\0" in assistant_id or not tx.run(DELETE, id=assistant_id):
            raise NotFound("assistant", assistant_id)
