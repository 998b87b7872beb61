"""Steps and messages that begin: streams show them at once, and their write goes on beside."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from service.process.waiting import wait_at_most
from storage.claims import Claim, Claims
from storage.errors import ClaimLost, Unreachable
from storage.openings import Opening, open_message, open_tool_calls
from storage.rows import RunStep

FIRST_DELAY = 1.0
"""Seconds before a beginning that could not be written is tried again; twice as long each time."""

log = structlog.get_logger(__name__)


class PendingWrites:
    """What the streams of this server have shown and the database may not have yet."""

    def __init__(self) -> None:
        """Begins with none."""
        self._known: dict[str, set[asyncio.Future[None]]] = {}

    async def settled(self, id: str) -> None:
        """Waits until what `id` names is stored, or until it is known that it will not be.

        It is a message or a step; or a thread or a run, whose messages and steps are meant.
        """
        while known := self._known.get(id):
            await asyncio.wait(known)

    def add(self, ids: Iterable[str]) -> Callable[[], None]:
        """Keeps those who ask for one of the ids waiting until what this returns is called."""
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ids = list(ids)
        for id in ids:
            self._known.setdefault(id, set()).add(settled)

        def settle() -> None:
            if settled.done():
                return
            settled.set_result(None)
            for id in ids:
                self._known[id].discard(settled)
                if not self._known[id]:
                    del self._known[id]

        return settle


class Openings:
    """What one turn of an attempt begins, in the order in which it comes."""

    def __init__(
        self,
        claims: Claims,
        claim: Claim,
        now: Callable[[], int],
        pending_writes: PendingWrites,
        refused: Callable[[], None],
        after: str,
    ) -> None:
        """Writes under `claim`, behind the position `after`; `now` is the database's time.

        `refused` is called when the attempt may not write any more. A write that fails otherwise is
        tried again, and left at last to the end of the turn, which writes all that is missing.
        """
        self._claims = claims
        self._claim = claim
        self._now = now
        self._pending_writes = pending_writes
        self._refused = refused
        self.last = after
        """The greatest position in the thread, as far as the attempt knows."""
        self._writes: list[tuple[Opening, asyncio.Task[bool]]] = []
        self._settle: list[Callable[[], None]] = []
        self._ending = asyncio.Event()

    def message(self, ahead_of: RunStep | None = None) -> Opening:
        """Begins a message, and the step that writes it; see `open_message`."""
        opening = open_message(self._claim.run, self._now(), after=self.last, ahead_of=ahead_of)
        return self._begin(opening)

    def tool_calls(self) -> Opening:
        """Begins a step that calls tools."""
        return self._begin(open_tool_calls(self._claim.run, self._now(), after=self.last))

    async def unwritten(self) -> list[Opening]:
        """Tries nothing again, waits for all writes, and returns what they may not have written."""
        self._ending.set()
        return [opening for opening, write in self._writes if not await write]

    async def close(self) -> None:
        """Waits for all writes. The turn is over: what is not stored now will not be."""
        await self.unwritten()
        for settle in self._settle:
            settle()

    def _begin(self, opening: Opening) -> Opening:
        self.last = max(self.last, opening.last_position)
        run, step, message = self._claim.run, opening.step, opening.message
        ids = [step.id] if message is None else [step.id, message.id]
        # Lists do without it when the write has failed; whoever asks for it by its id does not.
        tried, stored = (
            self._pending_writes.add([run.id, run.thread_id]),
            self._pending_writes.add(ids),
        )
        self._settle += [tried, stored]
        write = asyncio.create_task(self._write(opening, tried, stored), name=f"opening {step.id}")
        self._writes.append((opening, write))
        return opening

    async def _write(
        self, opening: Opening, tried: Callable[[], None], stored: Callable[[], None]
    ) -> bool:
        delay = FIRST_DELAY
        write: Coroutine[Any, Any, object] = self._claims.open(self._claim, opening)
        while True:
            try:
                await write
                stored()
                return True
            except ClaimLost:
                self._refused()
                return False
            except Unreachable as error:
                log.warning("opening not written", id=opening.step.id, error=str(error))
            except Exception:
                log.exception("opening not written", id=opening.step.id)
            finally:
                tried()
            await wait_at_most(self._ending, delay)
            if self._ending.is_set():
                return False
            delay *= 2
            # It may have been written, and only the answer was lost.
            write = self._claims.save(self._claim, begun=[opening])
