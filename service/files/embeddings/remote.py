"""Embeddings of any server that has OpenAI's `/v1/embeddings`."""

import asyncio
import contextlib
import math
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
import orjson
import structlog

from service.files.chunking import Chunk
from service.files.embeddings import EmbeddingFailed, Matrix, TextRefused, normalized

log = structlog.get_logger(__name__)

BATCH = 32
"""Texts of one request: some servers take no more."""

REQUESTS = 4
"""Requests for documents on their way at the same time."""

RETRIES = 6
"""How often a request for documents is made again: an index worker has time."""

QUERY_RETRIES = 1
"""The same for queries: once, as a connection that was kept may be gone."""

QUERY_PAUSE = 2.0
"""Seconds before that, at most."""

QUERY_PATIENCE = 10.0
"""Seconds in which queries must have their vectors. Somebody waits for the search, and full text
alone finds most of what there is to find.
"""

FIRST_DELAY = 0.5
MAX_DELAY = 30.0
"""Seconds before a request is made again: each time twice as many, with some chance."""

TIMEOUT = 120.0
"""Seconds that a request for documents may take."""

SHORTEST = 200
"""Characters of a text that is not divided any more, if the server finds it too long."""

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may succeed."""


class RemoteEmbedder:
    """Vectors of one model of one server."""

    weight = 0.75

    def __init__(self, base_url: str, model: str, api_key: str, *, delay: float = FIRST_DELAY):
        """Connects to nothing yet. `base_url` goes up to and with `/v1`."""
        self.name = f"{model}@{base_url.rstrip('/')}"
        self._url = base_url.rstrip("/") + "/embeddings"
        self._model = model
        self._key = api_key
        self._delay = delay
        self._session: aiohttp.ClientSession | None = None
        self._indexing = _Policy(RETRIES, math.inf, asyncio.Semaphore(REQUESTS))
        # Queries do not stand in line behind what is indexed.
        self._searching = _Policy(QUERY_RETRIES, QUERY_PAUSE, contextlib.nullcontext())

    async def documents(self, chunks: Sequence[Chunk]) -> Matrix:
        """Returns the vector of each chunk."""
        return await self._matrix([chunk.text for chunk in chunks], self._indexing)

    async def queries(self, texts: Sequence[str]) -> Matrix:
        """Returns the vector of each query."""
        try:
            async with asyncio.timeout(QUERY_PATIENCE):
                return await self._matrix(texts, self._searching)
        except TimeoutError as error:
            problem = f"{self.name}: no answer in {QUERY_PATIENCE:g} seconds"
            raise EmbeddingFailed(problem) from error

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _matrix(self, texts: Sequence[str], policy: "_Policy") -> Matrix:
        # Servers refuse texts that are empty.
        given = [text if text.strip() else "-" for text in texts]
        batches = [given[at : at + BATCH] for at in range(0, len(given), BATCH)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._embed(batch, policy)) for batch in batches]
        except* EmbeddingFailed as errors:
            [first, *_] = errors.exceptions
            kind = TextRefused if isinstance(first, TextRefused) else EmbeddingFailed
            raise kind(str(first)) from errors
        rows = [row for task in tasks for row in task.result()]
        if len({len(row) for row in rows}) > 1:
            raise EmbeddingFailed(f"{self.name} gives vectors of several lengths")
        return normalized(np.array(rows, dtype=np.float32).reshape(len(rows), -1))

    async def _embed(self, texts: list[str], policy: "_Policy") -> list[Any]:
        """Returns the vectors of texts, fewer at a time if the server wants that."""
        try:
            return await self._ask(texts, policy)
        except _Refused as error:
            if len(texts) > 1:
                at = len(texts) // 2
                return await self._embed(texts[:at], policy) + await self._embed(texts[at:], policy)
            (text,) = texts
            if not error.is_of_text:
                raise EmbeddingFailed(f"{self.name} refuses: {error}") from error
            if len(text) < 2 * SHORTEST:
                raise TextRefused(f"{self.name} refuses: {error}") from error
            # Longer than the model takes: it is as much about its halves.
            at = text.find(" ", len(text) // 2) + 1 or len(text) // 2
            rows = await self._embed([text[:at]], policy) + await self._embed([text[at:]], policy)
            return [normalized(np.array(rows, dtype=np.float32)).mean(axis=0)]

    async def _ask(self, texts: list[str], policy: "_Policy") -> list[Any]:
        """Makes a request until it succeeds. Raises _Refused, EmbeddingFailed."""
        delay = self._delay
        for attempt in range(policy.retries + 1):
            try:
                async with policy.turn:
                    return await self._request(texts)
            except _MayPass as error:
                wait = delay if error.after is None else error.after
                if attempt == policy.retries or wait > policy.longest_pause:
                    raise EmbeddingFailed(f"{self.name}: {error}") from error
                log.info("embeddings are asked for again", model=self.name, problem=str(error))
                await asyncio.sleep(min(wait, MAX_DELAY) * random.uniform(0.75, 1.25))
                delay *= 2
        raise AssertionError("the last attempt returns or raises")

    async def _request(self, texts: list[str]) -> list[Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        headers = {
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
        }
        try:
            async with self._session.post(
                self._url, data=orjson.dumps(body), headers=headers
            ) as response:
                data = await response.read()
                if response.status == 200:
                    return _vectors(data, len(texts))
                text = data[:300].decode(errors="replace")
                problem = f"status {response.status}: {text}"
                if response.status in PASSING:
                    raise _MayPass(problem, _after(response.headers.get("retry-after")))
                raise _Refused(problem, is_of_text=response.status in (400, 413, 422))
        except (TimeoutError, aiohttp.ClientError) as error:
            raise _MayPass(str(error) or type(error).__name__) from error


@dataclass(frozen=True, slots=True)
class _Policy:
    """How requests are made again, and how many at the same time."""

    retries: int
    longest_pause: float
    """Seconds: a server that wants to be left alone for longer is not asked again."""
    turn: AbstractAsyncContextManager[None]
    """For which each request waits."""


class _MayPass(Exception):
    """The request failed and may be made again, after some seconds if the server says so."""

    def __init__(self, problem: str, after: float | None = None) -> None:
        super().__init__(problem)
        self.after = after


class _Refused(Exception):
    """The server does not take the request as it is."""

    def __init__(self, problem: str, *, is_of_text: bool) -> None:
        """`is_of_text`: for what the texts are, be it that one is too long."""
        super().__init__(problem)
        self.is_of_text = is_of_text


def _vectors(data: bytes, count: int) -> list[Any]:
    """Returns the vectors of an answer, in the order of the texts."""
    try:
        items = orjson.loads(data)["data"]
        if all("index" in item for item in items):
            items = sorted(items, key=lambda item: item["index"])
        rows = [np.array(item["embedding"], dtype=np.float32) for item in items]
    except (ValueError, KeyError, TypeError) as error:
        raise _MayPass(f"an answer without embeddings: {error!r}") from error
    if len(rows) != count or not all(
        row.ndim == 1 and len(row) and np.isfinite(row).all() for row in rows
    ):
        raise _MayPass(f"{len(rows)} embeddings for {count} texts, or broken ones")
    return rows


def _after(value: str | None) -> float | None:
    try:
        return max(float(value), 0.0) if value else None
    except ValueError:
        # A date: the server's clock is not ours.
        return None
