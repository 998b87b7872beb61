"""The tables.

Every row of the API has `project_id`, and `position`, which orders it in its parent's list. JSON
columns hold OpenAI's own forms. What a caller may choose and did not is null, or has no key. Rows
are returned detached from their session: values, not live objects. Timestamps are unix seconds by
the database's clock; leases keep the fraction.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Float, ForeignKey, Index, String, Text, text
from sqlmodel import Field, SQLModel

from storage.columns import POSITION
from storage.columns import document as _document
from storage.columns import metadata as _metadata
from storage.columns import optional_document as _optional_document
from storage.columns import parent as _parent
from storage.columns import position as _position
from storage.columns import seconds as _seconds
from storage.columns import text as _text
from storage.file_tables import Blob as Blob
from storage.file_tables import Chunk as Chunk
from storage.file_tables import ChunkVectors as ChunkVectors
from storage.file_tables import File as File
from storage.file_tables import ResourceUse as ResourceUse
from storage.file_tables import Segment as Segment
from storage.file_tables import Upload as Upload
from storage.file_tables import VectorStore as VectorStore
from storage.file_tables import VectorStoreBatch as VectorStoreBatch
from storage.file_tables import VectorStoreFile as VectorStoreFile


class RunStatus(StrEnum):
    """How far a run is."""

    queued = "queued"  # waits for a worker
    in_progress = "in_progress"  # a worker holds its claim
    requires_action = "requires_action"  # waits for the caller's tool outputs
    cancelling = "cancelling"  # asked to stop; the worker that holds it ends it
    cancelled = "cancelled"
    failed = "failed"
    completed = "completed"
    incomplete = "incomplete"  # a token limit ended it
    expired = "expired"


class MessageStatus(StrEnum):
    """How far a message is."""

    in_progress = "in_progress"  # a run is writing it
    incomplete = "incomplete"  # broken off
    completed = "completed"


class StepStatus(StrEnum):
    """How far a step is."""

    in_progress = "in_progress"  # being done, or waiting for tool outputs
    cancelled = "cancelled"
    failed = "failed"
    completed = "completed"
    expired = "expired"


ACTIVE = (
    RunStatus.queued,
    RunStatus.in_progress,
    RunStatus.requires_action,
    RunStatus.cancelling,
)
"""Statuses in which a run locks its thread."""

HOLDS_THREAD = text(
    "status IN ('queued', 'in_progress', 'requires_action', 'cancelling') AND NOT waiting"
)
"""The condition of the index of active runs: queries use it that say the same, to the letter."""

UNENDED = text("expires_at IS NOT NULL")
WAITS = text("waiting")
"""Conditions of more indexes of runs that are used in the same way."""


class Project(SQLModel, table=True):
    """The owner of objects and of the keys that reach them."""

    __tablename__ = "projects"

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    created_at: int = _seconds(nullable=False)
    # What is counted for its quotas, where there are any (storage/quotas.py).
    messages: int | None = _seconds()
    """How many messages are stored; null while nobody has counted them."""
    runs_free_at: float | None = Field(default=None, sa_column=Column(Float(53)))
    """When the runs that were created are a minute's worth ago, in unix seconds."""
    tokens_free_at: float | None = Field(default=None, sa_column=Column(Float(53)))
    """The same of the tokens that models took."""


class ApiKey(SQLModel, table=True):
    """A key, of which nothing is stored but its digest."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("api_keys_by_position", "project_id", "position", unique=True),)

    id: str = Field(primary_key=True)
    project_id: str = Field(sa_column=Column(String, ForeignKey("projects.id"), nullable=False))
    position: str = _position()
    created_at: int = _seconds(nullable=False)
    name: str
    digest: str = Field(unique=True)
    """The key's SHA-256, in hexadecimal digits."""
    expires_at: int | None = _seconds()
    revoked_at: int | None = _seconds()


class Version(SQLModel, table=True):
    """A number that increases with every change of what servers keep in memory, named by its id.

    Who changes it updates the number first: so changes come one after another.
    """

    __tablename__ = "versions"

    id: str = Field(primary_key=True)
    number: int = _seconds(nullable=False)


class Assistant(SQLModel, table=True):
    """A model with instructions and tools."""

    __tablename__ = "assistants"
    __table_args__ = (Index("assistants_by_position", "project_id", "position", unique=True),)

    id: str = Field(primary_key=True)
    project_id: str
    position: str = _position()
    created_at: int = _seconds(nullable=False)
    name: str | None = None
    description: str | None = None
    model: str
    instructions: str | None = _text()
    tools: list[dict[str, Any]] = _document()
    tool_resources: dict[str, Any] = _document()
    metadata_: dict[str, str] = _metadata()
    temperature: float | None = None
    top_p: float | None = None
    response_format: Any = _document()
    reasoning_effort: str | None = None


class Thread(SQLModel, table=True):
    """A conversation. Whoever writes to it locks its row first."""

    __tablename__ = "threads"
    __table_args__ = (
        Index("threads_by_position", "project_id", "position", unique=True),
        # What the metadata filter looks through; SQLite has nothing of the kind.
        Index(
            "threads_by_metadata",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
        ).ddl_if(dialect="postgresql"),
    )

    id: str = Field(primary_key=True)
    project_id: str
    position: str = _position()
    created_at: int = _seconds(nullable=False)
    metadata_: dict[str, str] = _metadata()
    tool_resources: dict[str, Any] = _document()
    last_position: str | None = Field(default=None, sa_column=Column(POSITION))
    """The greatest position given to a message, run or step in it."""
    session_id: str | None = None
    """The newest session of the code interpreter that was opened for it and not closed."""
    session_server: str | None = None
    """The server that has it, or had when it died."""


class Message(SQLModel, table=True):
    """A message of a thread; `content` is a list of parts as responses show them."""

    __tablename__ = "messages"
    __table_args__ = (
        Index("messages_by_position", "thread_id", "position", unique=True),
        Index("messages_by_context", "thread_id", "context_position", "position"),
        Index("messages_by_run", "run_id", "position"),
    )

    id: str = Field(primary_key=True)
    project_id: str
    thread_id: str = _parent("threads.id")
    position: str = _position()
    context_position: str = _position()
    """Orders it in what models read: its position, or, of a run's answer, the last that it read.

    An answer belongs behind what its run had read, not behind messages that were added meanwhile.
    """
    created_at: int = _seconds(nullable=False)
    status: str
    role: str
    content: list[dict[str, Any]] = _document()
    attachments: list[dict[str, Any]] = _document()
    metadata_: dict[str, str] = _metadata()
    assistant_id: str | None = None
    run_id: str | None = None
    completed_at: int | None = _seconds()
    incomplete_at: int | None = _seconds()
    incomplete_reason: str | None = None


class Run(SQLModel, table=True):
    """An execution of an assistant on a thread."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("runs_by_position", "thread_id", "position", unique=True),
        Index(
            "one_active_run_per_thread",
            "thread_id",
            unique=True,
            sqlite_where=HOLDS_THREAD,
            postgresql_where=HOLDS_THREAD,
        ),
        # What the reconciler looks through: never more than the runs that have not ended.
        Index(
            "active_runs",
            "status",
            "waiting",
            "queued_at",
            sqlite_where=UNENDED,
            postgresql_where=UNENDED,
        ),
        Index(
            "runs_by_expiry",
            "waiting",
            "expires_at",
            sqlite_where=UNENDED,
            postgresql_where=UNENDED,
        ),
        Index(
            "unended_runs_by_project",
            "project_id",
            sqlite_where=UNENDED,
            postgresql_where=UNENDED,
        ),
        # Which one is released next: ended runs of its thread are not even looked at.
        Index("waiting_runs", "thread_id", "position", sqlite_where=WAITS, postgresql_where=WAITS),
    )

    id: str = Field(primary_key=True)
    project_id: str
    thread_id: str = _parent("threads.id")
    position: str = _position()
    created_at: int = _seconds(nullable=False)
    assistant_id: str
    status: str
    traceparent: str | None = None
    """The span of the call that queued it: W3C Trace Context. Attempts belong to its trace."""
    waiting: bool = False
    """Queued behind another run of its thread, and not yet in the workers' queue."""
    attempt: int = 0
    """Increased by every claim: a fencing token, on which every write of a worker is conditional.

    It also is the epoch of the run's events (see transitions.epoch).
    """
    lease_until: float | None = Field(default=None, sa_column=Column(Float(53)))
    """Until when the claim holds, in unix seconds."""
    queued_at: float = Field(sa_column=Column(Float(53), nullable=False))
    """When it last became queued, in unix seconds."""
    context_until: str = _position()
    """The last position of the thread that it may read."""
    model: str
    instructions: str = Field(sa_column=Column(Text, nullable=False))
    tools: list[dict[str, Any]] = _document()
    tool_resources: dict[str, Any] | None = _optional_document()
    """What its tools work on besides its thread's; no caller ever sees it."""
    include: list[str] | None = _optional_document()
    """What its creator wants to see of steps besides what they show to all."""
    metadata_: dict[str, str] = _metadata()
    temperature: float | None = None
    top_p: float | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    truncation_strategy: dict[str, Any] = _document()
    tool_choice: Any = _optional_document()
    parallel_tool_calls: bool | None = None
    response_format: Any = _document()
    reasoning_effort: str | None = None
    last_error: dict[str, str] | None = _optional_document()
    incomplete_reason: str | None = None
    usage: dict[str, int] | None = _optional_document()
    expires_at: int | None = _seconds()
    """When it expires; null once it has ended."""
    started_at: int | None = _seconds()
    cancelled_at: int | None = _seconds()
    failed_at: int | None = _seconds()
    completed_at: int | None = _seconds()


class RunStep(SQLModel, table=True):
    """One thing that a run did; `step_details` is as responses show it."""

    __tablename__ = "run_steps"
    __table_args__ = (Index("run_steps_by_position", "run_id", "position", unique=True),)

    id: str = Field(primary_key=True)
    project_id: str
    thread_id: str
    run_id: str = _parent("runs.id")
    position: str = _position()
    created_at: int = _seconds(nullable=False)
    assistant_id: str
    type: str
    status: str
    step_details: dict[str, Any] = _document()
    replay: dict[str, Any] | None = _optional_document()
    """What the model server gets back with the turn, for as long as the run goes on; no caller
    ever sees it. `turn` has fields of the turn, `calls` those of each call, as in step_details;
    `executed` has name, arguments and output of each that the server has executed, else null."""
    last_error: dict[str, str] | None = _optional_document()
    usage: dict[str, int] | None = _optional_document()
    expired_at: int | None = _seconds()
    cancelled_at: int | None = _seconds()
    failed_at: int | None = _seconds()
    completed_at: int | None = _seconds()
    metadata_: dict[str, str] = _metadata()
