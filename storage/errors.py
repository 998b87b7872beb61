"""The errors that storage raises. service/errors.py turns them into errors of the API."""

from enum import StrEnum

GONE = "the database does not answer"
"""Why work is refused at once after the database has gone."""


class StorageError(Exception):
    """Base of the expected errors of repositories."""


class Unreachable(StorageError):
    """The database does not answer, or does not let us in; the message is one line."""


class DiskFull(Unreachable):
    """The database has no space left to write to; the message is one line."""


class TooOld(Unreachable):
    """The schema was made by newer code, and does not take this; the message is one line."""

    def __init__(self, own: int, oldest: int) -> None:
        super().__init__(
            f"its schema takes servers of version {oldest} or newer, and this one is of version "
            f"{own}: install a newer release"
        )


class NotFound(StorageError):
    """There is no such object in the project, or not under the named parent.

    `kind` is one of `assistant`, `thread`, `message`, `run`, `run step`.
    """

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"no {kind} {id}")
        self.kind = kind
        self.id = id


class ActiveRun(StorageError):
    """The thread takes no new run: a run of it is active."""

    def __init__(self, thread_id: str, run_id: str) -> None:
        super().__init__(f"{thread_id} has the active run {run_id}")
        self.thread_id = thread_id
        self.run_id = run_id


class LockedThread(ActiveRun):
    """The thread takes no new message: a run of it is active."""


class Quota(StrEnum):
    """What a project may have a limited number of, in words."""

    active_runs = "active runs"
    runs_per_minute = "runs per minute"
    tokens_per_minute = "tokens per minute"
    messages = "stored messages"


class QuotaExceeded(StorageError):
    """The project would have more than it may, which is `limit`.

    There is room again in `retry_after` seconds; None where that is not known.
    """

    def __init__(self, quota: Quota, limit: int, retry_after: float | None = None) -> None:
        super().__init__(f"{limit} {quota}")
        self.quota = quota
        self.limit = limit
        self.retry_after = retry_after


class InvalidCursor(StorageError):
    """`after` or `before` (named by `param`) is not an id of the listed kind."""

    def __init__(self, param: str, cursor: str) -> None:
        super().__init__(f"{param}: {cursor}")
        self.param = param
        self.cursor = cursor


class WrongStatus(StorageError):
    """Base: the run's status does not allow what was asked."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class NotCancellable(WrongStatus):
    """The run has ended or is being cancelled already."""


class NotAwaitingOutputs(WrongStatus):
    """The run does not wait for tool outputs."""


class WrongToolOutputs(StorageError):
    """The outputs are not exactly those of the pending calls."""

    def __init__(self, expected: list[str], got: list[str]) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


class ClaimLost(StorageError):
    """The attempt may not write: its run ended, was deleted, or was claimed by another.

    Or it is being cancelled: then the attempt may still end it as cancelled, and nothing else.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id
