"""One attempt at a run: claimed, kept alive, taken from turn to turn, ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from service.errors import from_exception
from service.models.client import ChatModel
from service.runner.answer import Answer, Ending
from service.runner.events import build
from service.runner.events.bus import Stop
from service.runner.events.publisher import Publisher
from service.runner.history import History
from service.runner.images import Images
from service.runner.lease import LeaseRenewal
from service.runner.limits import Limits
from service.runner.openings import Openings, PendingWrites
from service.runner.references import References
from service.runner.stops import STOPPED
from service.runner.tools.execution import execute
from service.runner.tools.registry import Registry, Toolbox
from service.runner.tools.tool import ToolUnavailable
from service.runner.turn import ToolsRefused, Turn, failed
from storage.claims import Claim, Claims, Saved
from storage.errors import ClaimLost, Unreachable
from storage.tables import Run, RunStatus

log = structlog.get_logger(__name__)

TOO_MANY_TURNS = "The model called tools of the server in {} turns, and did not come to an end."


class Attempt:
    """A worker's hold of a run, from its claim to its end."""

    def __init__(
        self,
        claim: Claim,
        claims: Claims,
        publisher: Publisher,
        model: ChatModel,
        tools: Registry,
        limits: Limits,
        pending_writes: PendingWrites,
        images: Images | None = None,
    ) -> None:
        """Executes the claimed run with `model` and `tools`; publishes through `publisher`.

        `pending_writes` knows what has been published of it and is not stored yet.
        """
        self.claim = claim
        self._claims = claims
        self._publisher = publisher
        self._model = model
        self._limits = limits
        self._images = images
        self._pending_writes = pending_writes
        self._loop = asyncio.get_running_loop()
        self._claimed_at = self._loop.time()
        lifetime = (claim.run.expires_at or 0) - (claim.run.started_at or 0)
        self._deadline = self._claimed_at + lifetime
        self._why: Stop | None = None
        self._working: asyncio.Task[Ending] | None = None
        self._tools = tools
        self._toolbox: Toolbox | None = None
        self._history: History | None = None
        self._tool_turns = 0
        self._openings, self._answer = self._new_answer(claim.last_position)

    def stop(self, why: Stop) -> None:
        """Breaks off the model or the tool, and lets `execute` end. The first reason counts."""
        if self._why is None:
            self._why = why
            self._break_off()

    async def execute(self) -> Run | None:
        """Executes the run until it ends, waits for tool outputs, or is held by another attempt.

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
                await self._openings.close()
                # They know the attempt: what it has read, which can be large, would wait with it
                # for the garbage collector.
                del self._openings, self._answer

    async def _execute(self) -> Run | None:
        try:
            await self._begin()
            while True:
                ending = await self._turn()
                if ending is None:
                    return await self._release() if self._why == Stop.released else None
                saved = await self._end(self._answer.finish, ending)
                if saved.run is not None:
                    return saved.released
                await self._go_on(saved)
        except (ClaimLost, Unreachable):
            raise
        except Exception as defect:
            # Repeated, it would break down again and again.
            ending = failed("server_error", from_exception(defect).message)
            return (await self._end(self._answer.discard, ending)).released

    async def _begin(self) -> None:
        run, withdrawn = self.claim.run, self.claim.withdrawn
        begun = build.run(run)
        if self.claim.reclaimed:
            await self._publisher.withdraw(run, withdrawn, run.started_at, *begun)
        else:
            await self._publisher.publish(run, *begun)

    async def _turn(self) -> Ending | None:
        """Takes a turn in a task of its own. Returns None when the run goes on elsewhere.

        Stopping breaks off whatever the task waits for: the database, the model, a tool.
        """
        name = f"turn of {self.claim.run.id}"
        self._working = working = asyncio.create_task(self._work(), name=name)
        if self._why is not None:
            self._break_off()
        await asyncio.wait({working})
        if self._why is not None and (working.cancelled() or working.exception() is not None):
            return STOPPED.get(self._why)
        try:
            return working.result()
        except Unreachable:
            raise
        except ToolUnavailable as problem:
            return failed("server_error", str(problem))
        except asyncio.CancelledError as cause:
            # Something that it waited for was cancelled; the run would wait for its lease to end.
            defect = RuntimeError("A turn was cancelled that nobody has stopped.")
            defect.__cause__ = cause
            return failed("server_error", from_exception(defect).message)
        except Exception as error:
            return failed("server_error", from_exception(error).message)

    async def _work(self) -> Ending:
        """Has the model answer, and executes what it calls of the server's tools.

        Raises ToolUnavailable.
        """
        run = self.claim.run
        if self._toolbox is None:
            self._toolbox = await self._tools.toolbox(run)
        if self._history is None:
            self._history = await History.begin(self._claims, self.claim)
        self._answer.equip(self._toolbox, References.of(self._history.context))
        if await self._called_ahead(self._toolbox, self._history):
            return Ending(status=RunStatus.in_progress)
        try:
            ending = await self._take_turn(self._toolbox, self._history)
        except ToolsRefused as refused:
            # Asked again, tools that can do without the model's calls are executed ahead of it.
            known, self._toolbox = self._toolbox, await self._tools.toolbox(run)
            if self._toolbox.ahead.keys() <= known.ahead.keys():
                return refused.ending
            return await self._work()
        if ending.status != RunStatus.requires_action or not self._answer.server_calls:
            return ending
        if self._tool_turns == self._limits.tool_turns:
            return failed("server_error", TOO_MANY_TURNS.format(self._tool_turns))
        self._tool_turns += 1
        await self._execute_calls()
        # Functions are the caller's: with their outputs, the model gets all results.
        return ending if self._answer.awaits_outputs else Ending(status=RunStatus.in_progress)

    async def _called_ahead(self, toolbox: Toolbox, history: History) -> bool:
        """Executes what is to be called ahead of the first turn; returns whether anything is."""
        first = not history.context.steps and self.claim.run.tool_choice != "none"
        question = await history.question() if toolbox.ahead and first else ""
        if question:
            await self._answer.call_ahead(question)
            await self._execute_calls()
        return bool(question)

    async def _take_turn(self, toolbox: Toolbox, history: History) -> Ending:
        return await Turn(
            self.claim.run,
            self._model,
            history,
            toolbox,
            self._answer,
            self._limits,
            self._images,
            deadline=self._deadline,
            claimed_at=None if self._tool_turns else self._claimed_at,
        ).take()

    async def _execute_calls(self) -> None:
        """Executes the server's calls of the turn. Raises ToolUnavailable."""
        context = self._model.tokens.context(self.claim.run.model)
        # The other half is for the answer, and for what comes after it.
        room = None if context is None else max(context - self._answer.tokens, 0) // 2
        await execute(self._answer, self.claim.run, room)

    async def _go_on(self, saved: Saved) -> None:
        """Makes ready for another turn, which sees what the last one has stored."""
        assert self._history is not None
        self._history.add(saved)
        await self._openings.close()
        self._openings, self._answer = self._new_answer(self._openings.last)

    def _new_answer(self, after: str) -> tuple[Openings, Answer]:
        openings = Openings(
            self._claims, self.claim, self._now, self._pending_writes, self._refused, after
        )
        return openings, Answer(self._claims, self.claim, self._publisher, openings)

    def _refused(self) -> None:
        """Takes in that the attempt may write nothing but the end of a run that is cancelled."""
        # If it has lost its claim instead, that end is refused, too.
        self.stop(Stop.cancelled)

    def _break_off(self) -> None:
        if self._working is not None:
            self._working.cancel()

    async def _release(self) -> Run | None:
        """Gives the run back, unless it was cancelled meanwhile: then nobody else would take it."""
        try:
            await self._answer.release()
        except ClaimLost:
            return (await self._answer.finish(STOPPED[Stop.cancelled])).released
        return None

    async def _end(self, end: Callable[[Ending], Awaitable[Saved]], ending: Ending) -> Saved:
        try:
            return await end(ending)
        except ClaimLost:
            # Cancelled in the last moment? Then that is how it ends. Raises again if really lost.
            return await end(STOPPED[Stop.cancelled])

    def _now(self) -> int:
        """Returns the database's time in unix seconds; since the claim, the loop's clock counts."""
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
