"""pgvector, which a PostgreSQL may have or not: its extension, and the table of vectors.

What is optional is not part of the migrations: the table is made as soon as there can be one. What
is done with it, storage.embeddings says; its indexes, storage.neighbours.
"""

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

NAME = "chunk_embeddings"

_USABLE = """
SELECT to_regtype('halfvec') IS NOT NULL AND EXISTS (
    SELECT FROM pg_extension
    WHERE extname = 'vector' AND string_to_array(extversion, '.')::int[] >= '{0,8}'
)
"""
"""Whether the extension has halves, and scans of an index that go on until enough is found."""

_TABLE = f"""
CREATE TABLE {NAME} (
    id BIGINT PRIMARY KEY, vector_store_id TEXT NOT NULL, embedding HALFVEC NOT NULL
)
"""
# Numbers do not get smaller by being compressed, and are read fastest in the row, where they fit.
_IN_LINE = f"""
ALTER TABLE {NAME} ALTER COLUMN embedding SET STORAGE EXTERNAL, SET (toast_tuple_target = 8160)
"""


def prepare(connection: sa.Connection) -> None:
    """Makes the extension and the table, where that is possible and was not done.

    The connection is in a transaction, and nobody else does the same meanwhile.
    """
    if connection.scalar(sa.text("SELECT to_regclass(:name) IS NOT NULL"), {"name": NAME}):
        return
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
    except DBAPIError:
        # PostgreSQL does not have it, or not for this role: vectors are packed.
        return
    if connection.scalar(sa.text(_USABLE)):
        connection.execute(sa.text(_TABLE))
        connection.execute(sa.text(_IN_LINE))
