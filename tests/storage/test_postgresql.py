"""PostgreSQL: what its URL says, its connections, and transactions that go on after a failure."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import make_url, text

from storage import Storage, postgresql, thread_lock
from storage.database import Database, parse_url
from storage.errors import Unreachable
from storage.postgresql_connection import Connection
from storage.resources import NOTHING
from storage.rows import Thread
from storage.statements import Statement
from storage.transaction import Transaction
from tests.support.postgres import Postgres
from tests.support.storage.rows import PROJECT, claimed, holding, make_run, make_thread, user


@pytest.fixture
def name(postgres: Postgres) -> Any:
    """The name of a fresh database."""
    name = postgres.create_database()
    yield name
    postgres.drop_database(name)


@contextlib.asynccontextmanager
async def storage_at(url: str) -> AsyncIterator[Storage]:
    """Gives the repositories on a database."""
    storage = Storage(Database(url))
    try:
        yield storage
    finally:
        await storage.database.close()


@pytest.fixture
async def on_postgres(postgres: Postgres, name: str) -> AsyncIterator[Storage]:
    async with storage_at(postgres.url(name)) as storage:
        yield storage


def execute(postgres: Postgres, name: str, statement: str) -> None:
    """Executes something on a connection of its own."""
    with psycopg.connect(postgres.url(name), autocommit=True) as connection:
        connection.execute(statement.encode())


def sql(statement: str) -> Statement[Any]:
    """A statement of the test's own."""
    return Statement(text(statement))


async def setting(storage: Storage, name: str) -> str:
    """Returns what a setting is within a transaction."""
    found = sql(f"SELECT current_setting('{name}')")
    return str(await storage.database.read(lambda tx: tx.value(found)))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "",
            {
                "statement_timeout": "2min",
                "lock_timeout": "1min",
                "idle_in_transaction_session_timeout": "8s",
            },
        ),
        (
            "&options=" + quote("-c search_path=other,public -c statement_timeout=5s"),
            {
                "search_path": "other,public",
                "statement_timeout": "5s",
                "lock_timeout": "1min",
            },
        ),
        ("&options=" + quote("-c statement_timeout=0"), {"statement_timeout": "0"}),
        ("&application_name=an%20app%20%25+1", {"application_name": "an app % 1"}),
        ("&sslmode=prefer&connect_timeout=3", {"statement_timeout": "2min"}),
    ],
)
async def test_what_a_url_says(
    postgres: Postgres, name: str, query: str, expected: dict[str, str]
) -> None:
    async with storage_at(postgres.url(name) + query) as storage:
        assert {each: await setting(storage, each) for each in expected} == expected


async def test_migrations_go_where_the_url_says(postgres: Postgres, name: str) -> None:
    execute(postgres, name, "CREATE SCHEMA other")
    execute(postgres, name, "DROP TABLE messages, run_steps, runs, threads CASCADE")
    async with storage_at(postgres.url(name) + "&options=-csearch_path%3Dother") as storage:
        await storage.database.migrate()
        await make_thread(storage)
    execute(postgres, name, "SELECT id FROM other.threads")


async def test_a_limit_of_the_database_stays(postgres: Postgres, name: str) -> None:
    execute(postgres, name, f"ALTER DATABASE {name} SET statement_timeout = '9s'")
    async with storage_at(postgres.url(name)) as storage:
        assert await setting(storage, "statement_timeout") == "9s"


def test_a_password_of_any_characters() -> None:
    password = "p%40 +/:?#\N{LATIN SMALL LETTER A WITH DIAERESIS}'\"\\"
    url = f"postgresql://u%25:{quote(password, safe='')}@h:1/d%20b?sslmode=require"
    given = postgresql.parameters(parse_url(url))
    expected = {"user": "u%", "password": password, "host": "h", "port": 1, "dbname": "d b"}
    assert {each: given[each] for each in expected} == expected
    assert given["sslmode"] == "require"


def test_several_hosts() -> None:
    given = postgresql.parameters(parse_url("postgresql://u/d?host=a:1&host=b:2"))
    assert (given["host"], given["port"]) == ("a,b", "1,2")


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_another_default_isolation(postgres: Postgres, name: str, level: str) -> None:
    """What is read behind a lock is as it is then, not as it was before."""
    execute(postgres, name, f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    url = postgres.url(name)
    async with storage_at(url) as one, storage_at(url) as other:
        thread = await make_thread(one)

        def count_up(tx: Transaction) -> None:
            row = thread_lock.lock(tx, thread.id)
            tx.update(row, metadata_={"count": str(int(row.metadata_.get("count", "0")) + 1)})

        await asyncio.gather(
            *(
                storage.database.write(count_up, PROJECT, thread=thread.id)
                for storage in (one, other) * 10
            )
        )
        assert (await one.threads.get(PROJECT, thread.id)).metadata_ == {"count": "20"}


async def test_fewer_connections_than_threads(postgres: Postgres, name: str) -> None:
    """Those that there are serve everybody, whichever threads there are by then."""
    execute(postgres, name, "CREATE ROLE few LOGIN CONNECTION LIMIT 2")
    try:
        execute(postgres, name, "GRANT ALL ON ALL TABLES IN SCHEMA public TO few")
        url = make_url(postgres.url(name)).set(username="few")
        async with storage_at(url.render_as_string(hide_password=False)) as storage:
            ended = threading.Event()
            burst = [
                asyncio.create_task(storage.database.read(lambda _: ended.wait(60)))
                for _ in range(10)
            ]
            refused, _ = await asyncio.wait(burst, return_when=asyncio.FIRST_COMPLETED)
            assert {type(each.exception()) for each in refused} == {Unreachable}
            ended.set()
            outcomes = await asyncio.gather(*burst, return_exceptions=True)
            assert outcomes.count(True) >= 1
            for _ in range(50):
                await make_thread(storage)
    finally:
        execute(postgres, name, "DROP OWNED BY few")
        execute(postgres, name, "DROP ROLE few")


async def test_going_on_after_a_failure_commits_nothing(on_postgres: Storage) -> None:
    """The database would roll back, and call it no error."""
    thread = await make_thread(on_postgres)

    def go_on(tx: Transaction) -> None:
        tx.update(thread, last_position="changed")
        with contextlib.suppress(psycopg.Error):
            tx.run(sql("SELECT * FROM nowhere"))

    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        await on_postgres.database.write(go_on)
    assert await on_postgres.threads.get(PROJECT, thread.id) == thread


async def test_a_connection_whose_prepared_statements_have_gone(on_postgres: Storage) -> None:
    """As behind a pool of somebody else's. Whoever writes is told; whoever reads, reads again."""
    thread = await make_thread(on_postgres)
    deallocate = sql("DO $$ BEGIN DEALLOCATE ALL; END $$")
    for _ in range(5):
        await on_postgres.threads.modify(PROJECT, thread.id, {"tool_resources": NOTHING})
    await on_postgres.database.read(lambda tx: tx.run(deallocate))
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        await on_postgres.threads.modify(PROJECT, thread.id, {"tool_resources": NOTHING})
    for _ in range(5):
        await on_postgres.threads.get(PROJECT, thread.id)
    await on_postgres.database.read(lambda tx: tx.run(deallocate))
    assert await on_postgres.threads.get(PROJECT, thread.id) == thread


async def test_an_answer_that_comes_when_it_is_given_up(on_postgres: Storage) -> None:
    """The connection is not for others, who would be told that theirs had been silent."""
    thread = await make_thread(on_postgres)

    def answered(tx: Transaction) -> float:
        now = tx.now()
        connection: Connection = tx._cursor._connection  # type: ignore[attr-defined]
        connection._deadline = 0.0
        connection.give_up_if_silent()
        return now

    await on_postgres.database.get(answered)
    assert await on_postgres.threads.get(PROJECT, thread.id) == thread


async def test_a_plan_of_a_table_that_has_changed(on_postgres: Storage) -> None:
    """As another server changes it, which brings the schema up to date. All connections have it."""
    thread = await make_thread(on_postgres)
    together = threading.Barrier(10)

    def read(tx: Transaction) -> Thread:
        found = thread_lock.find(tx, thread.id)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(60)
        return found

    await asyncio.gather(*(on_postgres.database.get(read, PROJECT) for _ in range(10)))
    together.abort()
    changed = sql("ALTER TABLE threads ALTER COLUMN last_position TYPE text")
    await on_postgres.database.write(lambda tx: tx.run(changed))
    found = await asyncio.gather(*(on_postgres.database.get(read, PROJECT) for _ in range(40)))
    assert found == [thread] * 40


@pytest.mark.parametrize("limit", ["idle_in_transaction_session_timeout", "transaction_timeout"])
async def test_a_transaction_that_waits_for_us_too_long(
    postgres: Postgres, name: str, limit: str
) -> None:
    execute(postgres, name, f"ALTER DATABASE {name} SET {limit} = '50ms'")
    async with storage_at(postgres.url(name)) as storage:

        def wait(tx: Transaction) -> None:
            tx.now()
            backend = tx.value(sql("SELECT pg_backend_pid()"))
            alive = f"SELECT 1 FROM pg_stat_activity WHERE pid = {backend}"
            with psycopg.connect(postgres.url("postgres"), autocommit=True) as other:
                while other.execute(alive.encode()).fetchone():
                    pass
            tx.now()

        with pytest.raises(Unreachable):
            await storage.database.write(wait)
        execute(postgres, name, f"ALTER DATABASE {name} RESET {limit}")
        await make_thread(storage)


async def test_a_turn_that_does_not_come(
    on_postgres: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for it gets the error, also the last of many; and leaves nothing behind."""
    thread = await make_thread(on_postgres)
    monkeypatch.setattr(postgresql, "WAIT_SECONDS", 0.1)

    async def write() -> None:
        await on_postgres.messages.create(PROJECT, thread.id, user("Hi"))

    def hold(tx: Transaction) -> None:
        thread_lock.lock(tx, thread.id)
        loop.call_soon_threadsafe(held.set)
        assert ended.wait(60)

    loop, held, ended = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    holder = asyncio.create_task(on_postgres.database.write(hold, PROJECT, thread=thread.id))
    await held.wait()
    waiting = [asyncio.create_task(write()) for _ in range(20)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    ended.set()
    await holder
    assert {type(each) for each in outcomes} == {Unreachable}
    await write()


async def test_turns_pass_on_from_callers_that_go_away(on_postgres: Storage) -> None:
    thread = await make_thread(on_postgres)
    async with holding(on_postgres, thread.id):
        waiting = [
            asyncio.create_task(on_postgres.messages.create(PROJECT, thread.id, user("Hi")))
            for _ in range(100)
        ]
        await asyncio.sleep(0)
        for each in waiting[::2]:
            each.cancel()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) is asyncio.CancelledError for each in outcomes] == [True, False] * 50
    await on_postgres.database.close()
    count = sql("SELECT count(*) FROM messages")
    assert await on_postgres.database.read(lambda tx: tx.value(count)) == 100


async def test_a_lease_is_renewed_whoever_waits_for_a_thread(on_postgres: Storage) -> None:
    """Though all the connections of calls and of the run engine are waiting."""
    held = [await make_thread(on_postgres) for _ in range(10)]
    claims = [
        await claimed(on_postgres, await make_run(on_postgres, thread))
        for thread in [*held, await make_thread(on_postgres)]
    ]
    async with contextlib.AsyncExitStack() as holding_all, asyncio.timeout(60):
        for thread in held:
            await holding_all.enter_async_context(holding(on_postgres, thread.id))
        # They lock their threads.
        waiting = [
            asyncio.create_task(each)
            for claim, thread in zip(claims, held, strict=False)
            for each in (
                on_postgres.claims.release(claim),
                on_postgres.threads.modify(PROJECT, thread.id, {}),
            )
        ]
        await asyncio.sleep(0)
        assert await on_postgres.claims.renew(claims[-1]) == "in_progress"
    await asyncio.gather(*waiting)


async def test_who_writes_under_a_claim_waits_without_a_connection(on_postgres: Storage) -> None:
    thread = await make_thread(on_postgres)
    claim = await claimed(on_postgres, await make_run(on_postgres, thread))
    other = await make_run(on_postgres, await make_thread(on_postgres))
    async with holding(on_postgres, thread.id), asyncio.timeout(60):
        waiting = [asyncio.create_task(on_postgres.claims.release(claim)) for _ in range(8)]
        await asyncio.sleep(0)
        assert await on_postgres.claims.claim(other.id) is not None
    await asyncio.gather(*waiting, return_exceptions=True)
