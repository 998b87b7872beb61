"""Which session of the code interpreter a thread has, on which server, and which runs go there.

The session that was opened last is the thread's. A server that dies leaves what it had written: so
whatever is written is a hint, and nothing waits for that server for longer than its first second.
"""

from typing import Any

import sqlalchemy as sa

from storage import tables
from storage.errors import SessionElsewhere
from storage.repository import Repository, reads_all, writes_all
from storage.rows import Run, Thread, table
from storage.statements import Statement, one_of, param
from storage.tables import RunStatus
from storage.transaction import Transaction
from storage.transitions import epoch

FIRST_SECONDS = 1.0
"""Seconds for which a queued run is left to the server that has its thread's session."""

TOOL = "code_interpreter"
"""The type of the tool that has sessions: runs without it go anywhere."""

_THREADS = table(tables.Thread)
_RUNS = table(tables.Run)
_IS_THREAD = _THREADS.c.id == param("thread_id")
_SESSION = param("session", _THREADS.c.session_id)

SERVER: Statement[Any] = Statement(sa.select(_THREADS.c.session_server).where(_IS_THREAD))
IS_NEWEST: Statement[Any] = Statement(
    sa.select(_THREADS.c.id).where(_IS_THREAD, _THREADS.c.session_id == _SESSION)
)
OPENED: Statement[Any] = Statement(
    sa.update(_THREADS)
    .where(_IS_THREAD)
    .values(session_id=_SESSION, session_server=param("server", _THREADS.c.session_server))
)
CLOSED: Statement[Any] = Statement(
    sa.update(_THREADS)
    .where(_IS_THREAD, _THREADS.c.session_id == _SESSION)
    .values(session_id=sa.null(), session_server=sa.null())
)
QUEUED = Statement(
    sa.select(_RUNS).where(_RUNS.c.id == param("id"), one_of(_RUNS.c.status, [RunStatus.queued])),
    Run,
)


class Sessions(Repository):
    """The sessions of the code interpreter, of all projects. Each method is one transaction."""

    @reads_all
    def is_newest(self, tx: Transaction, thread_id: str, session_id: str) -> bool:
        """Returns whether the thread has this session, and no newer one."""
        return tx.one(IS_NEWEST, thread_id=thread_id, session=session_id) is not None

    @writes_all
    def opened(self, tx: Transaction, thread_id: str, session_id: str, server: str) -> str | None:
        """Gives the thread a session that `server` has opened.

        Returns the server of the one that it had until now, if that was not closed.
        """
        before: str | None = tx.value(SERVER, thread_id=thread_id)
        tx.run(OPENED, thread_id=thread_id, session=session_id, server=server)
        return before

    @writes_all
    def closed(self, tx: Transaction, thread_id: str, session_id: str) -> bool:
        """Takes a session from its thread; returns whether it was the newest, and the thread is."""
        return tx.run(CLOSED, thread_id=thread_id, session=session_id) > 0


def server_of(run: Run, thread: Thread) -> str | None:
    """Returns the server with the session that a run of the thread would go on with, if any."""
    return thread.session_server if any(tool["type"] == TOOL for tool in run.tools) else None


def is_elsewhere(run: Run, thread: Thread, server: str | None, now: float) -> bool:
    """Returns whether a queued run of a locked thread is another server's to claim, for now.

    `server` is the one that would claim it; None where runs can go to no other.
    """
    if server is None or server_of(run, thread) in (None, server):
        return False
    return now < run.queued_at + FIRST_SECONDS


def check(tx: Transaction, run_id: str, thread: Thread, server: str | None, now: float) -> None:
    """Raises SessionElsewhere where `is_elsewhere` is true of a run."""
    if server is None or thread.session_server in (None, server):
        return
    run = tx.one(QUEUED, id=run_id)
    if run is not None and is_elsewhere(run, thread, server, now):
        raise SessionElsewhere(run.id, epoch(run), run.assistant_id, thread.session_server)
