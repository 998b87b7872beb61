"""All that is done with files: their blobs, the index worker, the search."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from service.files.blobs import BlobStore
from service.files.embeddings import Embedder
from service.files.embeddings.remote import RemoteEmbedder
from service.files.embeddings.static import StaticEmbedder
from service.files.indexing import Indexer
from service.files.leftovers import Leftovers
from service.files.search import Search
from service.files.sweep import Sweep
from service.files.vectors import VectorIndex
from service.files.vectors.packed import PackedIndex
from service.files.vectors.pgvector import PgvectorIndex
from service.files.worker import IndexWorker
from storage import Storage
from storage.database import Database

Rewrite = Callable[[Sequence[str]], Awaitable[Sequence[str]]]
"""Returns the queries of a search as a model words them."""


class Library:
    """The files of one server."""

    def __init__(
        self,
        storage: Storage,
        blobs: BlobStore,
        embedder: Embedder,
        rewrite: Rewrite,
        *,
        concurrency: int,
        lease_seconds: float,
        max_bytes: int,
    ) -> None:
        """Indexes up to `concurrency` files of up to `max_bytes` at once, under leases."""
        self.blobs = blobs
        self._embedder = embedder
        self.rewritten = rewrite
        self._vectors = vectors = index_of(storage.database)
        self.search = Search(storage.segments, vectors, embedder)
        self._worker = IndexWorker(
            storage.entry_claims,
            blobs,
            Indexer(storage.segments, vectors, embedder),
            concurrency=concurrency,
            lease_seconds=lease_seconds,
            max_bytes=max_bytes,
        )
        self._leftovers = Leftovers(storage.files, storage.uploads, blobs)
        self._sweep = Sweep(storage.vector_stores, storage.segments, vectors)

    async def open(self) -> None:
        """Looks at what the database has, once it has its tables. Raises StorageError."""
        await self._vectors.open()

    def wake(self) -> None:
        """Indexes what was put into vector stores just now."""
        self._worker.wake()

    async def work(self, *, indexes: bool = True) -> None:
        """Sweeps until cancelled, and indexes, unless that is left to other servers.

        Any exception is a defect of this program.
        """
        async with asyncio.TaskGroup() as group:
            if indexes:
                group.create_task(self._worker.work(), name="index worker")
            group.create_task(self._leftovers.work(), name="leftovers of files")
            group.create_task(self._sweep.work(), name="sweep of vector stores")
            group.create_task(self._vectors.work(), name="indexes of vectors")

    async def close(self) -> None:
        """Closes connections."""
        with contextlib.suppress(OSError):
            await self._embedder.close()


def index_of(database: Database) -> VectorIndex:
    """Returns the index of vectors that is for a kind of database."""
    is_postgresql = database.url.get_backend_name() == "postgresql"
    return PgvectorIndex(database) if is_postgresql else PackedIndex(database)


def embedder_of(base_url: str | None, model: str, api_key: str) -> Embedder:
    """Returns the embedder of a server of embeddings, or the static one where there is none."""
    return StaticEmbedder() if base_url is None else RemoteEmbedder(base_url, model, api_key)
