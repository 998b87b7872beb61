"""The index worker: on every server, indexes files that were put into vector stores.

It claims entries under a lease, as runs are claimed: what a crash leaves is taken up again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from service.files.blobs import BlobStore, BlobsUnavailable
from service.files.blobs.contents import Part, opened
from service.files.chunking import Strategy
from service.files.embeddings import EmbeddingFailed, TextRefused
from service.files.indexing import Indexer
from service.files.parsing import ParseFailed, failed
from service.files.parsing.kinds import readable
from service.files.parsing.parser import parse
from service.process import metrics
from service.process.waiting import wait_at_most
from storage.entry_claims import EntryClaim, EntryClaims
from storage.errors import StorageError

log = structlog.get_logger(__name__)

PERIOD = 1.0
"""Seconds between two looks for entries: those of this server wake it at once."""

RENEW_SECONDS = 1.0
"""Seconds between two renewals, at most: so soon an attempt stops that was cancelled."""

PAUSE = 30.0
"""Seconds after which a file is tried again that needs what is away."""

# What has not happened is 0, and not missing.
for each in ("completed", "failed", "lost"):
    metrics.INDEXED.labels(each)


class IndexWorker:
    """Indexes up to `concurrency` files at once."""

    def __init__(
        self,
        claims: EntryClaims,
        blobs: BlobStore,
        indexer: Indexer,
        *,
        concurrency: int,
        lease_seconds: float,
        max_bytes: int,
    ) -> None:
        """Claims entries through `claims`, reads `blobs`, and builds segments with `indexer`.

        A file has `max_bytes` at most.
        """
        self._claims = claims
        self._blobs = blobs
        self._indexer = indexer
        self._concurrency = concurrency
        self._max_bytes = max_bytes
        self._renew_after = min(lease_seconds / 3, RENEW_SECONDS)
        self._attempts: dict[asyncio.Task[None], EntryClaim] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Looks for entries now: there are new ones."""
        self._woken.set()

    async def work(self) -> None:
        """Claims and indexes until it is cancelled; then what it holds is given back."""
        try:
            while True:
                self._woken.clear()
                if free := self._concurrency - len(self._attempts):
                    await self._begin(free)
                await wait_at_most(self._woken, PERIOD)
        finally:
            await self._give_back()

    async def _begin(self, free: int) -> None:
        try:
            claims = await self._claims.claim(free)
        except StorageError as error:
            log.warning("no files claimed", problem=str(error))
            return
        for claim in claims:
            task = asyncio.create_task(self._attempt(claim), name=f"index {claim.row.file_id}")
            self._attempts[task] = claim
            task.add_done_callback(self._ended)
        metrics.INDEXING.set(len(self._attempts))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._attempts.pop(task, None)
        metrics.INDEXING.set(len(self._attempts))
        self._woken.set()

    async def _give_back(self) -> None:
        held = dict(self._attempts)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        for task, claim in held.items():
            if task.cancelled():
                with contextlib.suppress(StorageError):
                    await self._claims.release(claim)

    async def _attempt(self, claim: EntryClaim) -> None:
        """Indexes a file. What nobody expects is left to the next attempt, behind the lease."""
        building = asyncio.create_task(self._build(claim))
        renewing = asyncio.create_task(self._renew(claim, building))
        try:
            status = await building
        except asyncio.CancelledError:
            if building.cancelled() and not _is_cancelled():
                return  # The claim was lost.
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)
            raise
        except (EmbeddingFailed, BlobsUnavailable) as error:
            log.warning("a file was not indexed", file=claim.row.file_id, problem=str(error))
            if claim.row.segment is not None and not isinstance(error, TextRefused):
                await self._put_off(claim)
        except Exception:
            log.warning("a file was not indexed", file=claim.row.file_id, exc_info=True)
        else:
            metrics.INDEXED.labels(status).inc()
        finally:
            renewing.cancel()

    async def _put_off(self, claim: EntryClaim) -> None:
        """Has a file that is indexed again wait, found as before, for what it needs."""
        with contextlib.suppress(StorageError):
            await self._claims.put_off(claim, PAUSE)

    async def _build(self, claim: EntryClaim) -> str:
        """Returns the status to which an entry comes, or `lost`."""
        row = claim.row
        try:
            if claim.hopeless:
                raise failed("internal")
            strategy = row.chunking_strategy["static"]
            built = await self._indexer.build(
                row.project_id,
                row.vector_store_id,
                self._text(claim),
                Strategy(strategy["max_chunk_size_tokens"], strategy["chunk_overlap_tokens"]),
            )
        except ParseFailed as error:
            last_error = {"code": error.code, "message": error.message}
            return "failed" if await self._claims.fail(claim, last_error) else "lost"
        return "completed" if await self._claims.complete(claim, built.segment) else "lost"

    async def _text(self, claim: EntryClaim) -> AsyncIterator[str]:
        name, parts = claim.source.filename, [Part(*blob) for blob in claim.source.blobs]
        size = sum(part.size for part in parts)
        if not size:
            raise failed("empty")
        if not readable(name):
            raise failed("unsupported")
        if size > self._max_bytes:
            raise failed("too_large")
        async with (
            opened(self._blobs, parts) as file,
            contextlib.aclosing(parse(file, name)) as pieces,  # type: ignore[type-var]
        ):
            async for piece in pieces:
                yield piece

    async def _renew(self, claim: EntryClaim, building: "asyncio.Task[str]") -> None:
        """Renews the lease until it is cancelled. Stops an attempt that lost its claim."""
        while True:
            await asyncio.sleep(self._renew_after)
            try:
                held = await self._claims.renew(claim)
            except StorageError:
                continue  # If it stays away, the lease runs out, and a write finds that.
            if not held:
                building.cancel()
                return


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())
