"""`assistants migrate`: the schema of the database, brought up to date before servers need it."""

from gateway import children
from service.errors import SettingsError
from service.settings import Settings
from storage.database import Database
from storage.errors import Unreachable
from storage.schema import Migrated


async def migrate(settings: Settings) -> Migrated:
    """Brings the schema up to date. Raises SettingsError."""
    if settings.database_url is None:
        children.make_directory(settings.data_dir)
    database = Database(settings.effective_database_url)
    try:
        return await database.migrate()
    except Unreachable as error:
        raise SettingsError(f"ASSISTANTS_DATABASE_URL: {error}") from error
    finally:
        await database.close()


async def migrate_and_say(settings: Settings) -> None:
    """Does so, and prints what was done. Raises SettingsError."""
    done = await migrate(settings)
    if done.before == done.after:
        print(f"The schema is of version {done.after}: there is nothing to do.")
    else:
        print(f"The schema was of version {done.before}, and is of version {done.after} now.")
