"""Projects and their keys in the database.

What is stored of a key is its digest, which is what it is found by. Servers keep the valid keys in
memory: every change increases a version, which tells them to read them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import clock, ids, tables
from storage.lookup import by_id
from storage.repository import Repository, reads_all, writes_all
from storage.rows import ApiKey, Project, table
from storage.statements import Statement, param
from storage.transaction import Transaction

DEFAULT_PROJECT = "default"
"""The id and the name of the project of all that is called without keys."""

_KEYS = table(tables.ApiKey)
_PROJECTS = table(tables.Project)
_VERSIONS = table(tables.Version)
_VERSION_OF_KEYS = _VERSIONS.c.id == sa.literal("api_keys")
_LISTED = sa.select(_KEYS).join(_PROJECTS, _KEYS.c.project_id == _PROJECTS.c.id)

VERSION: Statement[Any] = Statement(sa.select(_VERSIONS.c.number).where(_VERSION_OF_KEYS))
CHANGE: Statement[Any] = Statement(
    sa.update(_VERSIONS).where(_VERSION_OF_KEYS).values(number=_VERSIONS.c.number + sa.literal(1))
)
VALID: Statement[Any] = Statement(
    sa.select(
        _KEYS.c.digest,
        _KEYS.c.project_id,
        _PROJECTS.c.name,
        _KEYS.c.name,
        _KEYS.c.id,
        _KEYS.c.expires_at,
    )
    .join(_PROJECTS, _KEYS.c.project_id == _PROJECTS.c.id)
    .where(
        _KEYS.c.revoked_at.is_(None),
        clock.is_ahead(_KEYS.c.expires_at),
    )
)
GET = Statement(sa.select(_KEYS).where(_KEYS.c.id == param("id")), ApiKey)
BY_DIGEST: Statement[Any] = Statement(
    sa.select(_KEYS.c.id).where(_KEYS.c.digest == param("digest"))
)
BY_NAME = Statement(sa.select(_PROJECTS).where(_PROJECTS.c.name == param("name")), Project)
LIST = Statement(_LISTED.order_by(_PROJECTS.c.name, _KEYS.c.position), ApiKey)
PROJECTS = Statement(sa.select(_PROJECTS).order_by(_PROJECTS.c.name), Project)


@dataclass(frozen=True, slots=True)
class ValidKey:
    """A key that is neither revoked nor expired."""

    digest: str
    project: str
    project_name: str
    name: str
    id: str
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class ValidKeys:
    """All valid keys, as of a version, and of the database's time `now`."""

    version: int
    now: float
    keys: Sequence[ValidKey]


class Keys(Repository):
    """Projects and their keys: what operators manage and servers check, not what callers see."""

    @writes_all
    def create(
        self, tx: Transaction, project: str, name: str, digest: str, lifetime: int | None = None
    ) -> ApiKey:
        """Inserts a key of the project of this name, which is made if there is none.

        It expires after `lifetime` seconds, if they are given.
        """
        tx.run(CHANGE)
        return _insert(tx, project, name, digest, lifetime)

    @writes_all
    def ensure(self, tx: Transaction, project: str, name: str, digest: str) -> None:
        """Does the same, unless there is a key of this digest, revoked or not."""
        tx.run(CHANGE)
        if tx.one(BY_DIGEST, digest=digest) is None:
            _insert(tx, project, name, digest, None)

    @writes_all
    def revoke(self, tx: Transaction, key_id: str) -> ApiKey:
        """Revokes a key, and returns it; one that was revoked stays as it is. Raises NotFound."""
        tx.run(CHANGE)
        key = by_id(tx, GET, "key", key_id)
        if key.revoked_at is not None:
            return key
        return tx.update(key, revoked_at=int(tx.now()))

    @reads_all
    def list(self, tx: Transaction) -> Sequence[ApiKey]:
        """Returns all keys, by their projects' names, oldest first."""
        return tx.all(LIST)

    @reads_all
    def projects(self, tx: Transaction) -> Sequence[Project]:
        """Returns all projects, by their names."""
        return tx.all(PROJECTS)

    @reads_all
    def valid(self, tx: Transaction, known: int | None = None) -> ValidKeys | None:
        """Returns the valid keys; None if nothing has changed since the version that is known."""
        version = int(tx.value(VERSION))
        if version == known:
            return None
        return ValidKeys(version, tx.now(), [ValidKey(*each) for each in tx.all(VALID)])


def _insert(tx: Transaction, project: str, name: str, digest: str, lifetime: int | None) -> ApiKey:
    now, position = int(tx.now()), ids.new_position()
    owner = tx.one(BY_NAME, name=project)
    if owner is None:
        owner = Project(id=ids.new_id(ids.PROJECT), name=project, created_at=now)
        tx.insert(owner)
    key = ApiKey(
        id=ids.make_id(ids.KEY, position),
        project_id=owner.id,
        position=position,
        created_at=now,
        name=name,
        digest=digest,
        expires_at=None if lifetime is None else now + lifetime,
    )
    tx.insert(key)
    return key
