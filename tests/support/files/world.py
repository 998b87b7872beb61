"""Vector stores with texts in them, past the API."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import sqlalchemy as sa

from service.files.chunking import Strategy
from service.files.embeddings import Embedder
from service.files.embeddings.static import StaticEmbedder
from service.files.indexing import Indexer
from service.files.library import index_of
from service.files.search import Search
from service.files.vectors import VectorIndex
from storage import ids, tables
from storage.database import Database
from storage.rows import File, VectorStore, VectorStoreFile, table
from storage.segments import Segments
from storage.statements import Statement, param
from storage.transaction import Transaction
from storage.vector_stores import VectorStores

PROJECT = "proj_1"
_ENTRIES = table(tables.VectorStoreFile)
_POINT: Statement[Any] = Statement(
    sa.update(_ENTRIES)
    .where(_ENTRIES.c.id == param("entry_id"))
    .values(segment=param("segment", _ENTRIES.c.segment), status="completed")
)
_DELETE: Statement[Any] = Statement(
    sa.delete(_ENTRIES).where(_ENTRIES.c.file_id == param("file_id"))
)
_COUNT: Statement[Any] = Statement(
    sa.select(sa.func.count()).where(table(tables.File).c.id == param("file_id"))
)
_ANALYZE: Statement[Any] = Statement(sa.text("ANALYZE chunk_words"))


async def pieces(text: str, size: int = 50_000) -> AsyncIterator[str]:
    """A text as a parser yields it."""
    for at in range(0, len(text), size):
        yield text[at : at + size]


class World:
    """Makes stores and entries, and searches."""

    def __init__(
        self,
        database: Database,
        vectors: VectorIndex | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.database = database
        self.segments = Segments(database)
        self.vectors = vectors or index_of(database)
        self.embedder = embedder or StaticEmbedder()
        self.indexer = Indexer(self.segments, self.vectors, self.embedder)
        self.search = Search(self.segments, self.vectors, self.embedder)

    async def store(self, id: str) -> str:
        """Makes a vector store."""
        row = VectorStore(
            id=id,
            project_id=PROJECT,
            position=ids.new_position(),
            created_at=0,
            last_active_at=0,
            metadata_={},
            embedder=self.embedder.name,
        )
        await self.database.write(lambda tx: tx.insert(row), PROJECT)
        return id

    async def rows(self, *stores: str) -> list[VectorStore]:
        """Returns vector stores as they are now."""
        return [await VectorStores(self.database).get(PROJECT, id) for id in stores]

    async def entry(
        self, store: str, file_id: str, attributes: Mapping[str, Any] | None = None
    ) -> str:
        """Makes a file, unless there is one, and its entry; returns the entry's id."""
        common: dict[str, Any] = {"project_id": PROJECT, "created_at": 0}
        entry = VectorStoreFile(
            id=f"{store}.{file_id}",
            vector_store_id=store,
            file_id=file_id,
            status="in_progress",
            queued_at=0.0,
            attributes=dict(attributes or {}),
            chunking_strategy={},
            position=ids.new_position(),
            **common,
        )
        file = File(
            id=file_id,
            filename=f"{file_id}.txt",
            purpose="assistants",
            bytes=0,
            position=ids.new_position(),
            **common,
        )

        def work(tx: Transaction) -> None:
            if not tx.value(_COUNT, file_id=file_id):
                tx.insert(file)
            tx.insert(entry)

        await self.database.write(work, PROJECT)
        return entry.id

    async def put(
        self,
        store: str,
        file_id: str,
        text: str,
        attributes: Mapping[str, Any] | None = None,
        strategy: Strategy | None = None,
    ) -> int:
        """Puts a text into a store, visible at once; returns its segment."""
        entry = await self.entry(store, file_id, attributes)
        built = await self.indexer.build(PROJECT, store, pieces(text), strategy or Strategy())
        await self.point(entry, built.segment)
        return built.segment

    async def point(self, entry: str, segment: int | None) -> None:
        """Makes a segment visible as that of an entry."""
        await self.database.write(
            lambda tx: tx.run(_POINT, entry_id=entry, segment=segment), PROJECT
        )

    async def delete(self, file_id: str) -> None:
        """Deletes the entries of a file."""
        await self.database.write(lambda tx: tx.run(_DELETE, file_id=file_id), PROJECT)

    async def analyze(self) -> None:
        """Has PostgreSQL see how common words are, as it does by itself after a while."""
        if self.database.url.get_backend_name() == "postgresql":
            await self.database.write(lambda tx: tx.run(_ANALYZE))

    async def sweep(self) -> int:
        """Removes all segments that no entry names; returns in how many portions."""
        portions = 0
        for segment in await self.segments.orphans(-60):
            done = False
            while not done:
                done = await self.segments.remove(segment, self.vectors.remove)
                portions += 1
        return portions
