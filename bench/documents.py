"""Makes large vector stores: generated texts and vectors, written as the index worker writes them.

Words are as frequent as those of a language: the n-th has a frequency in proportion to 1/n. The
vectors are those of so many subjects, with noise. No text is parsed, cut or embedded, which would
take an hour where the rest takes minutes.
"""

import asyncio
import math
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from bench.stack import PATIENCE, Server
from service.files.embeddings import Matrix, normalized
from service.files.embeddings.static import StaticEmbedder
from service.files.library import index_of
from service.files.vectors import VectorIndex
from service.files.words import texts
from storage import ids, tables
from storage.database import Database
from storage.embeddings import index_name
from storage.neighbours import SIZE
from storage.rows import File, VectorStoreFile
from storage.segments import NewChunk, Segments, number
from storage.transaction import Transaction

PROJECT: Final = "default"
VOCABULARY: Final = 50_000
CHUNK_WORDS: Final = 600
"""About 800 tokens."""
CHUNK_TOKENS: Final = 800
FILE_CHUNKS: Final = 50
SUBJECTS: Final = 1_000
DIMENSIONS: Final = 256
CHUNK_BYTES: Final = 5_000
"""What a vector store counts for each, about."""
SLOWEST: Final = 0.02
"""Seconds for each chunk within which an index of neighbours is built."""
AT_ONCE: Final = 4
"""Files that are written at once."""

QUESTION: Final = (100, 20_000)
"""From which frequency rank on to which the words of a question are."""


class Generator:
    """Generates texts, questions and vectors; of the same seed always the same."""

    def __init__(self, seed: int = 1) -> None:
        """Takes its words from the tokenizer's, the commonest first, and makes more of two."""
        self._rng = np.random.default_rng(seed)
        short = [text[1:] for text in texts() if text[:1] == "▁" and text[1:].isalpha()]
        short = [word for word in short if word.isascii() and word.islower() and len(word) > 1]
        ends = self._rng.integers(0, len(short), (VOCABULARY, 2))
        pairs = [short[one] + short[other] for one, other in ends]
        self._words = list(dict.fromkeys([*short, *pairs]))[:VOCABULARY]
        rates = 1 / np.arange(1, len(self._words) + 1)
        self._reached = np.cumsum(rates / rates.sum())
        self._subjects = self._rng.standard_normal((SUBJECTS, DIMENSIONS), dtype=np.float32)

    def text(self, words: int = CHUNK_WORDS) -> str:
        """Returns a text of so many words."""
        drawn = np.searchsorted(self._reached, self._rng.random(words))
        return " ".join(self._words[min(int(n), len(self._words) - 1)] for n in drawn)

    def lines(self, size: int) -> Iterator[bytes]:
        """Yields lines of text, of so many bytes or a little more together."""
        while size > 0:
            line = self.text(20).encode() + b".\n"
            yield line
            size -= len(line)

    def question(self) -> str:
        """Returns a question of three to six words that tell something."""
        least, most = map(math.log, QUESTION)
        ranks = np.exp(self._rng.uniform(least, most, int(self._rng.integers(3, 7))))
        return " ".join(self._words[int(rank)] for rank in ranks)

    def vectors(self, count: int) -> Matrix:
        """Returns so many vectors."""
        of: npt.NDArray[np.int64] = self._rng.integers(0, SUBJECTS, count)
        noise = self._rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
        return normalized(self._subjects[of] + noise)


def fill(server: Server, chunks: int) -> str:
    """Makes a vector store of so many chunks, and returns its id."""
    store_id = str(server.post("/vector_stores", {})["id"])
    asyncio.run(_fill(server, store_id, chunks))
    engine = server.engine()
    try:
        if engine.dialect.name == "postgresql":
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                # What its own housekeeping does, some time later.
                connection.execute(sa.text("VACUUM (ANALYZE)"))
                connection.execute(sa.text("CHECKPOINT"))
        with engine.begin() as connection:
            store = tables.VectorStore.__table__  # type: ignore[attr-defined]
            known = {"embedder": StaticEmbedder.name, "usage_bytes": chunks * CHUNK_BYTES}
            connection.execute(sa.update(store).where(store.c.id == store_id).values(known))
    finally:
        engine.dispose()
    return store_id


def wait_for_neighbours(server: Server, store_id: str, chunks: int) -> float | None:
    """Waits until a large vector store has its index; returns for how long, None if it gets none.

    Raises TimeoutError.
    """
    engine = server.engine()
    name = f'"{index_name(store_id, DIMENSIONS)}"'
    is_whole = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    start = time.perf_counter()
    try:
        if engine.dialect.name == "sqlite" or chunks < SIZE:
            return None
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not connection.scalar(is_whole, {"name": name}):
                if time.perf_counter() - start > PATIENCE + chunks * SLOWEST:
                    raise TimeoutError("there is no index of neighbours")
                time.sleep(0.5)
    finally:
        engine.dispose()
    return time.perf_counter() - start


def disk_bytes(server: Server) -> int:
    """Returns how large the database of a server is."""
    engine = server.engine()
    size = "pg_database_size(current_database())"
    if engine.dialect.name == "sqlite":
        size = "page_count * page_size FROM pragma_page_count, pragma_page_size"
    try:
        with engine.connect() as connection:
            return int(connection.execute(sa.text(f"SELECT {size}")).scalar_one())
    finally:
        engine.dispose()


async def _fill(server: Server, store_id: str, chunks: int) -> None:
    database = Database(server.database_url)
    index = index_of(database)
    waiting, generator = asyncio.Semaphore(AT_ONCE), Generator()
    try:
        await index.open()
        async with asyncio.TaskGroup() as group:
            for start in range(0, chunks, FILE_CHUNKS):
                await waiting.acquire()
                count = min(FILE_CHUNKS, chunks - start)
                new = [NewChunk(0, CHUNK_TOKENS, generator.text()) for _ in range(count)]
                vectors = generator.vectors(count)
                task = group.create_task(_file(database, index, store_id, new, vectors))
                task.add_done_callback(lambda _: waiting.release())
    finally:
        await database.close()


async def _file(
    database: Database,
    index: VectorIndex,
    store_id: str,
    chunks: list[NewChunk],
    vectors: Matrix,
) -> None:
    segments = Segments(database)
    segment = await segments.begin(PROJECT, store_id, StaticEmbedder.name)
    await segments.add(PROJECT, segment, 0, chunks, lambda tx, first: index.add(tx, first, vectors))
    common: dict[str, Any] = {"project_id": PROJECT, "created_at": 0}
    file = File(
        id=f"file-{number(segment)}",
        filename="generated.txt",
        purpose="assistants",
        bytes=0,
        position=ids.new_position(),
        **common,
    )
    entry = VectorStoreFile(
        id=ids.make_id("vsf", ids.new_position()),
        vector_store_id=store_id,
        file_id=file.id,
        position=ids.new_position(),
        status="completed",
        queued_at=0.0,
        attributes={"part": segment % 100},
        chunking_strategy={},
        segment=segment,
        **common,
    )

    def put(tx: Transaction) -> None:
        tx.insert(file)
        tx.insert(entry)

    await database.write(put, PROJECT)
