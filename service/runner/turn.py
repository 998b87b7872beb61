"""One turn of the model: it is asked until it answers, and its answer is passed on as it comes."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import structlog

from service.models.client import ChatModel, Chunk, Finished, ModelError, Piece
from service.process import metrics, tracing
from service.runner import prompt
from service.runner.answer import Answer, Ending
from service.runner.history import History
from service.runner.limits import Limits
from service.runner.tools.registry import Toolbox
from storage.tables import Run, RunStatus

log = structlog.get_logger(__name__)

FIRST_DELAY = 0.5
"""Seconds before a model is asked again, at most; twice as long before each further time."""

MAX_DELAY = 20.0

SORRY = "Sorry, something went wrong."
RATE_LIMIT = "Rate limit reached."
"""How the hosted service began a run's error: by these words, clients decide to ask again."""


def failed(code: str, message: str) -> Ending:
    """Returns the end of a run that has failed."""
    return Ending(
        status=RunStatus.failed,
        message_incomplete="run_failed",
        last_error={"code": code, "message": message},
    )


class Turn:
    """One request to the model and its answer, with all that it takes to get one."""

    def __init__(
        self,
        run: Run,
        model: ChatModel,
        history: History,
        toolbox: Toolbox,
        answer: Answer,
        limits: Limits,
        *,
        deadline: float,
        claimed_at: float | None,
    ) -> None:
        """Shows `model` the history and the tools; adds to `answer` what it answers.

        By the loop's clock, the run expires at `deadline`, and was claimed at `claimed_at`, which
        only its first turn is given.
        """
        self._run = run
        self._model = model
        self._history = history
        self._toolbox = toolbox
        self._answer = answer
        self._limits = limits
        self._deadline = deadline
        self._claimed_at = claimed_at
        self._loop = asyncio.get_running_loop()

    async def take(self) -> Ending:
        """Has the model answer, and returns what that makes of the run.

        With calls that is `requires_action`, whoever is to answer them.
        """
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": self._run.model}
        with tracing.span("chat", "client", attributes) as span:
            try:
                with metrics.TURN_SECONDS.time():
                    finished = await self._ask()
            except prompt.OutOfTokens as error:
                return Ending(status=RunStatus.incomplete, incomplete_reason=error.reason)
            except ModelError as error:
                span.fail(error.code)
                return failed(error.code, _message(error))
            if finished.usage is not None:
                for kind, counted in (("prompt", "input"), ("completion", "output")):
                    tokens = finished.usage[f"{kind}_tokens"]
                    metrics.TOKENS.labels(kind).inc(tokens)
                    span.note({f"gen_ai.usage.{counted}_tokens": tokens})
        self._answer.model_finished(finished)
        return self._ending(finished)

    def _ending(self, finished: Finished) -> Ending:
        if finished.reason == "content_filter":
            return Ending(
                status=RunStatus.failed,
                message_incomplete="content_filter",
                last_error={
                    "code": "server_error",
                    "message": "The model's content filter stopped the answer.",
                },
            )
        if finished.reason == "length":
            return Ending(
                status=RunStatus.incomplete,
                message_incomplete="max_tokens",
                incomplete_reason="max_completion_tokens",
            )
        called = self._answer.has_calls
        return Ending(status=RunStatus.requires_action if called else RunStatus.completed)

    async def _ask(self) -> Finished:
        """Asks until the model has answered.

        Raises ModelError for a failure that does not pass, or came after a piece of the answer.
        """
        for retry in itertools.count():
            try:
                return await self._answered()
            except ModelError as error:
                delay = self._delay(error, retry)
                if delay is None:
                    raise
                metrics.RETRIES.inc()
                log.info("model asked again", code=error.code, after=round(delay, 2))
                await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    async def _answered(self) -> Finished:
        """Takes one answer, as it comes. Raises ModelError."""
        async with contextlib.aclosing(self._chunks()) as batches:
            async for chunks in batches:
                pieces = [chunk for chunk in chunks if not isinstance(chunk, Finished)]
                if pieces:
                    await self._add(pieces)
                for chunk in chunks:
                    if isinstance(chunk, Finished):
                        return chunk
        raise AssertionError("a model's answer has an end, or fails")

    async def _add(self, pieces: Sequence[Piece]) -> None:
        if self._claimed_at is not None and not self._answer.begun:
            metrics.FIRST_TOKEN_SECONDS.observe(self._loop.time() - self._claimed_at)
        await self._answer.add(*pieces)

    async def _chunks(self) -> AsyncGenerator[list[Chunk], None]:
        # One generator for both: the counting of tokens can be broken off, too.
        request = await self._prompt()
        while True:
            try:
                async with contextlib.aclosing(self._model.stream(request)) as batches:
                    async for chunks in batches:
                        yield chunks
                return
            except ModelError as error:
                if error.context is None:
                    raise
                # The refusal names how much the model takes: with less, it may answer.
                shorter = await self._prompt()
                if len(shorter["messages"]) >= len(request["messages"]):
                    raise
                log.info("asked with fewer messages", context=error.context)
                request = shorter

    async def _prompt(self) -> dict[str, Any]:
        return await prompt.build(
            self._run, self._history, self._toolbox, self._model.tokens, self._limits.prompt_bytes
        )

    def _delay(self, error: ModelError, retry: int) -> float | None:
        """Returns how many seconds to wait before the next try; None where there is to be none."""
        if not error.retryable or self._answer.begun or retry >= self._limits.model_retries:
            return None
        delay = min(FIRST_DELAY * 2**retry, MAX_DELAY) * random.uniform(0.5, 1)
        delay = max(delay, error.retry_after or 0)
        return delay if self._loop.time() + delay < self._deadline else None


def _message(error: ModelError) -> str:
    """Returns the message of a run whose model failed: the hosted service's sentence first."""
    match error.code:
        case "server_error":
            return f"{SORRY} {'The model server said: ' if error.quoted else ''}{error.message}"
        case "rate_limit_exceeded" if not error.message.startswith(RATE_LIMIT.rstrip(".")):
            return f"{RATE_LIMIT} {error.message}"
        case _:
            return error.message
