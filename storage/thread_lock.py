"""Finding a thread, and the row lock that every write to one takes first."""

from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.errors import NotFound
from storage.lookup import by_id
from storage.tables import HOLDS_THREAD, Run, Thread


async def find(session: AsyncSession, project_id: str, thread_id: str) -> Thread:
    """Returns a thread without locking it. Raises NotFound."""
    return await _one(session, project_id, thread_id, locked=False)


async def lock(session: AsyncSession, project_id: str, thread_id: str) -> Thread:
    """Returns a thread, its row locked until the transaction ends. Raises NotFound.

    The first thing that a transaction does which writes to the thread, its messages, its runs or
    their steps: it puts such transactions in one order.
    """
    return await _one(session, project_id, thread_id, locked=True)


async def lock_of(session: AsyncSession, run_id: str) -> Thread | None:
    """Returns the locked thread of a run, or None when either is gone."""
    # Columns, not the row: read ahead of the lock, it would be out of date behind it.
    statement = select(Run.project_id, Run.thread_id).where(Run.id == run_id)
    if (parent := (await session.exec(statement)).one_or_none()) is None:
        return None
    try:
        return await lock(session, *parent)
    except NotFound:
        return None


async def _one(session: AsyncSession, project_id: str, thread_id: str, *, locked: bool) -> Thread:
    statement = select(Thread).where(Thread.project_id == project_id, Thread.id == thread_id)
    if locked:
        statement = statement.with_for_update()
    return await by_id(session, statement, "thread", thread_id)


async def active_run(session: AsyncSession, thread: Thread) -> str | None:
    """Returns the id of the run that holds the (locked) thread, if one does."""
    statement = select(Run.id).where(Run.thread_id == thread.id, HOLDS_THREAD)
    return (await session.exec(statement)).first()
