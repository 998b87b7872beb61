"""Quotas of projects: what each may have at most, counted in the database, so across servers.

Whoever adds to a project locks its row first, if there is a quota, and behind its thread's lock: so
of two that want the last place one finds it taken. The row says how many messages are stored, and
what runs and tokens of late came to: the time at which all of it is a minute's worth ago. Runs that
have not ended are counted themselves. Without quotas, nothing of this is executed.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import tables
from storage.errors import Quota, QuotaExceeded
from storage.repository import Repository, writes_all
from storage.rows import Project, table
from storage.statements import Statement, param, project
from storage.tables import UNENDED
from storage.transaction import Transaction

MINUTE = 60.0

_PROJECTS = table(tables.Project)
_THREADS = table(tables.Thread)
_MESSAGES = table(tables.Message)
_RUNS = table(tables.Run)
_ONE = _PROJECTS.c.id == param("id")

LOCK = Statement(sa.select(_PROJECTS).where(_ONE).with_for_update(key_share=True), Project)
TAKE: Statement[Any] = Statement(
    sa.update(_PROJECTS)
    .where(_ONE)
    .values(
        messages=param("messages", _PROJECTS.c.messages),
        runs_free_at=param("runs_free_at", _PROJECTS.c.runs_free_at),
    )
)
# What nobody has counted stays so: null.
COUNT: Statement[Any] = Statement(
    sa.update(_PROJECTS)
    .where(_ONE)
    .values(messages=_PROJECTS.c.messages + param("number", _PROJECTS.c.messages))
)
_NOW = param("now", _PROJECTS.c.tokens_free_at)
SPEND: Statement[Any] = Statement(
    sa.update(_PROJECTS)
    .where(_ONE)
    .values(
        tokens_free_at=param("seconds", _PROJECTS.c.tokens_free_at)
        + sa.case((_PROJECTS.c.tokens_free_at > _NOW, _PROJECTS.c.tokens_free_at), else_=_NOW)
    )
)
FORGET: Statement[Any] = Statement(sa.update(_PROJECTS).values(messages=sa.null()))
UNENDED_RUNS: Statement[Any] = Statement(
    sa.select(sa.func.count()).select_from(
        sa.select(_RUNS.c.id)
        .where(_RUNS.c.project_id == project(), UNENDED)
        .limit(param("limit", sa.column("", sa.Integer())))
        .subquery("unended")
    )
)
IN_THREAD: Statement[Any] = Statement(
    sa.select(sa.func.count()).where(_MESSAGES.c.thread_id == param("thread_id"))
)
# Thread by thread: so it needs no index of its own, which every message would pay for.
STORED: Statement[Any] = Statement(
    sa.select(
        sa.func.sum(
            sa.select(sa.func.count())
            .where(_MESSAGES.c.thread_id == _THREADS.c.id)
            .scalar_subquery()
        )
    ).where(_THREADS.c.project_id == project())
)


@dataclass(frozen=True, slots=True)
class Quotas:
    """What each project may have at most; None is any number."""

    active_runs: int | None = None
    """Runs that have not ended, those included that wait behind others."""
    runs_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Tokens of prompts and answers. They are known afterwards: new runs wait for those before."""
    messages: int | None = None
    """Stored messages, those included that runs wrote."""

    def admit(self, tx: Transaction, now: float, *, messages: int, run: bool = False) -> None:
        """Takes places for messages, and for a run, in the transaction's project.

        A run needs room for an answer, too. Raises QuotaExceeded.
        """
        wanted = messages + run
        of_runs = (self.active_runs, self.runs_per_minute, self.tokens_per_minute)
        if not ((wanted and self.messages) or (run and any(of_runs))):
            return
        if (owner := tx.one(LOCK, id=tx.project)) is None:
            raise LookupError(f"there is no project {tx.project}")
        stored, runs_free_at = owner.messages, owner.runs_free_at
        if self.messages is not None:
            if stored is None:
                stored = int(tx.value(STORED) or 0)
            if stored + wanted > self.messages:
                raise QuotaExceeded(Quota.messages, self.messages)
            stored += messages
        if run:
            runs_free_at = self._admit_run(tx, now, owner)
        if (stored, runs_free_at) != (owner.messages, owner.runs_free_at):
            tx.run(TAKE, id=owner.id, messages=stored, runs_free_at=runs_free_at)

    def _admit_run(self, tx: Transaction, now: float, owner: Project) -> float | None:
        """Returns when the project's runs, with one more, are a minute's worth ago."""
        if (most := self.active_runs) is not None and tx.value(UNENDED_RUNS, limit=most) >= most:
            raise QuotaExceeded(Quota.active_runs, most)
        tokens_free_at = max(owner.tokens_free_at or 0.0, now)
        if (most := self.tokens_per_minute) is not None and tokens_free_at - now >= MINUTE:
            raise QuotaExceeded(Quota.tokens_per_minute, most, tokens_free_at - now - MINUTE)
        if (most := self.runs_per_minute) is None:
            return owner.runs_free_at
        free_at = max(owner.runs_free_at or 0.0, now) + MINUTE / most
        # Both are sums of fractions, of a large number.
        if (over := free_at - now - MINUTE) > MINUTE / most / 1000:
            raise QuotaExceeded(Quota.runs_per_minute, most, over)
        return free_at

    def count(self, tx: Transaction, project_id: str, messages: int) -> None:
        """Notes messages that were stored without being asked for, or, below zero, deleted."""
        if self.messages is not None and messages:
            tx.run(COUNT, id=project_id, number=messages)

    def count_thread(self, tx: Transaction, thread_id: str) -> None:
        """Notes that all messages of a locked thread are about to be deleted."""
        if self.messages is not None:
            self.count(tx, tx.project, -int(tx.value(IN_THREAD, thread_id=thread_id)))

    def spend(self, tx: Transaction, project_id: str, now: float, tokens: int) -> None:
        """Notes tokens that a model has taken."""
        if self.tokens_per_minute is not None and tokens:
            seconds = tokens * MINUTE / self.tokens_per_minute
            tx.run(SPEND, id=project_id, now=now, seconds=seconds)


class Counts(Repository):
    """What is counted of projects."""

    @writes_all
    def forget(self, tx: Transaction) -> None:
        """Has the messages of each project counted again when they are next needed.

        Servers without a quota do not count what they store: whoever has one does so at its start.
        """
        tx.run(FORGET)
