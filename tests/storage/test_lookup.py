"""Ids that no object can have."""

import pytest

from storage import Storage
from storage.errors import NotFound
from storage.pages import PageRequest
from tests.support.storage.rows import PROJECT, make_run, make_thread

NO_ID = "x\0y"


async def test_nothing_has_an_id_with_nul(storage: Storage) -> None:
    thread = await make_thread(storage)
    run = await make_run(storage, thread)
    nowhere = [
        storage.assistants.get(PROJECT, NO_ID),
        storage.assistants.modify(PROJECT, NO_ID, {}),
        storage.threads.get(PROJECT, NO_ID),
        storage.threads.delete(PROJECT, NO_ID),
        storage.threads.copy(PROJECT, thread.id, NO_ID),
        storage.messages.get(PROJECT, thread.id, NO_ID),
        storage.messages.list(PROJECT, NO_ID, PageRequest()),
        storage.runs.get(PROJECT, thread.id, NO_ID),
        storage.runs.cancel(PROJECT, NO_ID, run.id),
        storage.runs.get_step(PROJECT, thread.id, run.id, NO_ID),
    ]
    for looking in nowhere:
        with pytest.raises(NotFound) as caught:
            await looking
        assert caught.value.id == NO_ID
