"""New runs: what a request decides, what its assistant adds, and the rows that are inserted."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from storage import assistants, ids
from storage.claims import Claim, Withdrawn
from storage.conversation import Context
from storage.lookup import by_id
from storage.rows import Assistant, Message, Run, Thread
from storage.tables import RunStatus
from storage.transaction import Transaction


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to insert."""

    assistant_id: str
    values: Mapping[str, Any]
    """What the request and the assistant decide, by the attributes of its row."""
    lifetime: int
    """In seconds."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a request decides of a run. Its assistant adds the rest, when the run is inserted."""

    assistant_id: str
    complete: Callable[[Assistant], NewRun]
    """Adds the assistant's values. What it raises, the caller of the repository gets."""
    files: Sequence[str] = ()
    """The files that the request gives to the run's tools."""
    stores: Sequence[str] = ()
    """The vector stores that it gives to them."""


@dataclass(frozen=True, slots=True)
class Created:
    """A new run as it was queued, its claim if it was taken at once, its thread if that is new."""

    run: Run
    claim: Claim | None
    thread: Thread | None = None


def complete(tx: Transaction, draft: Draft) -> NewRun:
    """Returns the run with its assistant's values. Raises NotFound."""
    return draft.complete(by_id(tx, assistants.GET, "assistant", draft.assistant_id))


def new_row(thread: Thread, new: NewRun, now: float, *, waiting: bool = False) -> Run:
    """Returns a queued run at the end of a locked thread; neither row is written yet."""
    context_until = thread.last_position or ids.new_position()
    thread.last_position = position = ids.next_position(context_until)
    return Run(
        id=ids.make_id(ids.RUN, position),
        project_id=thread.project_id,
        thread_id=thread.id,
        position=position,
        created_at=int(now),
        assistant_id=new.assistant_id,
        status=RunStatus.queued,
        waiting=waiting,
        queued_at=now,
        context_until=context_until,
        expires_at=int(now) + new.lifetime,
        **new.values,
    )


def taken(run: Run, now: float, lease: float, thread: list[Message] | None = None) -> Claim:
    """Returns the claim of a queued run that is not inserted yet: its row is the one to insert.

    `thread` is all that it may read, if that is known.
    """
    held = copy(run)
    held.status = RunStatus.in_progress
    held.attempt, held.lease_until, held.started_at = 1, now + lease, int(now)
    return first_claim(held, now, run.position, thread)


def first_claim(
    held: Run, now: float, last_position: str, thread: list[Message] | None = None
) -> Claim:
    """Returns the claim of a run that has just been queued: no other attempt has begun anything."""
    context = None
    if thread is not None:
        last = held.truncation_strategy["last_messages"]
        context = Context(thread if last is None else thread[-last:], [], {})
    return Claim(
        held,
        Withdrawn([], []),
        reclaimed=False,
        now=now,
        last_position=last_position,
        context=context,
    )
