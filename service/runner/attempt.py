"""One attempt at a run: claimed, kept alive, answered by the model, ended."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from service.errors import from_exception
from service.models.client import ChatModel, Chunk, Finished, ModelError, Piece
from service.process import metrics
from service.runner import prompt
from service.runner.answer import Answer, Ending
from service.runner.events import build
from service.runner.events.bus import Stop
from service.runner.events.publisher import Publisher
from service.runner.history import History
from service.runner.lease import LeaseRenewal
from service.runner.openings import Openings, PendingWrites
from service.runner.stops import STOPPED
from storage.claims import Claim, Claims
from storage.errors import ClaimLost, Unreachable
from storage.tables import Run, RunStatus

log = structlog.get_logger(__name__)


FIRST_DELAY = 0.5
"""Seconds before a model is asked again, at most; twice as long before each further time."""

MAX_DELAY = 20.0

SORRY = "Sorry, something went wrong."
RATE_LIMIT = "Rate limit reached."
"""How the hosted service began a run's error: by these words, clients decide to ask again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an attempt may take."""

    lease_seconds: float
    """How long a claim holds; it is renewed three times as often."""
    model_retries: int
    """How often the model is asked again after a failure that may pass."""
    prompt_bytes: int = 2**20
    """Bytes of the thread's turns in a prompt for a model whose context is not known."""


class Attempt:
    """A worker's hold of a run, from its claim to its end."""

    def __init__(
        self,
        claim: Claim,
        claims: Claims,
        publisher: Publisher,
        model: ChatModel,
        limits: Limits,
        pending_writes: PendingWrites,
    ) -> None:
        """Executes the claimed run with `model`; tells `publisher` what happens.

        `pending_writes` knows what has been told of it and is not stored yet.
        """
        self.claim = claim
        self._claims = claims
        self._publisher = publisher
        self._model = model
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._claimed_at = self._loop.time()
        lifetime = (claim.run.expires_at or 0) - (claim.run.started_at or 0)
        self._deadline = self._claimed_at + lifetime
        self._why: Stop | None = None
        self._reading: asyncio.Task[Finished] | None = None
        openings = Openings(claims, claim, self._now, pending_writes, self._refused)
        self._answer = Answer(claims, claim, publisher, openings)

    def stop(self, why: Stop) -> None:
        """Breaks the model off, and lets `execute` end. The first reason counts."""
        if self._why is None:
            self._why = why
            self._break_off()

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
            finally:
                await self._answer.close()

    async def _execute(self) -> Run | None:
        try:
            await self._begin()
            ending = await self._turn()
            if ending is not None:
                return await self._end(self._answer.finish, ending)
            return await self._release() if self._why == Stop.released else None
        except (ClaimLost, Unreachable):
            raise
        except Exception as defect:
            # Repeated, it would break down again and again.
            failed = _failed("server_error", from_exception(defect).message)
            return await self._end(self._answer.discard, failed)

    async def _begin(self) -> None:
        run, withdrawn = self.claim.run, self.claim.withdrawn
        begun = build.run(run)
        if self.claim.reclaimed:
            await self._publisher.withdraw(run, withdrawn, run.started_at, *begun)
        else:
            await self._publisher.publish(run, *begun)

    async def _turn(self) -> Ending | None:
        """Has the model answer once. Returns None when the run is not to be ended by us."""
        try:
            finished = await self._read()
            if finished is not None:
                return self._finished(finished)
        except prompt.OutOfTokens as error:
            return Ending(status=RunStatus.incomplete, incomplete_reason=error.reason)
        except ModelError as error:
            return _failed(error.code, _told(error))
        except Unreachable:
            raise
        except Exception as error:
            return _failed("server_error", from_exception(error).message)
        return None if self._why is None else STOPPED.get(self._why)

    async def _read(self) -> Finished | None:
        """Reads the model's answer in a task of its own; returns None if the attempt was stopped.

        Stopping breaks off whatever the task waits for: the database, the model, the next try.
        """
        name = f"reading for {self.claim.run.id}"
        self._reading = reading = asyncio.create_task(self._ask(), name=name)
        if self._why is not None:
            self._break_off()
        await asyncio.wait({reading})
        if self._why is not None and (reading.cancelled() or reading.exception() is not None):
            return None
        return reading.result()

    def _refused(self) -> None:
        """Takes in that the attempt may write nothing but the end of a run that is cancelled."""
        # If it has lost its claim instead, that end is refused, too.
        self.stop(Stop.cancelled)

    def _break_off(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    async def _ask(self) -> Finished:
        """Asks until the model has answered.

        Raises ModelError for a failure that does not pass, or came after a piece of the answer.
        """
        history = await History.begin(self._claims, self.claim)
        with metrics.TURN_SECONDS.time():
            for retry in itertools.count():
                try:
                    return await self._answered(history)
                except ModelError as error:
                    delay = self._delay(error, retry)
                    if delay is None:
                        raise
                    metrics.RETRIES.inc()
                    log.info("model asked again", code=error.code, after=round(delay, 2))
                    await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    async def _answered(self, history: History) -> Finished:
        """Takes one answer, as it comes. Raises ModelError."""
        async with contextlib.aclosing(self._chunks(history)) as batches:
            async for chunks in batches:
                pieces = [chunk for chunk in chunks if not isinstance(chunk, Finished)]
                if pieces:
                    await self._add(pieces)
                for chunk in chunks:
                    if isinstance(chunk, Finished):
                        return chunk
        raise AssertionError("a model's answer has an end, or fails")

    async def _add(self, pieces: Sequence[Piece]) -> None:
        if not self._answer.begun:
            metrics.FIRST_TOKEN_SECONDS.observe(self._loop.time() - self._claimed_at)
        await self._answer.add(*pieces)

    async def _chunks(self, history: History) -> AsyncGenerator[list[Chunk], None]:
        # One generator for both: the counting of tokens can be broken off, too.
        request = await self._prompt(history)
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
                shorter = await self._prompt(history)
                if len(shorter["messages"]) >= len(request["messages"]):
                    raise
                log.info("asked with fewer messages", context=error.context)
                request = shorter

    async def _prompt(self, history: History) -> dict[str, Any]:
        return await prompt.build(
            self.claim.run, history, self._model.tokens, self._limits.prompt_bytes
        )

    def _delay(self, error: ModelError, retry: int) -> float | None:
        """Returns how many seconds to wait before the next try; None where there is to be none."""
        if not error.retryable or self._answer.begun or retry >= self._limits.model_retries:
            return None
        delay = min(FIRST_DELAY * 2**retry, MAX_DELAY) * random.uniform(0.5, 1)
        delay = max(delay, error.retry_after or 0)
        return delay if self._loop.time() + delay < self._deadline else None

    async def _release(self) -> Run | None:
        """Gives the run back, unless it was cancelled meanwhile: then nobody else would take it."""
        try:
            await self._answer.release()
        except ClaimLost:
            return await self._answer.finish(STOPPED[Stop.cancelled])
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

    def _now(self) -> int:
        """Returns the database's time in unix seconds, as far as it can be told from here."""
        return int(self.claim.now + self._loop.time() - self._claimed_at)

    @contextlib.asynccontextmanager
    async def _kept_alive(self) -> AsyncIterator[None]:
        deadline = self._loop.call_at(self._deadline, self.stop, Stop.expired)
        renewal = LeaseRenewal(self._claims, self.claim, self._limits.lease_seconds / 3, self.stop)
        try:
            yield
        finally:
            deadline.cancel()
            await renewal.stop()


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
