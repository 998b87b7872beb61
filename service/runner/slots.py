"""How many runs are executed at once."""

import asyncio


class Slots:
    """So many places, each of which one run takes."""

    def __init__(self, count: int) -> None:
        """All are free."""
        self._count = count
        self._freed = asyncio.Event()
        self._freed.set()

    @property
    def is_free(self) -> bool:
        """Whether there is one to take."""
        return self._count > 0

    async def free(self) -> None:
        """Waits until there is one to take. Until the caller waits again, nobody else takes it."""
        while not self.is_free:
            await self._freed.wait()

    def take(self) -> None:
        """Takes a free one."""
        assert self.is_free
        self._count -= 1
        if not self.is_free:
            self._freed.clear()

    def give_back(self) -> None:
        """Frees one that was taken."""
        self._count += 1
        self._freed.set()
