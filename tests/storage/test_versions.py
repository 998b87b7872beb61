"""A schema says which code it takes: code that is too old does not start on it."""

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import Storage, schema
from storage.database import Database
from storage.errors import TooOld
from storage.schema import Migrated
from tests.serve.test_failures import MODEL, refusal
from tests.support.storage.everything import do_everything

CODE = schema.code_version()
NEWER = CODE + 1


def make_newer(url: str, oldest: int) -> None:
    """Has the schema be one version newer than this code, and take code from `oldest` on."""
    with Database(url).connect() as connection, connection.begin():
        connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{NEWER:04}'"))
        statement = sa.text("UPDATE versions SET number = :oldest WHERE id = :id")
        assert connection.execute(statement, {"oldest": oldest, "id": schema.ROW}).rowcount == 1


def plain_tables(connection: sa.Connection) -> set[str]:
    """Returns the tables that can get a column: not SQLite's virtual ones, nor what is theirs."""
    names = set(sa.inspect(connection).get_table_names())
    if connection.dialect.name == "sqlite":
        special = "SELECT name FROM pragma_table_list WHERE type IN ('virtual', 'shadow')"
        names -= set(connection.scalars(sa.text(special)))
    return names


async def migrated(url: str) -> Migrated:
    database = Database(url)
    try:
        return await database.migrate()
    finally:
        await database.close()


async def test_what_is_done(empty_database_url: str) -> None:
    assert await migrated(empty_database_url) == Migrated(0, CODE)
    assert await migrated(empty_database_url) == Migrated(CODE, CODE)


async def test_code_of_the_release_before(database_url: str) -> None:
    """It starts, and leaves the schema as it is."""
    make_newer(database_url, CODE)
    assert await migrated(database_url) == Migrated(NEWER, NEWER)


async def test_this_code_on_a_schema_that_the_next_has_expanded(database_url: str) -> None:
    """It does all that it can: what is new has a default, and none of its statements minds."""
    database = Database(database_url)
    with database.connect() as connection, connection.begin():
        for name in plain_tables(connection):
            column = "next_release VARCHAR DEFAULT 'new' NOT NULL"
            connection.execute(sa.text(f"ALTER TABLE {name} ADD COLUMN {column}"))
        connection.execute(sa.text("CREATE TABLE next_release (id VARCHAR PRIMARY KEY)"))
    make_newer(database_url, CODE)
    assert await migrated(database_url) == Migrated(NEWER, NEWER)
    await do_everything(Storage(database))
    await database.close()


async def test_code_that_is_older(database_url: str) -> None:
    make_newer(database_url, NEWER)
    with pytest.raises(TooOld):
        await migrated(database_url)


def test_a_server_says_so_in_one_line(migrated_file: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'newer.db')}"
    make_newer(url, NEWER)
    line = refusal(MODEL | {"ASSISTANTS_DATABASE_URL": url})
    assert line == (
        f"ASSISTANTS_DATABASE_URL: its schema takes servers of version {NEWER} or newer, and this "
        f"one is of version {CODE}: install a newer release"
    )
