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


class NotYet(StorageError):
    """A queued run cannot be claimed yet, or not here.

    It is to be put into the queue again, for `server` first, which has its thread's session.
    """

    def __init__(self, run_id: str, epoch: int, assistant_id: str, server: str | None) -> None:
        super().__init__(run_id)
        self.run_id = run_id
        self.epoch = epoch
        self.assistant_id = assistant_id
        self.server = server


class FilesNotReady(NotYet):
    """The run waits for files of its thread that are being indexed."""


class SessionElsewhere(NotYet):
    """Another server has the session of the run's thread: for a moment, the run is its to claim."""


class TooOld(Unreachable):
    """The schema was made by newer code, and does not take this; the message is one line."""

    def __init__(self, own: int, oldest: int) -> None:
        super().__init__(
            f"its schema takes servers of version {oldest} or newer, and this one is of version "
            f"{own}: install a newer release"
        )


class NotFound(StorageError):
    """There is no such object in the project, or not under the named parent.

    `kind` is one of `assistant`, `thread`, `message`, `run`, `run step`, `file`, `upload`, `part`,
    `vector store`, `batch`.
    """

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"no {kind} {id}")
        self.kind = kind
        self.id = id


class NoSuchFile(NotFound):
    """There is no file of that id, which is the object of the call."""

    def __init__(self, id: str) -> None:
        super().__init__("file", id)


class NotInStore(NotFound):
    """The vector store has no such file."""

    def __init__(self, store_id: str, file_id: str) -> None:
        super().__init__("file", file_id)
        self.store_id = store_id


class StoreExpired(StorageError):
    """The vector store has expired: nothing can be done with it, but to delete it."""

    def __init__(self, store_id: str) -> None:
        super().__init__(store_id)
        self.store_id = store_id


class StoreExpiredForRun(StoreExpired):
    """A run would search in a vector store that has expired."""


class StoreFull(StorageError):
    """The vector store would have more files than it may."""

    def __init__(self, store_id: str, maximum: int) -> None:
        super().__init__(f"{store_id}: more than {maximum} files")
        self.store_id = store_id
        self.maximum = maximum


class NotCompleted(StorageError):
    """The file of a vector store has no text to read: it is not completed."""

    def __init__(self, store_id: str, file_id: str, status: str) -> None:
        super().__init__(f"{file_id} in {store_id} is {status}")
        self.store_id = store_id
        self.file_id = file_id
        self.status = status


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


class UploadEnded(WrongStatus):
    """The upload is not pending any more."""

    def __init__(self, upload_id: str, status: str) -> None:
        super().__init__(status)
        self.upload_id = upload_id


class WrongSize(StorageError):
    """The parts of an upload have not as many bytes as it was to have."""

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"expected {expected} bytes, got {got}")
        self.expected = expected
        self.got = got


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
