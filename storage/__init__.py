"""Assistants, threads, messages, runs, files and keys in a database: tables behind repositories."""

from storage.assistants import Assistants
from storage.claims import Claims
from storage.database import Database
from storage.entry_claims import EntryClaims
from storage.files import Files
from storage.keys import Keys
from storage.messages import Messages
from storage.quotas import Counts, Quotas
from storage.runs import Runs
from storage.segments import Segments
from storage.sessions import Sessions
from storage.stale_runs import StaleRuns
from storage.threads import Threads
from storage.uploads import Uploads
from storage.vector_store_batches import VectorStoreBatches
from storage.vector_store_files import VectorStoreFiles
from storage.vector_stores import VectorStores


class Storage:
    """Every repository, on one database."""

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float = 15.0,
        quotas: Quotas | None = None,
        server: str | None = None,
    ) -> None:
        """Bundles the repositories; a claim holds for `lease_seconds` unless renewed.

        `quotas` are those of every project. Servers of one database have the same. `server` is the
        one that claims runs, or None where they go to no other, whatever sessions there are.
        """
        quotas = quotas or Quotas()
        self.database = database
        self.assistants = Assistants(database)
        self.threads = Threads(database, quotas)
        self.messages = Messages(database, quotas)
        self.runs = Runs(database, quotas, lease_seconds, server)
        self.claims = Claims(database, quotas, lease_seconds, server)
        self.files = Files(database)
        self.uploads = Uploads(database)
        self.vector_stores = VectorStores(database)
        self.vector_store_files = VectorStoreFiles(database)
        self.vector_store_batches = VectorStoreBatches(database)
        self.entry_claims = EntryClaims(database, lease_seconds)
        self.segments = Segments(database)
        self.sessions = Sessions(database)
        self.keys = Keys(database)
        self.counts = Counts(database)
        self.stale_runs = StaleRuns(database)
