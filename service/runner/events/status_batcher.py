"""Reads the statuses of many runs with one query: thousands of silent followers ask for them."""

import asyncio
from collections.abc import Mapping

from storage.runs import Runs
from storage.tables import RunStatus

Statuses = Mapping[str, RunStatus]
"""Statuses by run id, without the runs that are gone."""


class StatusBatcher:
    """Collects ids for a moment, or during a query, and reads their statuses with one query."""

    def __init__(self, runs: Runs, moment: float) -> None:
        """Reads from `runs`, one query in `moment` seconds at most."""
        self._runs = runs
        self._moment = moment
        self._asked = asyncio.Event()
        self._ids: set[str] = set()
        self._answer: asyncio.Future[Statuses] | None = None

    def ask(self, run_id: str) -> asyncio.Future[Statuses]:
        """Returns a future of statuses, with the run's among them, or of the database's error.

        All who ask meanwhile share it, so nobody may cancel it.
        """
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
        self._ids.add(run_id)
        self._asked.set()
        return self._answer

    async def work(self) -> None:
        """Answers until it is cancelled."""
        while True:
            await self._asked.wait()
            await asyncio.sleep(self._moment)
            ids, answer = self._ids, self._answer
            assert answer is not None
            self._ids, self._answer = set(), None
            self._asked.clear()
            try:
                answer.set_result(await self._runs.statuses(ids))
            except Exception as error:
                answer.set_exception(error)
                # Those who asked may have gone: an error that nobody retrieves is no defect.
                answer.exception()
