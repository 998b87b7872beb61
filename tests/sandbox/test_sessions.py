"""The sessions of all threads: how many, for how long, and what threads learn of it."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from service.runner.tools.session_register import SessionRegister
from service.sandbox.engines.off import OffSandbox
from service.sandbox.limits import Lifetimes, Limits
from service.sandbox.port import Sandbox, SessionClosed, Unavailable
from service.sandbox.sessions import Sessions
from storage import Storage
from storage.database import Database
from storage.errors import Unreachable
from tests.support.sandbox.calls import Outcome, gather
from tests.support.sandbox.places import ENGINES, maker
from tests.support.storage.rows import insert_thread

ANEW = "was started anew"


@dataclass
class Clock:
    """A clock that the tests advance."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The sessions' clock."""
    return Clock()


@pytest.fixture(scope="session")
def engine() -> str:
    """One engine is enough here."""
    return ENGINES[0]


Make = Callable[..., Sessions]


@pytest.fixture
async def storage(tmp_path: Path, migrated_file: Path) -> AsyncIterator[Storage]:
    """The database of all servers, with the threads of the tests."""
    database = Database(f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'assistants.db')}")
    storage = Storage(database)
    for id in ("a", "b", "c"):
        await insert_thread(storage, id)
    yield storage
    await database.close()


@pytest.fixture
async def manage(engine: str, root: Path, clock: Clock, storage: Storage) -> AsyncIterator[Make]:
    """Makes the sessions of servers, and closes them after the test."""
    made: list[Sessions] = []

    def make(sessions: int = 4, folder: str = "") -> Sessions:
        sandbox: Sandbox = maker(engine)(root / folder, Limits())
        lifetimes = Lifetimes(sessions=sessions, idle_seconds=1200, age_seconds=3600)
        register = SessionRegister(storage.sessions, f"server {len(made)}")
        made.append(Sessions(sandbox, lifetimes, register, clock))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def call(sessions: Sessions, thread: str, code: str) -> Outcome:
    """Runs code of a thread."""
    return await gather(sessions.run(thread, code))


def running(sessions: Sessions, thread: str) -> AsyncGenerator[object, None]:
    """A call that prints, and goes on."""
    return sessions.run(thread, "print('begun')\nimport time\ntime.sleep(1000)")


async def test_a_session_is_left_once_another_server_has_a_newer_one(
    manage: Make, clock: Clock
) -> None:
    """Its variables are of a conversation that has gone on. The files are one and the same."""
    one, other = manage(), manage()
    await call(one, "a", "x = 1; open('kept', 'w').write('one')")
    assert ANEW in (await call(other, "a", "x = 2; open('kept', 'a').write(' two')")).text
    text = (await call(one, "a", "print('x' in globals(), open('kept').read())")).text
    assert "another server has run code meanwhile. Variables and imports are gone" in text
    assert text.endswith("]\nFalse one two\n")
    await call(one, "a", "x = 3")
    # What becomes of the older session says nothing about the newer.
    await other.end("a")
    assert (await call(one, "a", "x")).text == "3\n"
    await one.end("a")
    assert "it was closed" in (await call(one, "a", "1")).text


async def test_servers_that_share_no_files(manage: Make, root: Path) -> None:
    """A session is left for a newer one all the same, and what is lost is counted."""
    folders = [root / name for name in ("here", "there")]
    for each in folders:
        each.mkdir(mode=0o711)
    one, other = (manage(folder=each.name) for each in folders)
    before = value("state_lost_total")
    await call(one, "a", "x = 1; open('kept', 'w').write('one')")
    assert value("state_lost_total") == before
    text = (await call(other, "a", "import os\nprint('x' in globals(), os.listdir())")).text
    assert "it is on another server" in text
    assert text.endswith("]\nFalse []\n")
    assert value("state_lost_total") == before + 1
    # The thread has gone on there; what is still open here knows nothing of that.
    await other.end("a")
    text = (await call(one, "a", "print('x' in globals(), os.listdir())")).text
    assert "another server has run code meanwhile" in text
    assert value("state_lost_total") == before + 1


async def test_what_a_database_that_is_away_leaves(
    manage: Make, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No session is opened of which the others would not know; its end is not held up."""
    sessions = manage()
    await call(sessions, "b", "x = 1")
    with monkeypatch.context() as patch:
        patch.setattr(storage.database, "write", unreachable)
        with pytest.raises(Unreachable):
            await call(sessions, "a", "1")
        assert sessions.open_sessions == 1
        await sessions.end("b")
    assert sessions.open_sessions == 0
    assert (await call(sessions, "a", "1")).text == "1\n"
    assert "the server was stopped" in (await call(sessions, "b", "1")).text


async def unreachable(*_: object, **__: object) -> None:
    raise Unreachable("the database does not answer")


async def test_threads_have_sessions_of_their_own(manage: Make) -> None:
    sessions = manage()
    await call(sessions, "a", "x = 'a'")
    await call(sessions, "b", "x = 'b'")
    assert (await call(sessions, "a", "x")).text == "'a'\n"
    assert (await call(sessions, "b", "x")).text == "'b'\n"
    assert sessions.open_sessions == 2


async def test_calls_of_a_thread_wait_for_each_other(manage: Make) -> None:
    sessions = manage()
    codes = ["import time\ntime.sleep(0.3)\nx = 1", "x"]
    outcomes = await asyncio.gather(*(call(sessions, "a", code) for code in codes))
    assert outcomes[1].text == "1\n"
    assert sessions.open_sessions == 1


async def test_the_idlest_session_is_evicted_and_its_files_are_kept(
    manage: Make, clock: Clock
) -> None:
    sessions = manage(sessions=2)
    await call(sessions, "a", "x = 1\nopen('kept', 'w').write('a')")
    clock.now = 1
    await call(sessions, "b", "x = 2")
    clock.now = 2
    await call(sessions, "a", "x")
    clock.now = 3
    await call(sessions, "c", "x = 3")
    assert sessions.open_sessions == 2
    assert (await call(sessions, "a", "x")).text == "1\n"
    text = (await call(sessions, "b", "'x' in globals()")).text
    assert ANEW in text
    assert "others needed its place" in text
    assert text.endswith("]\nFalse\n")


async def test_files_outlive_an_eviction(manage: Make) -> None:
    sessions = manage(sessions=1)
    await call(sessions, "a", "open('kept', 'w').write('a')")
    await call(sessions, "b", "1")
    assert (await call(sessions, "a", "open('kept').read()")).text.endswith("'a'\n")


async def test_where_all_are_busy_a_call_waits(manage: Make) -> None:
    sessions = manage(sessions=1)
    async with aclosing(running(sessions, "a")) as events:
        await anext(events)
        waiting = asyncio.create_task(call(sessions, "b", "1"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        assert sessions.open_sessions == 1
    assert (await waiting).text == "1\n"


async def test_idle_and_old_sessions_are_closed(manage: Make, clock: Clock) -> None:
    sessions = manage()
    await call(sessions, "a", "x = 1")
    clock.now = 1199
    await sessions.sweep()
    assert sessions.open_sessions == 1
    clock.now = 1200
    await sessions.sweep()
    assert sessions.open_sessions == 0
    assert "idle for too long" in (await call(sessions, "a", "1")).text
    for clock.now in range(2200, 4800, 1000):
        await call(sessions, "a", "1")
        await sessions.sweep()
        assert sessions.open_sessions == 1
    clock.now = 4800
    await call(sessions, "a", "1")
    await sessions.sweep()
    assert sessions.open_sessions == 0
    assert "open for too long" in (await call(sessions, "a", "1")).text


async def test_a_busy_session_is_not_swept(manage: Make, clock: Clock) -> None:
    sessions = manage()
    async with aclosing(running(sessions, "a")) as events:
        await anext(events)
        clock.now = 10_000
        await sessions.sweep()
        assert sessions.open_sessions == 1


async def test_a_session_that_was_lost_in_a_call_is_replaced_without_more_words(
    manage: Make,
) -> None:
    sessions = manage()
    outcome = await call(sessions, "a", "import os\nos._exit(1)")
    assert outcome.end.lost is not None
    assert (await call(sessions, "a", "1")).text == "1\n"


async def test_a_session_that_was_lost_between_calls_is_replaced_and_told(manage: Make) -> None:
    sessions = manage()
    code = "import os, threading\nthreading.Timer(0.2, os._exit, [1]).start()"
    await call(sessions, "a", code)
    await asyncio.sleep(0.2)
    while sessions.open_sessions:
        await asyncio.sleep(0.02)
        await sessions.sweep()
    assert ANEW in (await call(sessions, "a", "1")).text


async def test_giving_up_a_call_ends_the_session(manage: Make) -> None:
    sessions = manage()
    async with aclosing(running(sessions, "a")) as events:
        await anext(events)
    text = (await call(sessions, "a", "1")).text
    assert "its call was given up" in text


async def test_ending_a_session_during_a_call(manage: Make) -> None:
    sessions = manage()
    async with aclosing(running(sessions, "a")) as events:
        await anext(events)
        await sessions.end("a")
        with pytest.raises(SessionClosed):
            await anext(events)
    assert sessions.open_sessions == 0


async def test_forgetting_a_thread(manage: Make, root: Path) -> None:
    sessions = manage()
    async with aclosing(
        sessions.run("a", "open('f', 'w').close()\nprint()\nwhile 1: pass")
    ) as all_:
        await anext(all_)
        forgetting = asyncio.create_task(sessions.forget("a"))
        with pytest.raises(SessionClosed):
            await anext(all_)
    await forgetting
    assert not (root / "a").exists()
    await sessions.forget("a")
    assert (await call(sessions, "a", "import os\nos.listdir()")).text == "[]\n"


async def test_closing_ends_everything(manage: Make) -> None:
    sessions = manage()
    sessions.start()
    await call(sessions, "b", "1")
    async with aclosing(running(sessions, "a")) as events:
        await anext(events)
        await sessions.close()
        with pytest.raises(SessionClosed):
            await anext(events)
    assert sessions.open_sessions == 0
    with pytest.raises(SessionClosed):
        await call(sessions, "c", "1")


async def test_a_thread_is_told_that_the_server_was_stopped(manage: Make) -> None:
    before, after = manage(), manage()
    await call(before, "a", "x = 1")
    await before.close()
    assert "the server was stopped" in (await call(after, "a", "'x' in globals()")).text
    assert (await call(after, "a", "1")).text == "1\n"


async def test_a_thread_is_told_that_the_server_was_killed(manage: Make) -> None:
    before, after = manage(), manage()
    await call(before, "a", "x = 1")
    # Nothing was written since the session has begun.
    assert "the server was stopped" in (await call(after, "a", "1")).text


async def test_what_was_told_is_not_told_again_by_another_server(manage: Make) -> None:
    before, after = manage(), manage()
    assert (await call(before, "a", "import os\nos._exit(1)")).end.lost is not None
    assert (await call(after, "a", "1")).text == "1\n"


async def test_calls_and_ends_are_counted(manage: Make) -> None:
    sessions = manage()
    outcomes = ("completed", "error", "lost", "given_up")
    before = [value("calls_total", outcome=each) for each in outcomes]
    ended = value("session_ends_total", reason="lost")
    await call(sessions, "a", "1")
    assert value("sessions") >= 1
    await call(sessions, "a", "1 / 0")
    await call(sessions, "a", "import os\nos._exit(1)")
    async with aclosing(running(sessions, "a")) as events:
        await anext(events)
    assert [value("calls_total", outcome=each) for each in outcomes] == [n + 1 for n in before]
    assert value("session_ends_total", reason="lost") == ended + 1


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"assistants_interpreter_{name}", labels) or 0.0


async def test_where_no_session_can_be_opened(root: Path, storage: Storage) -> None:
    register = SessionRegister(storage.sessions, "server")
    sessions = Sessions(OffSandbox(root, Limits(), "it is switched off"), Lifetimes(), register)
    with pytest.raises(Unavailable, match="it is switched off"):
        await call(sessions, "a", "1")
    await sessions.folder("a").put("f", b"content")
    assert sessions.open_sessions == 0
    await sessions.close()
