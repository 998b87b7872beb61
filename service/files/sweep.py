"""Removes what no vector store needs any more: files of those that expired, and lost segments."""

import asyncio

import structlog

from service.files.vectors import VectorIndex
from storage.errors import StorageError
from storage.segments import Segments
from storage.vector_stores import VectorStores

log = structlog.get_logger(__name__)

PERIOD = 1.0
"""Seconds between two rounds: expiry is noticed that fast."""

IDLE = 600.0
"""Seconds after which a segment that is not whole, and that nobody adds to, was lost in a crash."""


class Sweep:
    """Expires vector stores, and removes the segments that no entry names."""

    def __init__(self, stores: VectorStores, segments: Segments, vectors: VectorIndex) -> None:
        """Works on `stores`, and on `segments` with their `vectors`."""
        self._stores = stores
        self._segments = segments
        self._vectors = vectors

    async def work(self) -> None:
        """Makes one round after the other until it is cancelled."""
        while True:
            try:
                await self.round()
            except StorageError as error:
                log.warning("vector stores not swept", problem=str(error))
            await asyncio.sleep(PERIOD)

    async def round(self) -> None:
        """Does all that there is to do."""
        for project, store_id in await self._stores.due():
            await self._stores.expire(project, store_id)
        for segment in await self._segments.orphans(IDLE):
            while not await self._segments.remove(segment, self._vectors.remove):
                pass
