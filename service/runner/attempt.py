"""One attempt at a run: claimed, kept alive, answered by the model, ended."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from enum import StrEnum
from typing import Any

import structlog

from service.errors import from_exception
from service.models.client import ChatModel, Chunk, Finished, ModelError
from service.runner import events, prompt
from service.runner.answer import Answer, Ending
from service.runner.bus import EventBus, RunEvent
from storage.claims import Claim, Claims
from storage.errors import ClaimLost
from storage.tables import RunStatus

log = structlog.get_logger(__name__)


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


class Attempt:
    """A worker's hold of a run, from its claim to its end."""

    def __init__(
        self, claim: Claim, claims: Claims, bus: EventBus, model: ChatModel, lease_seconds: float
    ) -> None:
        """Executes the claimed run with `model`, renewing the lease three times in its length."""
        self._claim = claim
        self._claims = claims
        self._bus = bus
        self._model = model
        self._heartbeat_seconds = lease_seconds / 3
        self._stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        self._answer = Answer(claims, claim, self._publish)

    @property
    def run_id(self) -> str:
        """The run it is at."""
        return self._claim.run.id

    def stop(self, why: Stop) -> None:
        """Breaks the model off, and lets `execute` end. The first reason counts."""
        if not self._stopped.done():
            self._stopped.set_result(why)

    async def execute(self) -> None:
        """Executes the run until it ends, waits for tool outputs, or is not ours any more."""
        run = self._claim.run
        begun = await self._publish(
            *events.withdrawn(self._claim.withdrawn, run.started_at), *events.run(run)
        )
        async with self._kept_alive(begun):
            try:
                ending = await self._turn()
                if ending is not None:
                    await self._end(ending)
            except ClaimLost:
                log.info("claim lost", run_id=run.id, attempt=self._claim.attempt)

    async def _turn(self) -> Ending | None:
        """Has the model answer once. Returns None when the run is not to be ended by us."""
        try:
            context = await self._claims.context(
                self._claim.run, self._claim.run.truncation_strategy["last_messages"]
            )
            request = await prompt.build(self._claim.run, context, self._model.tokens)
            if request.get("max_completion_tokens") == 0:
                # Earlier turns have used it up. No model takes this for a limit.
                return Ending(
                    status=RunStatus.incomplete, incomplete_reason="max_completion_tokens"
                )
            async for chunk in _until(self._stopped, self._model.stream(request)):
                if isinstance(chunk, Finished):
                    return self._finished(chunk)
                await self._answer.add(chunk)
        except prompt.PromptTooLong:
            return Ending(status=RunStatus.incomplete, incomplete_reason="max_prompt_tokens")
        except ModelError as error:
            return _failed(error.code, error.message)
        except ClaimLost:
            # A cancelled run refuses all writes but its end; a lost one refuses that too.
            return STOPPED[Stop.cancelled]
        except Exception as error:
            return _failed("server_error", from_exception(error).message)
        why = self._stopped.result()
        return await self._release() if why == Stop.released else STOPPED.get(why)

    async def _release(self) -> Ending | None:
        """Gives the run back, unless it was cancelled meanwhile: then nobody else would take it."""
        try:
            withdrawn = await self._claims.release(self._claim)
        except ClaimLost:
            return STOPPED[Stop.cancelled]
        await self._publish(*events.withdrawn(withdrawn, self._claim.run.started_at))
        return None

    def _finished(self, end: Finished) -> Ending:
        if end.reason == "content_filter":
            return Ending(
                status=RunStatus.failed,
                message_incomplete="content_filter",
                last_error={
                    "code": "server_error",
                    "message": "The model's content filter stopped the answer.",
                },
                usage=end.usage,
            )
        if end.reason == "length":
            return Ending(
                status=RunStatus.incomplete,
                message_incomplete="max_tokens",
                incomplete_reason="max_completion_tokens",
                usage=end.usage,
            )
        status = RunStatus.requires_action if self._answer.has_calls else RunStatus.completed
        return Ending(status=status, usage=end.usage)

    async def _end(self, ending: Ending) -> None:
        try:
            await self._answer.finish(ending)
        except ClaimLost:
            # Cancelled in the last moment? Then that is how it ends. Raises again if really lost.
            await self._answer.finish(STOPPED[Stop.cancelled])

    async def _publish(self, *happened: RunEvent) -> int:
        return await self._bus.publish(self._claim.run.id, self._claim.attempt, *happened)

    @contextlib.asynccontextmanager
    async def _kept_alive(self, begun: int) -> AsyncIterator[None]:
        run = self._claim.run
        loop = asyncio.get_running_loop()
        lifetime = (run.expires_at or 0) - (run.started_at or 0)
        deadline = loop.call_later(lifetime, self.stop, Stop.expired)
        keepers = [
            asyncio.create_task(self._heartbeat(), name=f"heartbeat of {run.id}"),
            asyncio.create_task(self._watch(begun), name=f"watch of {run.id}"),
        ]
        try:
            yield
        finally:
            deadline.cancel()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            try:
                if await self._claims.renew(self._claim) == RunStatus.cancelling:
                    self.stop(Stop.cancelled)
            except ClaimLost:
                self.stop(Stop.lost)
            except Exception:
                # The database is away. It is tried again, until the lease has run out for good.
                log.warning("lease not renewed", run_id=self._claim.run.id, exc_info=True)

    async def _watch(self, begun: int) -> None:
        """Hears on the stream, sooner than the heartbeat does, that the run is to stop."""
        async with contextlib.aclosing(self._bus.subscribe(self._claim.run.id, begun)) as heard:
            async for event in heard:
                if event.event == "thread.run.cancelling":
                    self.stop(Stop.cancelled)
                elif event.event in ("thread.run.cancelled", "thread.run.expired"):
                    self.stop(Stop.lost)


def _failed(code: str, message: str) -> Ending:
    return Ending(
        status=RunStatus.failed,
        message_incomplete="run_failed",
        last_error={"code": code, "message": message},
    )


async def _until(
    stopped: asyncio.Future[Stop], chunks: AsyncGenerator[Chunk, None]
) -> AsyncGenerator[Chunk, None]:
    """Yields the chunks until they end or `stopped` is set; closes them, whatever happens."""
    upcoming: asyncio.Task[Chunk] | None = None
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


async def _next(chunks: AsyncGenerator[Chunk, None]) -> Chunk:
    return await anext(chunks)
