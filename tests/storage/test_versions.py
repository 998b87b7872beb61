"""A schema says which code it takes: code that is too old does not start on it."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import Storage, schema
from storage.database import MIGRATION_LOCK, Database
from storage.errors import TooOld
from storage.schema import Migrated
from tests.serve.test_failures import MODEL, refusal
from tests.support.stack import COMMAND
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


@pytest.mark.parametrize(
    "arguments",
    [("serve",), ("worker",), ("migrate",), ("keys", "list"), ("reindex",)],
    ids=" ".join,
)
def test_every_command_says_so_in_one_line(
    migrated_file: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    url = f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'newer.db')}"
    make_newer(url, NEWER)
    line = refusal(MODEL | {"ASSISTANTS_DATABASE_URL": url}, arguments=arguments)
    assert line == (
        f"ASSISTANTS_DATABASE_URL: its schema takes servers of version {NEWER} or newer, and this "
        f"one is of version {CODE}: install a newer release"
    )


def test_commands_that_migrate_at_the_same_time(empty_database_url: str, tmp_path: Path) -> None:
    """One does, and the others wait for it."""
    env = {"ASSISTANTS_DATABASE_URL": empty_database_url, "ASSISTANTS_DATA_DIR": str(tmp_path)}
    commands = [
        subprocess.Popen([COMMAND, "migrate"], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = sorted(command.communicate()[0] for command in commands)
    assert [command.returncode for command in commands] == [0, 0, 0]
    nothing = f"The schema is of version {CODE}: there is nothing to do.\n"
    did = f"The schema was of version 0, and is of version {CODE} now.\n"
    assert said == [nothing, nothing, did]


async def test_a_migration_waits_for_the_lock(postgresql_url: str) -> None:
    """Whoever holds it may be migrating: nothing of the schema is read before that has ended."""
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    database = Database(postgresql_url)
    with database.connect() as connection, connection.begin():
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        migration = asyncio.create_task(database.migrate())
        while not connection.scalar(waiting):
            assert not migration.done()
            await asyncio.sleep(0.01)
        statement = sa.text("UPDATE versions SET number = :oldest WHERE id = :id")
        connection.execute(statement, {"oldest": NEWER, "id": schema.ROW})
        connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{NEWER:04}'"))
    with pytest.raises(TooOld):
        await migration
    await database.close()
