"""What a server keeps: the rows of every table, the words of the text index, and blobs."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import obstore
import psycopg
from obstore.store import S3Store
from sqlalchemy import make_url

from tests.support.files.s3 import BUCKET, S3Server

OF_THE_INDEX = ("chunk_words", "chunk_words_data", "chunk_words_idx", "chunk_words_config")
"""The text index of SQLite itself: which chunks are in it, `chunk_words_docsize` says."""


def rows(database_url: str) -> dict[str, int]:
    """Returns how many rows each table has that has any."""
    if database_url.startswith("sqlite"):
        path = make_url(database_url).database
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            names = (
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
            return _counted(lambda text: database.execute(text).fetchall(), names)
    with psycopg.connect(database_url) as connection:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        return _counted(lambda text: connection.execute(text.encode()).fetchall(), names)


def _counted(ask: Callable[[str], Sequence[Any]], names: str) -> dict[str, int]:
    found = {}
    for (name,) in ask(names):
        if name not in OF_THE_INDEX:
            [(count,)] = ask(f'SELECT count(*) FROM "{name}"')
            if count:
                found[name] = count
    return found


def indexed(database_url: str, word: str) -> int:
    """Returns how many chunks SQLite's text index has for a word; PostgreSQL's is their table's."""
    if not database_url.startswith("sqlite"):
        return 0
    path = make_url(database_url).database
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        text = "SELECT count(*) FROM chunk_words WHERE chunk_words MATCH ?"
        return int(database.execute(text, [word]).fetchone()[0])


def in_folder(folder: Path) -> list[str]:
    """Returns the names of all files of a local blob store, halves included."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def in_bucket(s3: S3Server, prefix: str) -> list[str]:
    """Returns the keys of the bucket below a prefix."""
    env = s3.env
    store = S3Store(
        BUCKET,
        endpoint=env["AWS_ENDPOINT_URL"],
        access_key_id=env["AWS_ACCESS_KEY_ID"],
        secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region=env["AWS_REGION"],
        client_options={"allow_http": True},
    )
    # The first object makes the bucket.
    obstore.put(store, "another", b"")
    return sorted(each["path"] for page in obstore.list(store, prefix) for each in page)
