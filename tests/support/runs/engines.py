"""Engines that a test starts, and short ways to what it looks at."""

import asyncio
import contextlib
from typing import Any

from sqlalchemy import text

from service.calls import Caller
from service.models.client import ChatModel
from service.runner.engine import Engine
from service.runner.events.bus import EventBus
from service.runner.events.memory import MemoryBus
from service.runner.events.streams import EventStream
from service.runner.limits import Limits
from service.runner.queue.memory import MemoryQueue
from service.runner.tools.registry import Registry
from service.runner.tools.tool import ServerTool
from storage import Storage
from storage.pages import PageRequest
from storage.tables import Run, RunStep
from tests.support.runs.reading import RunEvent, as_sent
from tests.support.storage.rows import PROJECT, execute, make_thread, new_run
from tests.support.waiting import until

CALLER = Caller(PROJECT, "request-1")
"""Who calls servicers, where they are called directly."""

NEVER = 3600.0
"""A lease so long that its renewal does not come in a test's way."""


class Engines:
    """Engines on one database, each with a bus of its own if it is given none."""

    def __init__(self, storage: Storage, model: ChatModel) -> None:
        self.storage = storage
        self._model = model
        self._working: dict[Engine, asyncio.Task[None]] = {}

    def start(
        self,
        *tools: ServerTool,
        concurrency: int = 4,
        lease_seconds: float = NEVER,
        bus: EventBus | None = None,
    ) -> Engine:
        """Starts another; it renews leases three times in `lease_seconds`."""
        limits = Limits(lease_seconds, model_retries=0, tool_turns=3)
        engine = Engine(
            self.storage,
            self._model,
            Registry(tools),
            bus or MemoryBus(),
            MemoryQueue(),
            concurrency=concurrency,
            limits=limits,
        )
        self._working[engine] = asyncio.create_task(engine.work())
        return engine

    @property
    def one(self) -> Engine:
        """The one that works."""
        [engine] = self._working
        return engine

    async def drain(self, engine: Engine, grace: float) -> None:
        """Ends one as a server does."""
        work = self._working.pop(engine)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        await engine.drain(grace)

    async def stop(self) -> None:
        """Ends what works."""
        for engine in list(self._working):
            await self.drain(engine, 0)

    async def run(self, engine: Engine, model: str, **changes: Any) -> "Following":
        """Starts a run of `model` on a new thread and follows it."""
        thread = await make_thread(self.storage, "Hi")
        new = new_run(model=model, **changes)
        run, first = await engine.start(
            lambda claim: self.storage.runs.create(PROJECT, thread.id, new, [], claim=claim)
        )
        return Following(run, engine.streams.follow(run, first), engine)

    async def submit(self, engine: Engine, run: Run, *outputs: tuple[str, str]) -> tuple[Run, int]:
        """Submits outputs by call id; returns the run, and the number of the next event."""
        runs = self.storage.runs
        return await engine.resume(
            lambda claim: runs.submit_tool_outputs(
                PROJECT, run.thread_id, run.id, outputs, claim=claim
            )
        )

    async def rename(self, table: str, to: str) -> None:
        """Makes the database refuse whatever needs a table, until it is renamed back."""
        await self.execute(f"ALTER TABLE {table} RENAME TO {to}")

    async def execute(self, statement: str) -> None:
        """Does something to the database that the server would not."""
        await execute(self.storage, text(statement))

    async def texts(self, run: Run) -> list[tuple[str, str, str]]:
        """Role, status and text of the messages in a run's thread, oldest first."""
        page = PageRequest(order="asc")
        found = await self.storage.messages.list(PROJECT, run.thread_id, page)
        return [(each.role, each.status, "".join(map(_text, each.content))) for each in found.data]

    async def steps(self, run: Run) -> list[RunStep]:
        """A run's steps, oldest first."""
        page = PageRequest(order="asc")
        return (await self.storage.runs.list_steps(PROJECT, run.thread_id, run.id, page)).data


def _text(part: dict[str, Any]) -> str:
    return part["text"]["value"] if part["type"] == "text" else ""


class Following:
    """A run, and its stream, read in the background."""

    def __init__(self, run: Run, stream: EventStream, engine: Engine | None = None) -> None:
        self.run = run
        self._engine = engine
        self.events: list[RunEvent] = []
        self._reading = asyncio.create_task(self._read(stream))

    @property
    def names(self) -> list[str]:
        """The names of what came so far; deltas that follow each other are one."""
        found = [event.event for event in self.events]
        return [name for at, name in enumerate(found) if at == 0 or found[at - 1] != name]

    async def received(self, text: str) -> None:
        """Waits until the stream has shown this much, and what has begun is stored."""
        await self.shown(text)
        assert self._engine is not None
        await self._engine.settled(self.run.id)

    async def shown(self, text: str) -> None:
        """Waits until the stream has shown this much; the model has sent it earlier."""
        await until(lambda: self._text() == text)

    def _text(self) -> str:
        pieces = [piece for event in self.events for piece in event.message_delta.content]
        return "".join(piece.text.value for piece in pieces)

    async def ended(self) -> list[str]:
        """Waits for the stream's end, and returns the names of all events."""
        async with asyncio.timeout(60):
            await self._reading
        numbers = [event.sequence_number for event in self.events]
        assert numbers == sorted(set(numbers))
        assert self.names[-1] in ("done", "error")
        return self.names

    async def leave(self) -> None:
        """Stops reading, in the middle of whatever the stream waits for."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, stream: EventStream) -> None:
        async with contextlib.aclosing(as_sent(stream)) as events:
            async for event in events:
                self.events.append(event)
                if event.event == "error":
                    # Of a test that fails, this is shown.
                    print(event)
