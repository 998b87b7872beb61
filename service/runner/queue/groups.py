"""The groups of a shared queue of which runs may wait, as far as one server has heard."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

AGAIN_SECONDS = 0.5
"""Seconds after which a group is looked at once more of which a server has heard: it may hear of a
run before the consumer has it, and of a new consumer before the cluster knows the way to it.
"""


class Groups:
    """Groups to look at, in turn."""

    def __init__(self, added: Callable[[], None]) -> None:
        """Calls `added` whenever there is one to look at."""
        self._added = added
        self._waiting: OrderedDict[str, bool] = OrderedDict()
        """Whether each was heard of since it was looked at. That whose turn it is stands first."""
        self._later: dict[str, asyncio.TimerHandle] = {}
        """What has groups looked at again."""

    def __bool__(self) -> bool:
        """Whether there is one to look at."""
        return bool(self._waiting)

    def add(self, group: str, *, heard: bool = True) -> None:
        """Adds a group that was heard of, or that is to be looked at anyhow."""
        self._waiting[group] = heard or self._waiting.get(group, False)
        self._added()

    def next(self) -> tuple[str, bool]:
        """Removes the group whose turn it is. Returns it, and whether it was heard of."""
        return self._waiting.popitem(last=False)

    def add_later(self, group: str, *, heard: bool) -> None:
        """Adds a group again after AGAIN_SECONDS."""
        if (later := self._later.pop(group, None)) is not None:
            later.cancel()
        loop = asyncio.get_running_loop()
        self._later[group] = loop.call_later(AGAIN_SECONDS, self._add_now, group, heard)

    def close(self) -> None:
        """Adds none again."""
        for later in self._later.values():
            later.cancel()
        self._later.clear()

    def _add_now(self, group: str, heard: bool) -> None:
        del self._later[group]
        self.add(group, heard=heard)
