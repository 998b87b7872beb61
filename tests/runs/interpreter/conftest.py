"""An interpreter on a database of its own."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage import Storage
from storage.database import Database
from tests.support.runs.interpreters import Interpreter, interpreting
from tests.support.sandbox.places import temporary_root


@pytest.fixture
async def storage(tmp_path: Path, migrated_file: Path) -> AsyncIterator[Storage]:
    """On SQLite: what is particular here is not the database's."""
    database = Database(f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'assistants.db')}")
    yield Storage(database)
    await database.close()


@pytest.fixture
def root() -> Iterator[Path]:
    with temporary_root() as root:
        yield root


@pytest.fixture
async def interpreter(storage: Storage, root: Path) -> AsyncIterator[Interpreter]:
    async with interpreting(storage, root) as made:
        yield made
