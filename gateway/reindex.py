"""`assistants reindex`: on the database, beside a server or without."""

import asyncio
from typing import Annotated

import typer

from service.errors import SettingsError
from service.files.library import embedder_of
from service.settings import Settings
from storage import Storage
from storage.database import Database
from storage.errors import Unreachable


def reindex(
    every: Annotated[
        bool, typer.Option("--all", help="Also those whose vectors are of the embedder in use.")
    ] = False,
) -> None:
    """Has vector stores indexed again whose vectors are not of the embedder in use.

    A server does it, now or when it starts. Until a file is done, its words are found as before.
    """
    settings = Settings.load()
    try:
        stores, files = asyncio.run(_reindex(settings, every=every))
    except Unreachable as error:
        raise SettingsError(f"ASSISTANTS_DATABASE_URL: {error}") from error
    print(f"{files} files of {stores} vector stores are indexed again", flush=True)


async def _reindex(settings: Settings, *, every: bool) -> tuple[int, int]:
    url = settings.embeddings_base_url
    key = settings.embeddings_api_key.get_secret_value()
    embedder = embedder_of(None if url is None else str(url), settings.embeddings_model, key)
    database = Database(settings.effective_database_url)
    try:
        await database.migrate()
        claims = Storage(database).entry_claims
        # No embedder has an empty name.
        stores = await claims.stale("" if every else embedder.name)
        files = [await claims.reindex(project, store_id) for project, store_id in stores]
        return len(stores), sum(files)
    finally:
        await embedder.close()
        await database.close()
