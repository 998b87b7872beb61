"""The constant load of runs: callers in threads, until it is stopped."""

import contextlib
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2

from tests.support.chaos.caller import Caller
from tests.support.chaos.fleet import Fleet
from tests.support.chaos.model import Model
from tests.support.chaos.record import Record
from tests.support.waiting import until

CALLERS = 8
"""More than the servers have slots, so that the worker has runs, too."""


class Load:
    """Callers that hold conversations, and what they have seen."""

    def __init__(self, fleet: Fleet) -> None:
        """Begins nothing yet."""
        self.model = Model(fleet.models)
        self.record = Record()
        self._base_url = fleet.gateway.base_url

    async def goes_on(self) -> None:
        """Waits until each caller has seen another run end: none of their threads is locked."""
        before = dict(self.record.conversations)

        def all_have() -> bool:
            now = self.record.conversations
            return bool(self.record.violations) or all(
                now[number] > before.get(number, 0) for number in range(CALLERS)
            )

        await until(all_have)

    async def moves(self) -> None:
        """Waits until some more runs have ended."""
        before = self.record.counts["runs"]
        await until(
            lambda: self.record.violations or self.record.counts["runs"] >= before + CALLERS
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Runs the callers meanwhile."""
        with httpx2.Client(base_url=self._base_url) as client:
            assistants = {
                "plain": _assistant(client, self.model.plain),
                "cancelled": _assistant(client, self.model.plain),
                "function": _assistant(client, self.model.calling, LOOK),
            }
        with ThreadPoolExecutor(CALLERS) as threads:
            for number in range(CALLERS):
                caller = Caller(number, self._base_url, assistants, self.model, self.record)
                threads.submit(self._watched, caller)
            try:
                yield
            finally:
                self.record.over = True

    def _watched(self, caller: Caller) -> None:
        try:
            caller.work()
        except Exception:
            self.record.violation(traceback.format_exc())


LOOK: Any = {"type": "function", "function": {"name": "look", "parameters": {}}}


def _assistant(client: httpx2.Client, model: str, *tools: Any) -> str:
    response = client.post("/assistants", json={"model": model, "tools": tools})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])
