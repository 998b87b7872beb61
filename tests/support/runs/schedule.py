"""A history of engines under callers, in a random order that a seed fixes."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

import pytest
from sqlalchemy import ColumnElement
from sqlmodel import col, select, update

from service.runner.engine import Engine
from storage.errors import NotAwaitingOutputs, NotCancellable, NotFound, WrongToolOutputs
from storage.runs import is_awaited
from storage.statements import one_of
from storage.tables import ACTIVE, Run, RunStatus
from tests.support.model_server import ModelServer
from tests.support.runs.engines import Engines, Following
from tests.support.runs.own_tools import Python, Search
from tests.support.runs.reading import RunEvent, whole
from tests.support.script import Answer, BreakOff, Call, Calls, Fail, Hold, Refusal, Step
from tests.support.storage.rows import PROJECT, execute, fetch, get_run, make_thread, new_run, user

PAST = 1
TURNS = 40
"""More than any run of a schedule can have."""

TOOLS = [
    {"type": "function", "function": {"name": "f", "strict": False}},
    {"type": "code_interpreter"},
    {"type": "file_search"},
]
CALLS: list[Call] = [
    ("f", {"a": 1}),
    ("search", {"query": "a"}),
    ("python", {"code": "1"}),
    ("python", {"code": "image"}),
    ("python", {"code": "write"}),
    ("python", {"code": "fail"}),
    # There is no such function.
    ("g", {}),
]
MARKED = "Hello【1:0†b】【2:1†a.txt】 there【9:9†x】, see (sandbox:/mnt/data/z.csv)【1"


@dataclass(eq=False)
class Life:
    """A run, the streams that its callers follow, and where its model waits for the test."""

    run: Run
    holds: list[Hold]
    streams: list[Following] = field(default_factory=list)
    twins: list[tuple[Following, Following]] = field(default_factory=list)
    """Streams of the same events."""
    deleted: bool = False


class Schedule:
    """Callers, and a model, of one engine or of several that take runs from each other."""

    def __init__(self, engines: Engines, models: ModelServer, seed: int, *, several: bool) -> None:
        """Starts an engine. Both what happens and what the models say follow from the seed."""
        self._engines = engines
        self._storage = engines.storage
        self._models = models
        self._random = random.Random(seed)
        self._working = [self._engine()]
        self.lives: list[Life] = []
        self._moves = {
            self._create: 5,
            self._let_go: 6,
            self._pause: 4,
            self._submit: 5,
            self._cancel: 2,
            self._lose_lease: 3,
            self._expire: 1,
            self._delete_thread: 1,
            self._start_engine: 2 if several else 0,
        }

    async def play(self, moves: int) -> None:
        """Makes so many moves, and then whatever ends all runs and streams."""
        await self._create()
        for _ in range(moves):
            [move] = self._random.choices(list(self._moves), [*self._moves.values()])
            await move()
        async with asyncio.timeout(60):
            while any([await self._status(life) in ACTIVE for life in self.lives]):
                for life in self.lives:
                    await self._end(life)
                await asyncio.sleep(0.01)
            for life in self.lives:
                for stream in life.streams:
                    await stream.ended()

    async def replayed(self, life: Life, after: int) -> list[RunEvent]:
        """What the first engine publishes of a run after one of its events."""
        now = await get_run(self._storage, life.run)
        return await whole(await self._working[0].streams.replay(now, after))

    # What callers and models do, and what goes wrong.

    async def _create(self) -> None:
        steps = [self._step(last=number > 5) for number in range(TURNS)]
        new = new_run(model=self._models.script(*steps), tools=TOOLS)
        threads = [life.run.thread_id for life in self.lives if not life.deleted]
        if threads and self._random.random() < 0.5:
            thread_id = self._random.choice(threads)
        else:
            thread_id = (await make_thread(self._storage)).id
        runs, engine = self._storage.runs, self._random.choice(self._working)
        run, first = await engine.start(
            lambda claim: runs.create(
                PROJECT, thread_id, new, [user("Hi")], queue=True, claim=claim
            )
        )
        life = Life(run, [step for step in steps if isinstance(step, Hold)])
        self.lives.append(life)
        await self._follow(life, run, engine, first)

    async def _follow(self, life: Life, run: Run, engine: Engine, first: int) -> None:
        streams = [Following(run, engine.streams.follow(run, first)) for _ in range(2)]
        life.streams += streams
        life.twins.append((streams[0], streams[1]))

    def _step(self, *, last: bool) -> Step:
        chance = self._random.random()
        text = self._random.choice(["", "Hello", "Hello there, you", MARKED])
        step: Step = Answer(text)
        if last or chance < 0.3:
            pass
        elif chance < 0.6:
            called = self._random.choices(CALLS, [3, *[1] * (len(CALLS) - 1)], k=2)
            step = Calls(*called[: self._random.randint(1, 2)], text=text)
        elif chance < 0.7:
            step = Answer(text, finish_reason="length")
        elif chance < 0.8:
            step = Fail(self._random.choice([400, 500]))
        elif chance < 0.9:
            step = BreakOff(self._random.choice([None, "Hel"]), self._random.random() < 0.5)
        else:
            step = Refusal("No")
        if self._random.random() < 0.7:
            return Hold(step, after="Hel" if text and isinstance(step, Answer) else None)
        return step

    async def _let_go(self) -> None:
        held = [
            hold
            for life in self.lives
            for hold in life.holds
            if hold.held.is_set() and not hold.released.is_set()
        ]
        if held:
            self._random.choice(held).release()
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.choice([0, 0.01, 0.03, 0.06]))

    async def _submit(self) -> None:
        await self._submit_for(self._random.choice(self.lives), wrong=self._random.random() < 0.2)

    async def _submit_for(self, life: Life, *, wrong: bool = False) -> None:
        with contextlib.suppress(NotFound, NotAwaitingOutputs):
            run = life.run
            found = await self._storage.runs.get(PROJECT, run.thread_id, run.id)
            if found.pending is None:
                return
            calls = found.pending.step_details["tool_calls"]
            outputs = [(call["id"], "42") for call in calls if is_awaited(call)]
            if wrong:
                outputs.append(("call_x", "?"))
            engine = self._random.choice(self._working)
            submitting = self._engines.submit(engine, run, *outputs)
            if wrong:
                with pytest.raises((WrongToolOutputs, NotAwaitingOutputs, NotFound)):
                    await submitting
                return
            queued, first = await submitting
            await self._follow(life, queued, engine, first)

    async def _cancel(self) -> None:
        run = self._random.choice(self.lives).run
        with contextlib.suppress(NotFound, NotCancellable):
            ended = await self._storage.runs.cancel(PROJECT, run.thread_id, run.id)
            await self._random.choice(self._working).announce(ended)

    async def _lose_lease(self) -> None:
        """A worker is cut off, or stuck; or it was for so long that its run expires meanwhile."""
        expired = {"expires_at": PAST} if self._random.random() < 0.3 else {}
        await self._set({"lease_until": PAST, **expired}, col(Run.status) == RunStatus.in_progress)

    async def _expire(self) -> None:
        """Whoever holds the run does not know: only the others see it."""
        active = one_of(col(Run.status), ACTIVE)
        await self._set({"expires_at": PAST}, active, col(Run.waiting).is_(False))

    async def _set(self, columns: dict[str, int], *where: ColumnElement[bool]) -> None:
        """Overwrites columns of one of the runs of which this is true."""
        matching = select(Run.id).where(*where).order_by(col(Run.position))
        if ids := await fetch(self._storage, matching):
            chosen = col(Run.id) == self._random.choice(ids)[0]
            # It may have ended meanwhile.
            await execute(self._storage, update(Run).where(chosen, *where).values(**columns))

    async def _delete_thread(self) -> None:
        thread_id = self._random.choice(self.lives).run.thread_id
        with contextlib.suppress(NotFound):
            deleted = await self._storage.threads.delete(PROJECT, thread_id)
            for life in self.lives:
                life.deleted |= life.run.thread_id == thread_id
            engine = self._random.choice(self._working)
            for ended in deleted:
                await engine.announce(ended)

    async def _start_engine(self) -> None:
        """Another server: it takes over what has lost its lease, if it is the first to see it."""
        if len(self._working) < 3:
            self._working.append(self._engine())

    def _engine(self) -> Engine:
        return self._engines.start(Search(), Python())

    async def _end(self, life: Life) -> None:
        for hold in life.holds:
            hold.release()
        if await self._status(life) == RunStatus.requires_action:
            await self._submit_for(life)

    async def _status(self, life: Life) -> str:
        with contextlib.suppress(NotFound):
            return (await get_run(self._storage, life.run)).status
        return "deleted"
