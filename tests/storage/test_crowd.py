"""A crowd of writers to one thread, while other calls go on and leases are renewed."""

import asyncio
from collections.abc import Awaitable, Callable

from storage import Storage
from storage.claims import Claim
from storage.pages import PageRequest
from storage.tables import RunStatus, Thread
from tests.support.storage.rows import (
    PROJECT,
    assistant_values,
    claimed,
    holding,
    make_run,
    make_thread,
    user,
)

WRITERS = 200
MESSAGES = 3
"""That each of them writes, one after the other."""

RENEWED = 8


async def _claims(storage: Storage, *threads: Thread) -> list[Claim]:
    """Claims a run of each thread."""
    return [await claimed(storage, await make_run(storage, thread)) for thread in threads]


def _others(storage: Storage, claims: list[Claim]) -> list[Callable[[], Awaitable[object]]]:
    """Calls that have nothing to do with the thread, and renewals."""
    return [
        lambda: make_thread(storage, "Hi"),
        lambda: storage.assistants.create(PROJECT, assistant_values()),
        lambda: storage.threads.list(PROJECT, PageRequest(), {}),
        lambda: storage.stale_runs.find(0),
        *(lambda claim=claim: storage.claims.renew(claim) for claim in claims),
    ]


async def test_others_go_on_beside_a_crowd(storage: Storage) -> None:
    thread = await make_thread(storage)
    claims = await _claims(storage, thread, *[await make_thread(storage) for _ in range(RENEWED)])
    written = asyncio.Event()
    rounds: list[int] = []

    async def again(call: Callable[[], Awaitable[object]]) -> None:
        count = 0
        while not written.is_set():
            await call()
            count += 1
        rounds.append(count)

    beside = [asyncio.create_task(again(call)) for call in _others(storage, claims)]

    async def write() -> list[str]:
        new = user("Hi")
        made = [
            await storage.messages.create(PROJECT, thread.id, new, queue=True)
            for _ in range(MESSAGES)
        ]
        return [message.position for message in made]

    made = await asyncio.gather(*(write() for _ in range(WRITERS)))
    written.set()
    await asyncio.gather(*beside)
    # Not one of them had to wait for the whole crowd.
    assert min(rounds) >= 2, rounds
    assert all(each == sorted(each) for each in made)
    positions = {position for each in made for position in each}
    assert len(positions) == WRITERS * MESSAGES
    last = (await storage.threads.get(PROJECT, thread.id)).last_position
    assert last == max(positions)
    for claim in claims:
        assert await storage.claims.renew(claim) == RunStatus.in_progress


async def test_others_go_on_beside_a_crowd_that_waits(storage: Storage) -> None:
    """On PostgreSQL: on SQLite, whoever holds a thread holds the file."""
    if storage.database.url.get_backend_name() == "sqlite":
        return
    thread = await make_thread(storage)
    claims = await _claims(storage, thread, *[await make_thread(storage) for _ in range(RENEWED)])
    async with holding(storage, thread.id):
        crowd = [
            asyncio.create_task(
                storage.messages.create(PROJECT, thread.id, user(f"{number}"), queue=True)
            )
            for number in range(WRITERS)
        ]
        async with asyncio.timeout(30):
            for _ in range(3):
                await asyncio.gather(*(call() for call in _others(storage, claims)))
        assert not any(each.done() for each in crowd)
    assert len({message.id for message in await asyncio.gather(*crowd)}) == WRITERS
