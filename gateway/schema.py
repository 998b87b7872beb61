"""`assistants migrate`: the schema of the database, brought up to date before servers need it."""

from service.errors import SettingsError
from service.settings import Settings
from storage.database import Database
from storage.errors import Unreachable


async def migrate(settings: Settings) -> None:
    """Brings the schema up to date. Raises SettingsError."""
    database = Database(settings.effective_database_url)
    try:
        await database.migrate()
    except Unreachable as error:
        raise SettingsError(f"ASSISTANTS_DATABASE_URL: {error}") from error
    finally:
        await database.close()
