"""The migrations make exactly the tables that the code declares."""

import asyncio
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlmodel import SQLModel

from storage.database import Database

ONLY_ON_POSTGRESQL = {"threads_by_metadata"}
"""Indexes that are declared for one database: Alembic does not read `ddl_if`."""

OWN = ("chunk_words", "chunk_embeddings")
"""Tables of one database alone, or of its extension, and how names begin of others beside them."""


def differences(connection: Connection) -> list[Any]:
    """Returns what the tables of a database have otherwise than they are declared."""

    def named(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "table" or not str(name).startswith(OWN)

    def counts(item: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
        here = connection.dialect.name == "postgresql" or name not in ONLY_ON_POSTGRESQL
        return here or reflected

    options = {
        "compare_type": True,
        "compare_server_default": True,
        "include_name": named,
        "include_object": counts,
    }
    return list(
        compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata)
    )


async def test_the_migrations_make_the_declared_tables(database_url: str) -> None:
    database = Database(database_url)
    with database.connect() as connection:
        assert differences(connection) == []
    await database.close()


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    database = Database(database_url)
    await database.migrate()
    await database.close()


async def test_servers_that_start_together_migrate_once(empty_database_url: str) -> None:
    servers = [Database(empty_database_url) for _ in range(8)]
    await asyncio.gather(*(server.migrate() for server in servers))
    await asyncio.gather(*(server.close() for server in servers))
