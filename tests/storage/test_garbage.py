"""Calls that fail leave nothing to the garbage collector: what they were given can be large."""

import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from storage import Storage
from storage.errors import StorageError
from storage.messages import NewMessage
from storage.pages import PageRequest
from tests.support.storage.rows import PROJECT, make_thread
from tests.support.waiting import until


class Large(list[Any]):
    """A content that shows when it has gone."""


class Cursor(str):
    """The same of a text."""


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def write(storage: Storage, _: str) -> weakref.ref[Any]:
    content = Large()
    found = weakref.ref(content)
    await _refused(
        lambda: storage.messages.create(PROJECT, "thread_1", NewMessage("user", content))
    )
    return found


async def get(storage: Storage, thread_id: str) -> weakref.ref[Any]:
    cursor = Cursor("none")
    found = weakref.ref(cursor)
    page = PageRequest(after=cursor)
    await _refused(lambda: storage.messages.list(PROJECT, thread_id, page))
    return found


async def read(storage: Storage, _: str) -> weakref.ref[Any]:
    cursor = Cursor("none")
    found = weakref.ref(cursor)
    page = PageRequest(after=cursor)
    await _refused(lambda: storage.threads.list(PROJECT, page, {}))
    return found


async def _refused(call: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(StorageError):
        await call()


@pytest.mark.parametrize("call", [write, get, read])
async def test_what_a_refused_call_was_given_goes_with_it(storage: Storage, call: Any) -> None:
    thread = await make_thread(storage)
    given = [await call(storage, thread.id) for _ in range(5)]
    # A thread, or the driver, may still hold the last, and a thread for a moment the others.
    await until(lambda: [each() for each in given[:-1]] == [None] * 4)
