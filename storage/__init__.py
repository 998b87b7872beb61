"""Assistants, threads, messages, runs and keys in a database: tables behind repositories."""

from storage.assistants import Assistants
from storage.claims import Claims
from storage.database import Database
from storage.keys import Keys
from storage.messages import Messages
from storage.quotas import Counts, Quotas
from storage.runs import Runs
from storage.stale_runs import StaleRuns
from storage.threads import Threads


class Storage:
    """Every repository, on one database."""

    def __init__(
        self, database: Database, *, lease_seconds: float = 15.0, quotas: Quotas | None = None
    ) -> None:
        """Bundles the repositories; a claim holds for `lease_seconds` unless renewed.

        `quotas` are those of every project. Servers of one database have the same.
        """
        quotas = quotas or Quotas()
        self.database = database
        self.assistants = Assistants(database)
        self.threads = Threads(database, quotas)
        self.messages = Messages(database, quotas)
        self.runs = Runs(database, quotas, lease_seconds)
        self.claims = Claims(database, quotas, lease_seconds)
        self.keys = Keys(database)
        self.counts = Counts(database)
        self.stale_runs = StaleRuns(database)
