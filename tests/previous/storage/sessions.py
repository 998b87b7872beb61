"""What code without sessions of the code interpreter does: any server takes any run."""

from storage.repository import Repository
from storage.rows import Run, Thread
from storage.transaction import Transaction


class Sessions(Repository):
    """None."""


def server_of(run: Run, thread: Thread) -> None:
    return None


def is_elsewhere(run: Run, thread: Thread, server: str | None, now: float) -> bool:
    return False


def check(tx: Transaction, run_id: str, thread: Thread, server: str | None, now: float) -> None:
    return None
