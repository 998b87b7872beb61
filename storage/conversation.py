"""What a run's model reads: the messages of its thread, and what the run itself has done.

A thread is read from its newest message backwards, in portions: what a reader does not need of a
long thread is not read.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage import tables
from storage.rows import Message, Run, RunStep, table
from storage.statements import Statement, param
from storage.tables import MessageStatus
from storage.transaction import Transaction

_MESSAGES = table(tables.Message)
_STEPS = table(tables.RunStep)


@dataclass(frozen=True, slots=True)
class Context:
    """What a model is shown: the thread's newest messages, then what the run did; oldest first."""

    messages: list[Message]
    steps: list[RunStep]
    step_messages: dict[str, Message]
    """The messages that the steps wrote, by id."""


def _messages(up_to: sa.ColumnElement[bool]) -> Statement[Message]:
    """Returns the statement that reads a portion of what a run may read, newest first."""
    found = (
        sa.select(_MESSAGES)
        .where(
            _MESSAGES.c.thread_id == param("thread_id"),
            up_to,
            _MESSAGES.c.position <= param("until", _MESSAGES.c.position),
            _MESSAGES.c.status != sa.literal(str(MessageStatus.in_progress)),
        )
        .order_by(_MESSAGES.c.context_position.desc(), _MESSAGES.c.position.desc())
        .limit(param("limit", sa.column("", sa.Integer())))
    )
    return Statement(found, Message)


NEWEST = _messages(_MESSAGES.c.context_position <= param("until", _MESSAGES.c.position))
EARLIER = _messages(
    sa.tuple_(_MESSAGES.c.context_position, _MESSAGES.c.position)
    < sa.tuple_(
        param("context_position", _MESSAGES.c.position), param("position", _MESSAGES.c.position)
    )
)
STEPS = Statement(
    sa.select(_STEPS).where(_STEPS.c.run_id == param("run_id")).order_by(_STEPS.c.position), RunStep
)
WRITTEN = Statement(sa.select(_MESSAGES).where(_MESSAGES.c.run_id == param("run_id")), Message)


def read(tx: Transaction, run: Run, limit: int) -> Context:
    """Returns what the run's model may read; of the thread, the newest `limit` messages."""
    found = tx.all(NEWEST, thread_id=run.thread_id, until=run.context_until, limit=limit)
    steps = tx.all(STEPS, run_id=run.id)
    written = tx.all(WRITTEN, run_id=run.id)
    return Context(found[::-1], steps, {each.id: each for each in written})


def earlier(tx: Transaction, run: Run, before: Message, limit: int) -> list[Message]:
    """Returns up to `limit` messages that come right before one that was read, oldest first."""
    at: dict[str, Any] = {
        "context_position": before.context_position,
        "position": before.position,
    }
    found = tx.all(EARLIER, thread_id=run.thread_id, until=run.context_until, limit=limit, **at)
    return found[::-1]
