"""What must become of a thread and its runs: a model made from the specification, and from no code.

Rows are dicts of the columns that it knows about. Times are in unix seconds; one that only the
database knows is a `FromNow`, until it has been looked at.
"""

from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]

DIAGRAM = {
    "queued": {"in_progress", "cancelling", "expired"},
    "in_progress": {
        "completed",
        "failed",
        "incomplete",
        "requires_action",
        "cancelling",
        "expired",
    },
    "requires_action": {"queued", "cancelled", "expired"},
    "cancelling": {"cancelled", "expired"},
}
"""What a run may become, by what it is. What is not named has ended."""

STAMPS = {
    "in_progress": "started_at",
    "completed": "completed_at",
    "failed": "failed_at",
    "cancelled": "cancelled_at",
}

STEP_ENDS = {
    "completed": "completed",
    "incomplete": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
}
"""What becomes of an open step, by the end of its run."""

REASONS = {
    "completed": None,
    "incomplete": "max_tokens",
    "failed": "run_failed",
    "cancelled": "run_cancelled",
    "expired": "run_expired",
}
"""Why an open message is incomplete, by the end of its run."""

ENDS = tuple(STEP_ENDS)
TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(frozen=True)
class FromNow:
    """A time so many seconds after the operation, as a whole number or not."""

    seconds: float = 0
    whole: bool = True


@dataclass(frozen=True)
class Past:
    """Any time that has passed."""


@dataclass(eq=False)
class Step:
    """A step, and the message that it writes, if it does."""

    id: str
    row: Row
    message: str | None = None

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return bool(self.row["status"] == "in_progress")

    def end(self, status: str, usage: Row | None = None, error: Row | None = None) -> None:
        """It ends."""
        self.row |= {"status": status, f"{status}_at": FromNow(), "last_error": error}
        if usage is not None:
            self.row["usage"] = usage


@dataclass(eq=False)
class Run:
    """A run: its row, what it may read of the thread, who holds it, and what it has done."""

    id: str
    thread_id: str
    lifetime: int
    row: Row
    reads: set[str]
    holder: object | None = None
    """The attempt that may write. One whose lease has run out may do so until another claims."""
    steps: list[Step] = field(default_factory=list)
    gone: bool = False
    """Whether its thread was deleted."""

    def __repr__(self) -> str:
        return f"<{self.id}, {self.status}>"

    @property
    def status(self) -> str:
        """What the specification calls its state."""
        return str(self.row["status"])

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.status in DIAGRAM

    @property
    def waiting(self) -> bool:
        """Whether it is queued behind another run."""
        return bool(self.row["waiting"])

    @property
    def open_steps(self) -> list[Step]:
        """The steps that have not ended."""
        return [step for step in self.steps if step.open]

    def expired(self, now: float) -> bool:
        """Whether its time is up: it counts from the moment when it waits for no other run."""
        return self.active and not self.waiting and bool(self.row["expires_at"] <= now)

    def leased(self, now: float) -> bool:
        """Whether a worker holds it that gives signs of life."""
        return self.row["lease_until"] is not None and bool(self.row["lease_until"] > now)

    def claimable(self, now: float) -> bool:
        """Whether a worker may have it."""
        lost = self.status == "in_progress" and not self.leased(now)
        return (self.status == "queued" or lost) and not self.waiting and not self.expired(now)

    def become(self, status: str, **columns: Any) -> None:
        """Its state changes."""
        assert status in DIAGRAM[self.status] or status == self.status == "in_progress"
        self.row |= {"status": status, **columns}
        if status in STAMPS:
            self.row[STAMPS[status]] = FromNow()


@dataclass(frozen=True)
class Ending:
    """What has ended together, by id, and the run that was released by it."""

    rows: dict[str, Row]
    released: Run | None


class Thread:
    """A thread with its messages, and its runs in the order of their creation."""

    def __init__(self, id: str) -> None:
        """Holds nothing yet."""
        self.id = id
        self.runs: list[Run] = []
        self.messages: dict[str, Row] = {}
        self.gone = False

    @property
    def active(self) -> Run | None:
        """The run that holds the thread."""
        found = [run for run in self.runs if run.active and not run.waiting]
        assert len(found) <= 1
        return found[0] if found else None

    def add_message(self, id: str, run: Run | None = None) -> None:
        """A message is added: by a caller, or by a run that begins to write it."""
        self.messages[id] = {
            "status": "completed" if run is None else "in_progress",
            "created_at": FromNow(),
            "completed_at": FromNow() if run is None else None,
            "incomplete_at": None,
            "incomplete_reason": None,
            "run_id": None if run is None else run.id,
        }

    def add_run(self, id: str, lifetime: int) -> Run:
        """A run is created: it waits if another is active."""
        row = {
            "status": "queued",
            "waiting": self.active is not None,
            "created_at": FromNow(),
            "queued_at": FromNow(whole=False),
            "expires_at": FromNow(lifetime),
            "lease_until": None,
            "usage": None,
            "last_error": None,
            "incomplete_reason": None,
            **dict.fromkeys(STAMPS.values()),
        }
        self.runs.append(Run(id, self.id, lifetime, row, set(self.messages)))
        return self.runs[-1]

    def claim(self, run: Run, holder: object, lease: float) -> set[str]:
        """A worker claims the run; returns the ids of the withdrawn steps and messages."""
        run.become("in_progress", lease_until=FromNow(lease, whole=False))
        run.holder = holder
        return self.withdraw(run)

    def release(self, run: Run) -> set[str]:
        """The worker gives the run back; returns the ids of what is withdrawn."""
        run.row["lease_until"] = Past()
        run.holder = None
        return self.withdraw(run)

    def withdraw(self, run: Run) -> set[str]:
        """What the run has open is deleted; returns the ids."""
        steps = {step.id for step in run.open_steps}
        messages = self.open_messages(run)
        run.steps = [step for step in run.steps if not step.open]
        for id in messages:
            del self.messages[id]
        return steps | messages

    def open_messages(self, run: Run) -> set[str]:
        """The ids of the messages that the run has begun to write."""
        return {
            id
            for id, row in self.messages.items()
            if row["run_id"] == run.id and row["status"] == "in_progress"
        }

    def end_message(self, id: str | None, reason: str | None) -> None:
        """A message ends, unless it was deleted."""
        if (row := self.messages.get(id or "")) is None:
            return
        if reason is None:
            row |= {"status": "completed", "completed_at": FromNow()}
        else:
            row |= {"status": "incomplete", "incomplete_at": FromNow(), "incomplete_reason": reason}

    def await_outputs(self, run: Run) -> None:
        """The run waits for a caller."""
        run.become("requires_action", lease_until=None)
        run.holder = None

    def queue_again(self, run: Run) -> None:
        """The caller has submitted the outputs."""
        run.become("queued", lease_until=None, queued_at=FromNow(whole=False))

    def end(self, run: Run, status: str) -> Ending:
        """The run ends with what it has open, and the one that waits next is released."""
        rows = self._end_open(run, status)
        run.become(status, **_ended(run))
        run.holder = None
        return Ending(rows, self._release() if self.active is None else None)

    def delete(self) -> Ending:
        """The thread is deleted, and whatever run is active is cancelled."""
        rows: dict[str, Row] = {}
        for run in self.runs:
            if run.active:
                rows |= self._end_open(run, "cancelled")
                run.row |= {"status": "cancelled", "cancelled_at": FromNow(), **_ended(run)}
            run.gone, run.holder = True, None
        self.runs, self.messages, self.gone = [], {}, True
        return Ending(rows, None)

    def _end_open(self, run: Run, status: str) -> dict[str, Row]:
        rows = {run.id: run.row}
        for step in run.open_steps:
            step.end(STEP_ENDS[status])
            rows[step.id] = step.row
        for id in self.open_messages(run):
            self.end_message(id, REASONS[status])
            rows[id] = self.messages[id]
        return rows

    def _release(self) -> Run | None:
        for run in self.runs:
            if run.waiting and run.status == "queued":
                run.row |= {
                    "waiting": False,
                    "queued_at": FromNow(whole=False),
                    "expires_at": FromNow(run.lifetime),
                }
                run.reads = set(self.messages)
                return run
        return None


def _ended(run: Run) -> Row:
    reported = [step.row["usage"] for step in run.steps if step.row["usage"] is not None]
    usage = {key: sum(each[key] for each in reported) for key in TOKENS}
    return {"expires_at": None, "lease_until": None, "waiting": False, "usage": usage}


def new_step(id: str, details: Row, message: str | None = None) -> Step:
    """A step that begins."""
    ends = {f"{status}_at": None for status in STEP_ENDS.values()}
    row = {"status": "in_progress", "created_at": FromNow(), "step_details": details, **ends}
    return Step(id, row | {"usage": None, "last_error": None}, message)
