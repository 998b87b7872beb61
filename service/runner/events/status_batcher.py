"""How runs are, asked for all together: thousands of silent followers cost one query at a time."""

import asyncio
from collections.abc import Mapping

from storage.runs import Runs
from storage.tables import RunStatus

Statuses = Mapping[str, RunStatus]
"""Statuses by run id, without the runs that are gone."""


class StatusBatcher:
    """Collects what is asked for a moment, or while a query is under way, and asks it as one."""

    def __init__(self, runs: Runs, moment: float) -> None:
        """Asks `runs`, after `moment` seconds: no more queries than one in that time."""
        self._runs = runs
        self._moment = moment
        self._asked = asyncio.Event()
        self._ids: set[str] = set()
        self._answer: asyncio.Future[Statuses] | None = None

    def ask(self, run_id: str) -> asyncio.Future[Statuses]:
        """Returns what will hold the run's status, or what the database raised.

        All who ask meanwhile share it: who does not want it any more just lets it be.
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
                # Those who asked may have gone: then it is nobody's, and no defect.
                answer.exception()
