"""Fixtures that several test packages use."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage import Storage
from storage.database import Database
from tests.postgres import Postgres, migrate, run_async


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, one per worker."""
    # Not pytest's own directory: a Unix socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        server = Postgres(Path(directory))
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'assistants.db'}"
        return
    # Asked for by name, so that tests on SQLite alone start no PostgreSQL.
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create_database("template0")
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, migrated_file: Path
) -> Iterator[str]:
    """The URL of a migrated database, new for each test."""
    if request.param == "sqlite":
        file = shutil.copy(migrated_file, tmp_path / "assistants.db")
        yield f"sqlite:///{file}"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to copy."""
    file = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    run_async(migrate(f"sqlite:///{file}"))
    return file


@pytest.fixture
async def storage(database_url: str) -> AsyncIterator[Storage]:
    """The repositories on a fresh database, on SQLite and on PostgreSQL."""
    database = Database(database_url)
    yield Storage(database)
    await database.close()
