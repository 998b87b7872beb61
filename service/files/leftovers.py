"""What goes by itself: files and uploads that expire, and blobs that nothing names.

A blob is named by its row as soon as it is whole, in the next transaction. One that has no row for
long was left by a crash, or its file is gone. Keys are never used twice, not even for the same
content: an upload that goes on meanwhile has others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from service.files.blobs import BlobError, BlobStore
from storage import wall_clock
from storage.errors import Unreachable
from storage.files import Files
from storage.uploads import Uploads

log = structlog.get_logger(__name__)

PERIOD = 5.0
"""Seconds between two looks at what has expired. It cannot be seen any more before."""

BLOBS_PERIOD = 3600.0
"""Seconds between two looks at all blobs."""

OLD = 3600.0
"""Seconds after which a blob without a row is left over. Clocks may differ by less."""

PORTION = 1000
"""Blobs that are looked up at once."""


async def discard(blobs: BlobStore, keys: Sequence[str]) -> None:
    """Deletes blobs that nothing names any more; what cannot be deleted now is swept."""
    for key in keys:
        try:
            await blobs.delete(key)
        except BlobError as error:
            log.warning("a blob is left to be swept", key=key, reason=str(error))


class Leftovers:
    """Deletes what has expired and what is left over, of all projects."""

    def __init__(self, files: Files, uploads: Uploads, blobs: BlobStore) -> None:
        """Works on the rows of `files` and `uploads`, and on `blobs`."""
        self._files = files
        self._uploads = uploads
        self._blobs = blobs

    async def work(self) -> None:
        """Sweeps again and again until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self.expire, PERIOD), name="expired files")
            group.create_task(self._repeat(self.sweep, BLOBS_PERIOD), name="leftover blobs")

    async def expire(self) -> None:
        """Deletes the files that have expired, and ends such uploads."""
        for project, file_id in await self._files.expired():
            await discard(self._blobs, await self._files.expire(project, file_id))
        for project, upload_id in await self._uploads.overdue():
            await discard(self._blobs, await self._uploads.expire(project, upload_id))

    async def sweep(self, old: float = OLD) -> int:
        """Deletes blobs that are `old` seconds old and that no row names; returns how many."""
        before = wall_clock.now() - old
        found = await self._blobs.sweep(before)
        keys: list[str] = []
        async for key in self._blobs.keys(before):
            keys.append(key)
            if len(keys) == PORTION:
                found += await self._delete_unknown(keys)
                keys = []
        found += await self._delete_unknown(keys)
        if found:
            log.info("leftover blobs deleted", number=found)
        return found

    async def _delete_unknown(self, keys: Sequence[str]) -> int:
        unknown = await self._files.unknown_blobs(keys)
        await discard(self._blobs, unknown)
        return len(unknown)

    async def _repeat(self, work: Callable[[], Awaitable[object]], period: float) -> None:
        while True:
            try:
                await work()
            except (Unreachable, BlobError) as error:
                # There is another time.
                log.warning("sweep failed", reason=str(error))
            except Exception:
                log.warning("sweep failed", exc_info=True)
            await asyncio.sleep(period)
