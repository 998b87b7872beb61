"""What repositories have in common: each of their methods is one transaction.

A method is written as a synchronous function of a transaction, and called, from the event loop,
with a project in its place: `def get(self, tx, id)` becomes `await repository.get(project, id)`.
What the run engine and the reconciler use is of all projects, and called without one.
"""

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from storage.database import Database
from storage.rows import Run
from storage.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound="Repository")
C = TypeVar("C", bound="OfRun")

Work = Callable[Concatenate[R, Transaction, P], T]
OfProject = Callable[Concatenate[R, str, P], Coroutine[Any, Any, T]]
OfAll = Callable[Concatenate[R, P], Coroutine[Any, Any, T]]
Kind = Callable[[Database], Callable[..., Coroutine[Any, Any, Any]]]
"""Which method of a database executes the work."""


class OfRun(Protocol):
    """What belongs to a run."""

    @property
    def run(self) -> Run:
        """The run."""


class Repository:
    """Base of the repositories."""

    def __init__(self, database: Database) -> None:
        """Works on `database`."""
        self.database = database


def gets(work: Work[R, P, T]) -> OfProject[R, P, T]:
    """Marks a method that reads a few rows by their keys, or a page by its index."""
    return _of_project(work, lambda database: database.get)


def gets_together(work: Work[R, P, T]) -> OfProject[R, P, T]:
    """Marks one whose rows must fit together: all are as they were at its first statement."""
    return _of_project(work, lambda database: partial(database.get, together=True))


def reads(work: Work[R, P, T]) -> OfProject[R, P, T]:
    """Marks a method that reads."""
    return _of_project(work, lambda database: database.read)


def reads_at_once(work: Work[R, P, T]) -> OfProject[R, P, T]:
    """Marks one that reads with a single statement."""
    return _of_project(work, lambda database: partial(database.read, at_once=True))


def writes(work: Work[R, P, T]) -> OfProject[R, P, T]:
    """Marks a method that writes, but to no chat thread that exists."""
    return _of_project(work, lambda database: database.write)


def _of_project(work: Work[R, P, T], transaction: Kind) -> OfProject[R, P, T]:
    @wraps(work)
    async def method(self: R, project: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        execute = transaction(self.database)
        call = _named(work, lambda tx: work(self, tx, *args, **kwargs))
        return cast(T, await execute(call, project))

    return method


def writes_to_thread(work: Work[R, P, T]) -> OfProject[R, P, T]:
    """Marks a method that writes to the chat thread whose id is its first argument."""
    return _writes_to_thread(work, alone=False)


def writes_whole_thread(work: Work[R, P, T]) -> OfProject[R, P, T]:
    """Marks one that takes as long as the thread is."""
    return _writes_to_thread(work, alone=True)


def _writes_to_thread(work: Work[R, P, T], *, alone: bool) -> OfProject[R, P, T]:
    @wraps(work)
    async def method(self: R, project: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = _named(work, lambda tx: work(self, tx, *args, **kwargs))
        return await self.database.write(call, project, thread=str(args[0]), alone=alone)

    return method


def reads_all(work: Work[R, P, T]) -> OfAll[R, P, T]:
    """Marks a method that reads rows of any project."""
    return _of_all(work, lambda database: database.read)


def writes_all(work: Work[R, P, T]) -> OfAll[R, P, T]:
    """Marks a method that writes rows of any project."""
    return _of_all(work, lambda database: database.write)


def writes_claimed(
    work: Callable[Concatenate[R, Transaction, C, P], T],
) -> Callable[Concatenate[R, C, P], Coroutine[Any, Any, T]]:
    """Marks a method that writes to the chat thread of a claim, which is its first argument."""

    @wraps(work)
    async def method(self: R, claim: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = _named(work, lambda tx: work(self, tx, claim, *args, **kwargs))
        return await self.database.write(call, thread=claim.run.thread_id)

    return method


def renews(work: Work[R, P, T]) -> OfAll[R, P, T]:
    """Marks a method that renews a lease of a run of any project, and locks no thread."""
    return _of_all(work, lambda database: database.renew)


def _of_all(work: Work[R, P, T], transaction: Kind) -> OfAll[R, P, T]:
    @wraps(work)
    async def method(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        execute = transaction(self.database)
        return cast(T, await execute(_named(work, lambda tx: work(self, tx, *args, **kwargs))))

    return method


def _named(
    work: Callable[..., Any], call: Callable[[Transaction], T]
) -> Callable[[Transaction], T]:
    """Gives a call of `work` its name, such as `Runs.create`: traces show it."""
    call.__qualname__ = work.__qualname__
    return call
