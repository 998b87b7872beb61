"""The schema's versions: which the code makes, which code may run on it, and how it is migrated.

A version is the number of a migration. Code of one version and code of the next run side by side
while servers are replaced, on the schema of the next: so a migration only adds what the code before
it does not need, and what nobody needs any more goes one release later. The schema says which code
it still takes: older code does not start on it.
"""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from storage import tables
from storage.errors import TooOld
from storage.rows import table

OLDEST = 10
"""The oldest version of the code that may run on the schema that this code makes."""

ROW = "oldest_code"
"""The row of the versions in which a schema says so."""

_VERSIONS = table(tables.Version)
_IS_ROW = _VERSIONS.c.id == ROW
_OLDEST = sa.select(_VERSIONS.c.number).where(_IS_ROW)


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration has done; the same number twice if there was nothing to do."""

    before: int
    """0 where there was no schema."""
    after: int


def code_version() -> int:
    """Returns the version of this code: the number of its newest migration."""
    return int(ScriptDirectory.from_config(_config()).get_current_head() or 0)


def migrate(connection: Connection) -> Migrated:
    """Brings the schema up to date. One that is newer stays, if it takes this code.

    The caller holds the lock and commits. Raises TooOld.
    """
    config = _config()
    config.attributes["connection"] = connection
    own = code_version()
    before = int(MigrationContext.configure(connection).get_current_revision() or 0)
    if before > own:
        oldest = int(connection.scalar(_OLDEST) or before)
        if own < oldest:
            raise TooOld(own, oldest)
        return Migrated(before, before)
    command.upgrade(config, "head")
    if connection.scalar(_OLDEST) is None:
        connection.execute(sa.insert(_VERSIONS).values(id=ROW, number=OLDEST))
    elif connection.scalar(_OLDEST) != OLDEST:
        connection.execute(sa.update(_VERSIONS).where(_IS_ROW).values(number=OLDEST))
    return Migrated(before, own)


def _config() -> Config:
    config = Config()
    # Alembic's configuration takes % for the start of a placeholder.
    place = str(Path(__file__).parent / "migrations").replace("%", "%%")
    config.set_main_option("script_location", place)
    return config
