"""The limit of runs that are executed at once."""

import asyncio


class Slots:
    """A number of slots, each of which one run takes."""

    def __init__(self, count: int) -> None:
        """Starts with `count` free slots."""
        self._count = count
        self._freed = asyncio.Event()
        self._freed.set()

    @property
    def is_free(self) -> bool:
        """Whether a slot is free."""
        return self._count > 0

    async def free(self) -> None:
        """Waits until a slot is free. Until the caller waits again, nobody else takes it."""
        while not self.is_free:
            await self._freed.wait()

    def take(self) -> None:
        """Takes a free slot."""
        assert self.is_free
        self._count -= 1
        if not self.is_free:
            self._freed.clear()

    def give_back(self) -> None:
        """Frees a slot that was taken."""
        self._count += 1
        self._freed.set()
