"""Files that are deleted leave all that names them, but for messages and steps."""

from typing import Any

import sqlalchemy as sa

from storage import assistants, entries, ids, resources, store_lock, thread_lock
from storage.errors import NotFound
from storage.lookup import by_id
from storage.rows import VectorStoreFile
from storage.statements import Statement, param
from storage.transaction import Transaction

OF_FILE = Statement(
    sa.select(entries.TABLE)
    .where(entries.TABLE.c.file_id == param("file_id"))
    .order_by(entries.TABLE.c.vector_store_id),
    VectorStoreFile,
)
STORES: Statement[Any] = Statement(
    sa.select(entries.TABLE.c.vector_store_id)
    .where(entries.TABLE.c.file_id == param("file_id"))
    .order_by(entries.TABLE.c.vector_store_id)
)


def leave(tx: Transaction, file_id: str) -> None:
    """Takes a locked file out of assistants, threads and vector stores.

    Nobody can name it meanwhile: whoever does locks it first (see store_lock.lock_files).
    """
    for (owner_id,) in tx.all(resources.USERS, resource_id=file_id):
        _leave_owner(tx, owner_id, file_id)
    for (store_id,) in tx.all(STORES, file_id=file_id):
        # One that has been deleted meanwhile has no entry any more.
        try:
            store_lock.lock(tx, store_id)
        except NotFound:
            continue
    entries.remove(tx, tx.all(OF_FILE, file_id=file_id))


def _leave_owner(tx: Transaction, owner_id: str, file_id: str) -> None:
    of_assistant = owner_id.startswith(ids.ASSISTANT)
    lock: Any = assistants.LOCK if of_assistant else thread_lock.LOCK
    try:
        owner: Any = by_id(tx, lock, "owner", owner_id)
    except NotFound:
        return
    before = owner.tool_resources
    stored = resources.without_file(before, file_id)
    resources.note(tx, owner_id, stored, before)
    tx.update(owner, tool_resources=stored)
