"""Tool resources of assistants and threads: what they name must exist, and is noted.

What names a file or a vector store is a row of its own, so that it is found when that goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from storage import store_lock, tables, vector_stores
from storage.dialects import in_list
from storage.entries import NewEntry
from storage.errors import NotFound, StoreExpiredForRun
from storage.rows import ResourceUse, table
from storage.statements import Statement, param, project
from storage.transaction import Transaction

Stored = dict[str, Any]
"""Tool resources as rows have them and answers show them."""

THREAD_EXPIRY: Mapping[str, Any] = {"anchor": "last_active_at", "days": 7}
"""When a vector store expires that was made along with a thread."""

_USES = table(tables.ResourceUse)
_STORES = table(tables.VectorStore)

FOUND_STORES: Statement[Any] = Statement(
    sa.select(_STORES.c.id).where(_STORES.c.project_id == project(), in_list(_STORES.c.id, "ids"))
)
FORGET: Statement[Any] = Statement(sa.delete(_USES).where(_USES.c.owner_id == param("owner_id")))
USERS: Statement[Any] = Statement(
    sa.select(_USES.c.owner_id).where(_USES.c.resource_id == param("resource_id"))
)
# Of some vector stores, those that were made along with a thread, and that nobody else names.
LEFT: Statement[Any] = Statement(
    sa.select(_STORES.c.id).where(
        _STORES.c.project_id == project(),
        in_list(_STORES.c.id, "ids"),
        _STORES.c.of_thread,
        sa.select(sa.func.count())
        .where(_USES.c.resource_id == _STORES.c.id, _USES.c.owner_id != param("owner_id"))
        .scalar_subquery()
        == sa.literal(0),
    )
)


@dataclass(frozen=True, slots=True)
class NewStore:
    """A vector store to create along with an assistant or a thread."""

    metadata: Mapping[str, str]
    files: Sequence[NewEntry]


@dataclass(frozen=True, slots=True)
class Resources:
    """Tool resources of a request."""

    given: Mapping[str, Any] = field(default_factory=dict)
    """By tool. Those of a tool replace what there was of that tool."""
    new_store: NewStore | None = None
    """Becomes the vector store of file_search."""
    cleared: bool = False
    """Whether those of other tools go, too."""

    @property
    def files(self) -> list[str]:
        """The ids of all files that they name."""
        new = [] if self.new_store is None else [each.file_id for each in self.new_store.files]
        return [*file_ids(self.given), *new]

    @property
    def stores(self) -> list[str]:
        """The ids of all vector stores that they name."""
        return store_ids(self.given)


NOTHING = Resources(cleared=True)


def file_ids(stored: Mapping[str, Any]) -> list[str]:
    """Returns the files of code_interpreter."""
    return [*stored.get("code_interpreter", {}).get("file_ids", ())]


def store_ids(stored: Mapping[str, Any]) -> list[str]:
    """Returns the vector stores of file_search."""
    return [*stored.get("file_search", {}).get("vector_store_ids", ())]


def settle(
    tx: Transaction,
    owner_id: str,
    resources: Resources,
    now: float,
    *,
    before: Mapping[str, Any] | None = None,
    of_thread: bool = False,
) -> Stored:
    """Returns what an owner has then, who had what is `before`; creates the vector store.

    The files are locked (see store_lock.lock_files), and so is the owner. Raises NotFound (a vector
    store).
    """
    kept = {} if resources.cleared else dict(before or {})
    stored = {**kept, **resources.given}
    check_stores(tx, store_ids(resources.given))
    if resources.new_store is not None:
        store = make_store(tx, resources.new_store, now, of_thread=of_thread)
        stored["file_search"] = {"vector_store_ids": [store]}
    note(tx, owner_id, stored, before)
    return stored


def make_store(tx: Transaction, new: NewStore, now: float, *, of_thread: bool) -> str:
    """Creates a vector store along with a thread, which lets it expire, or an assistant."""
    values = {
        "metadata_": dict(new.metadata),
        "of_thread": of_thread,
        "expires_after": dict(THREAD_EXPIRY) if of_thread else None,
    }
    return vector_stores.insert(tx, values, new.files, now).id


def note(
    tx: Transaction, owner_id: str, stored: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """Notes what an owner names now, who named what was `before`."""
    if before is not None and _named(before):
        tx.run(FORGET, owner_id=owner_id)
    named = sorted(_named(stored))
    if named:
        common = {"owner_id": owner_id, "project_id": tx.project}
        tx.insert(*(ResourceUse(resource_id=id, **common) for id in named))


def forget(tx: Transaction, owner_id: str, stored: Mapping[str, Any]) -> None:
    """Forgets an owner that goes, and what was made along with it and nobody else names."""
    if not _named(stored):
        return
    left = tx.all(LEFT, ids=store_ids(stored), owner_id=owner_id)
    tx.run(FORGET, owner_id=owner_id)
    for (store_id,) in left:
        store_lock.lock(tx, store_id)
        vector_stores.remove(tx, store_id)


def check_run(tx: Transaction, run: Mapping[str, Any], thread: Mapping[str, Any]) -> None:
    """Refuses a run with file_search whose vector stores are gone or have expired.

    `run` has the values of its row, `thread` the tool resources of its thread. Raises NotFound,
    StoreExpiredForRun.
    """
    if not any(tool["type"] == "file_search" for tool in run["tools"]):
        return
    for store_id in [*store_ids(run.get("tool_resources") or {}), *store_ids(thread)]:
        if store_lock.find(tx, store_id).expired:
            raise StoreExpiredForRun(store_id)


def without_file(stored: Mapping[str, Any], file_id: str) -> Stored:
    """Returns tool resources in which code_interpreter does not have a file."""
    kept = [each for each in file_ids(stored) if each != file_id]
    return {**stored, "code_interpreter": {"file_ids": kept}}


def check_stores(tx: Transaction, ids: Sequence[str]) -> None:
    """Raises NotFound unless there are all of these vector stores."""
    if not ids:
        return
    found = {id for (id,) in tx.all(FOUND_STORES, ids=[id for id in ids if "\0" not in id])}
    for id in ids:
        if id not in found:
            raise NotFound(store_lock.KIND, id)


def _named(stored: Mapping[str, Any]) -> set[str]:
    return {*file_ids(stored), *store_ids(stored)}
