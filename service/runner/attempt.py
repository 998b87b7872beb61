"""One attempt at a run: claimed, kept alive, answered by the model, ended."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from service import metrics
from service.errors import from_exception
from service.models.client import ChatModel, Chunk, Finished, ModelError, Piece
from service.presentation.events import Event
from service.runner import events, prompt
from service.runner.answer import Answer, Ending
from service.runner.journal import Journal
from storage.claims import Claim, Claims, Context
from storage.errors import ClaimLost, Unreachable
from storage.tables import Run, RunStatus

log = structlog.get_logger(__name__)


FIRST_DELAY = 0.5
"""Seconds before a model is asked again, at most; twice as long before each further time."""

MAX_DELAY = 20.0

SORRY = "Sorry, something went wrong."
RATE_LIMIT = "Rate limit reached."
"""How the hosted service began a run's error: by these words, clients decide to ask again."""


class Stop(StrEnum):
    """Why an attempt breaks its model off."""

    cancelled = "cancelled"  # a caller asked for it
    expired = "expired"  # the run's time is up
    released = "released"  # this server shuts down: another may take the run
    lost = "lost"  # the run is no longer ours


STOPPED = {
    Stop.cancelled: Ending(status=RunStatus.cancelled, message_incomplete="run_cancelled"),
    Stop.expired: Ending(status=RunStatus.expired, message_incomplete="run_expired"),
}
"""How a run ends that was broken off."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an attempt may take."""

    lease_seconds: float
    """How long a claim holds; it is renewed three times as often."""
    model_retries: int
    """How often the model is asked again after a failure that may pass."""


class Attempt:
    """A worker's hold of a run, from its claim to its end."""

    def __init__(
        self, claim: Claim, claims: Claims, journal: Journal, model: ChatModel, limits: Limits
    ) -> None:
        """Executes the claimed run with `model`; tells `journal` what happens."""
        self.claim = claim
        self._claims = claims
        self._journal = journal
        self._model = model
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._claimed_at = self._loop.time()
        lifetime = (claim.run.expires_at or 0) - (claim.run.started_at or 0)
        self._deadline = self._claimed_at + lifetime
        self._stopped: asyncio.Future[Stop] = self._loop.create_future()
        self._answer = Answer(claims, claim, self._publish)

    def stop(self, why: Stop) -> None:
        """Breaks the model off, and lets `execute` end. The first reason counts."""
        if not self._stopped.done():
            self._stopped.set_result(why)

    async def execute(self) -> Run | None:
        """Executes the run until it ends, waits for tool outputs, or is not ours any more.

        Returns the run that waited behind it and may be executed now.
        """
        async with self._kept_alive():
            try:
                try:
                    return await self._execute()
                except Unreachable as error:
                    log.warning("database away", attempt=self.claim.attempt, error=str(error))
                    return await self._release()
            except ClaimLost:
                log.info("claim lost", attempt=self.claim.attempt)
                return None

    async def _execute(self) -> Run | None:
        run = self.claim.run
        try:
            await self._publish(
                *events.withdrawn(self.claim.withdrawn, run.started_at), *events.run(run)
            )
            ending = await self._turn()
            if ending is not None:
                return await self._end(self._answer.finish, ending)
            return await self._release() if self._stopped.result() == Stop.released else None
        except (ClaimLost, Unreachable):
            raise
        except Exception as defect:
            # Repeated, it would break down again and again.
            failed = _failed("server_error", from_exception(defect).message)
            return await self._end(self._answer.discard, failed)

    async def _turn(self) -> Ending | None:
        """Has the model answer once. Returns None when the run is not to be ended by us."""
        try:
            context = await self._claims.context(
                self.claim.run, self.claim.run.truncation_strategy["last_messages"]
            )
            with metrics.TURN_SECONDS.time():
                finished = await self._ask(context)
            if finished is not None:
                return self._finished(finished)
        except prompt.OutOfTokens as error:
            return Ending(status=RunStatus.incomplete, incomplete_reason=error.reason)
        except ModelError as error:
            return _failed(error.code, _told(error))
        except ClaimLost:
            # A cancelled run refuses all writes but its end; a lost one refuses that too.
            return STOPPED[Stop.cancelled]
        except Unreachable:
            raise
        except Exception as error:
            return _failed("server_error", from_exception(error).message)
        return STOPPED.get(self._stopped.result())

    async def _ask(self, context: Context) -> Finished | None:
        """Asks until the model has answered; returns None when the attempt was stopped before.

        Raises ModelError for a failure that does not pass, or came after a piece of the answer.
        """
        for retry in itertools.count():
            try:
                until = _until(self._stopped, self._chunks(context))
                async with contextlib.aclosing(until) as batches:
                    async for chunks in batches:
                        for chunk in chunks:
                            if self._stopped.done():
                                return None
                            if isinstance(chunk, Finished):
                                return chunk
                            await self._add(chunk)
                return None
            except ModelError as error:
                delay = self._delay(error, retry)
                if delay is None:
                    raise
                metrics.RETRIES.inc()
                log.info("model asked again", code=error.code, after=round(delay, 2))
            await asyncio.wait({self._stopped}, timeout=delay)
            if self._stopped.done():
                return None
        raise AssertionError("unreachable")

    async def _add(self, piece: Piece) -> None:
        if not self._answer.begun:
            metrics.FIRST_TOKEN_SECONDS.observe(self._loop.time() - self._claimed_at)
        await self._answer.add(piece)

    async def _chunks(self, context: Context) -> AsyncGenerator[list[Chunk], None]:
        # One generator for both: the counting of tokens can be broken off, too.
        request = await prompt.build(self.claim.run, context, self._model.tokens)
        while True:
            try:
                async with contextlib.aclosing(self._model.stream(request)) as batches:
                    async for chunks in batches:
                        yield chunks
                return
            except ModelError as error:
                if error.context is None:
                    raise
                # The refusal has told how much the model takes: with less, it may answer.
                shorter = await prompt.build(self.claim.run, context, self._model.tokens)
                if len(shorter["messages"]) >= len(request["messages"]):
                    raise
                log.info("asked with fewer messages", context=error.context)
                request = shorter

    def _delay(self, error: ModelError, retry: int) -> float | None:
        """Returns how many seconds to wait before the next try; None where there is to be none."""
        if not error.retryable or self._answer.begun or retry >= self._limits.model_retries:
            return None
        delay = min(FIRST_DELAY * 2**retry, MAX_DELAY) * random.uniform(0.5, 1)
        delay = max(delay, error.retry_after or 0)
        return delay if self._loop.time() + delay < self._deadline else None

    async def _release(self) -> Run | None:
        """Gives the run back, unless it was cancelled meanwhile: then nobody else would take it.

        If the database is away, this raises Unreachable, and the lease runs out.
        """
        try:
            withdrawn = await self._claims.release(self.claim)
        except ClaimLost:
            return await self._answer.finish(STOPPED[Stop.cancelled])
        await self._publish(*events.withdrawn(withdrawn, self.claim.run.started_at))
        return None

    def _finished(self, end: Finished) -> Ending:
        if end.usage is not None:
            for kind in ("prompt", "completion"):
                metrics.TOKENS.labels(kind).inc(end.usage[f"{kind}_tokens"])
        if end.reason == "content_filter":
            return Ending(
                status=RunStatus.failed,
                message_incomplete="content_filter",
                last_error={
                    "code": "server_error",
                    "message": "The model's content filter stopped the answer.",
                },
                usage=end.usage,
                replay=end.replay,
            )
        if end.reason == "length":
            return Ending(
                status=RunStatus.incomplete,
                message_incomplete="max_tokens",
                incomplete_reason="max_completion_tokens",
                usage=end.usage,
                replay=end.replay,
            )
        status = RunStatus.requires_action if self._answer.has_calls else RunStatus.completed
        return Ending(status=status, usage=end.usage, replay=end.replay)

    async def _end(
        self, end: Callable[[Ending], Awaitable[Run | None]], ending: Ending
    ) -> Run | None:
        try:
            return await end(ending)
        except ClaimLost:
            # Cancelled in the last moment? Then that is how it ends. Raises again if really lost.
            return await end(STOPPED[Stop.cancelled])

    async def _publish(self, *happened: Event) -> int:
        return await self._journal.tell(self.claim.run.id, self.claim.attempt, *happened)

    @contextlib.asynccontextmanager
    async def _kept_alive(self) -> AsyncIterator[None]:
        deadline = self._loop.call_at(self._deadline, self.stop, Stop.expired)
        name = f"heartbeat of {self.claim.run.id}"
        heartbeat = asyncio.create_task(self._heartbeat(), name=name)
        try:
            yield
        finally:
            deadline.cancel()
            heartbeat.cancel()
            await asyncio.gather(heartbeat, return_exceptions=True)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._limits.lease_seconds / 3)
            try:
                # Whether it was cancelled, the worker asks, and sooner: for all attempts at once.
                await self._claims.renew(self.claim)
            except ClaimLost:
                self.stop(Stop.lost)
            except Exception:
                # The database is away. It is tried again, until the lease has run out for good.
                log.warning("lease not renewed", run_id=self.claim.run.id, exc_info=True)


def _failed(code: str, message: str) -> Ending:
    return Ending(
        status=RunStatus.failed,
        message_incomplete="run_failed",
        last_error={"code": code, "message": message},
    )


def _told(error: ModelError) -> str:
    """Returns what a run says of a model that failed: the hosted service's sentence first."""
    match error.code:
        case "server_error":
            return f"{SORRY} {'The model server said: ' if error.quoted else ''}{error.message}"
        case "rate_limit_exceeded" if not error.message.startswith(RATE_LIMIT.rstrip(".")):
            return f"{RATE_LIMIT} {error.message}"
        case _:
            return error.message


async def _until(
    stopped: asyncio.Future[Stop], chunks: AsyncGenerator[list[Chunk], None]
) -> AsyncGenerator[list[Chunk], None]:
    """Yields the chunks until they end or `stopped` is set; closes them, whatever happens."""
    upcoming: asyncio.Task[list[Chunk]] | None = None
    try:
        while not stopped.done():
            upcoming = asyncio.ensure_future(_next(chunks))
            either: set[asyncio.Future[Any]] = {upcoming, stopped}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return
            yield upcoming.result()
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)
        await chunks.aclose()


async def _next(chunks: AsyncGenerator[list[Chunk], None]) -> list[Chunk]:
    return await anext(chunks)
