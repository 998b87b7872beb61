"""Assistants in the database."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from storage import ids, pages, resources, store_lock, tables
from storage.lookup import by_id
from storage.pages import Page, PageRequest
from storage.repository import Repository, gets, writes
from storage.resources import Resources
from storage.rows import Assistant, table
from storage.statements import Statement, param, project
from storage.transaction import Transaction

_TABLE = table(tables.Assistant)
_ONE = sa.select(_TABLE).where(_TABLE.c.project_id == project(), _TABLE.c.id == param("id"))
GET = Statement(_ONE, Assistant)
LOCK = Statement(_ONE.with_for_update(), Assistant)
DELETE: Statement[Any] = Statement(
    sa.delete(_TABLE)
    .where(_TABLE.c.project_id == project(), _TABLE.c.id == param("id"))
    .returning(_TABLE.c.tool_resources)
)
LIST = pages.List(Assistant, ids.ASSISTANT, _TABLE.c.project_id == project())


class Assistants(Repository):
    """Assistants of a project."""

    @writes
    def create(self, tx: Transaction, values: Mapping[str, Any]) -> Assistant:
        """Inserts an assistant of these attributes and returns it.

        `tool_resources` are Resources. Raises NotFound (a file, a vector store).
        """
        given: Resources = values["tool_resources"]
        store_lock.lock_files(tx, given.files)
        now, position = tx.now(), ids.new_position()
        id = ids.make_id(ids.ASSISTANT, position)
        assistant = Assistant(
            id=id,
            project_id=tx.project,
            position=position,
            created_at=int(now),
            **{**values, "tool_resources": resources.settle(tx, id, given, now)},
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
        """Replaces the given attributes. Raises NotFound (also a file, a vector store)."""
        given: Resources | None = changes.get("tool_resources")
        if given is None:
            return tx.update(by_id(tx, LOCK, "assistant", assistant_id), **changes)
        by_id(tx, GET, "assistant", assistant_id)
        store_lock.lock_files(tx, given.files)
        assistant = by_id(tx, LOCK, "assistant", assistant_id)
        before = assistant.tool_resources
        stored = resources.settle(tx, assistant_id, given, tx.now(), before=before)
        return tx.update(assistant, **{**changes, "tool_resources": stored})

    @writes
    def delete(self, tx: Transaction, assistant_id: str) -> None:
        """Deletes an assistant; its runs stay. Raises NotFound."""
        (stored,) = by_id(tx, DELETE, "assistant", assistant_id)
        resources.forget(tx, assistant_id, stored)
