"""What workers do to runs, as rules: also those that lost what they had claimed, or come late."""

import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st

from storage.claims import MessageEnd, RunEnd, StepEnd, Withdrawn
from storage.errors import ClaimLost
from storage.openings import open_message
from storage.tables import RunStatus, StepStatus
from tests.support.runs.run_machine import LEASE, Attempt, Machine, busy, move
from tests.support.runs.run_model import (
    ENDS,
    REASONS,
    STEP_ENDS,
    TOKENS,
    FromNow,
    Row,
    Run,
    Step,
    new_step,
)
from tests.support.storage.rows import call, start_message, start_tool_calls, text_part
from tests.support.types.samples import SEARCHED

T = TypeVar("T")

USAGES = st.tuples(st.integers(1, 99), st.integers(1, 9)).map(
    lambda tokens: dict(zip(TOKENS, (*tokens, sum(tokens)), strict=True))
)
"""What a turn has taken, where the model reports it."""

ERROR = {"code": "server_error", "message": "It failed."}

WORK = {
    "start_message": 4,
    "start_tool_calls": 3,
    "start_unwritten": 2,
    "require_action": 4,
    "end_turn": 2,
    "end": 3,
    "renew": 1,
    "ask": 1,
    "release": 1,
    "crash": 1,
    "break_down": 1,
}
"""What a worker does with a run, and how often it is tried."""

_call_numbers = itertools.count(1)


class Workers(Machine):
    """Their rules."""

    @property
    def holders(self) -> list[Attempt]:
        """The attempts that hold their runs; on the thread there can be one."""
        return [each for each in self.attempts if each.holds]

    @move(6, lambda self: busy(self) and not self.thread.active.leased(self.now))
    def claim_active(self, data: st.DataObject) -> None:
        assert self.thread.active is not None
        self.claim(self.thread.active)

    @move()
    def claim_any(self, data: st.DataObject) -> None:
        self.claim(self.draw_run(data))

    @move(8, lambda self: self.holders)
    def work(self, data: st.DataObject) -> None:
        """A worker goes on with its run."""
        work = data.draw(st.sampled_from([name for name in WORK for _ in range(WORK[name])]))
        getattr(self, work)(self.holders[0], data)

    @move(2, lambda self: busy(self) and len(self.attempts) > len(self.holders))
    def come_late(self, data: st.DataObject) -> None:
        """A worker goes on that lost its claim, or has let go of it."""
        late = [each for each in self.attempts if not each.holds]
        attempt = late[data.draw(st.integers(0, len(late) - 1))]
        getattr(self, data.draw(st.sampled_from(list(WORK))))(attempt, data)

    def claim(self, run: Run) -> None:
        """A worker claims a run, if it is to be had."""
        claiming = self.storage.claims.claim(run.id)
        if run.gone or not run.claimable(self.now):
            return self.nothing(claiming)
        claim = self.go(claiming)
        assert claim is not None
        assert claim.reclaimed == (run.status == "in_progress")
        assert _ids(claim.withdrawn) == self.thread.claim(run, claim, LEASE)
        assert claim.attempt == claim.run.attempt
        self.attempts.append(Attempt(claim, run))
        return self.returned(claim.run)

    def crash(self, attempt: Attempt, data: st.DataObject) -> None:
        """Nothing of it is published again."""
        self.attempts.remove(attempt)

    def break_down(self, attempt: Attempt, data: st.DataObject) -> None:
        """It does not know what it has begun, as the answer to a commit was lost: the run fails."""
        del attempt.steps[data.draw(st.integers(0, len(attempt.steps))) :]
        self.finish(attempt, "failed", None)

    def ask(self, attempt: Attempt, data: st.DataObject) -> None:
        """As a worker does that watches what it holds."""
        held = self.go(self.storage.claims.held([attempt.claim]))
        assert held == ({attempt.run.id: attempt.run.status} if attempt.holds else {})

    def renew(self, attempt: Attempt, data: st.DataObject) -> None:
        status = self.write(attempt, self.storage.claims.renew(attempt.claim), attempt.holds)
        assert status == (attempt.run.status if attempt.holds else None)

    def release(self, attempt: Attempt, data: st.DataObject) -> None:
        withdrawn = self.write(attempt, self.storage.claims.release(attempt.claim))
        if withdrawn is not None:
            assert _ids(withdrawn) == self.thread.release(attempt.run)

    def start_message(self, attempt: Attempt, data: st.DataObject) -> None:
        if any(step.message for step in attempt.open_steps) and attempt.holds:
            return  # A turn has one message.
        begun = self.write(attempt, start_message(self.storage, attempt.claim))
        if begun is not None:
            step, message = begun
            self.begin_step(attempt, step.id, "message_creation", message.id)
            self.thread.add_message(message.id, attempt.run)
            self.returned(step, message)

    def start_unwritten(self, attempt: Attempt, data: st.DataObject) -> None:
        """It begins a message, and the database is away."""
        if any(step.message for step in attempt.open_steps):
            return
        opening = open_message(attempt.claim.run, int(self.now), after=attempt.claim.last_position)
        assert opening.message is not None
        step = new_step(opening.step.id, opening.step.step_details, opening.message.id)
        step.row["created_at"] = opening.step.created_at
        attempt.unwritten.append((opening, step))

    def start_tool_calls(self, attempt: Attempt, data: st.DataObject) -> None:
        if any(not step.message for step in attempt.open_steps) and attempt.holds:
            return
        step = self.write(attempt, start_tool_calls(self.storage, attempt.claim))
        if step is not None:
            self.begin_step(attempt, step.id, "tool_calls")
            self.returned(step)

    def end_turn(self, attempt: Attempt, data: st.DataObject) -> None:
        """All that it has begun is completed; the run goes on."""
        self.save(attempt, "completed", data.draw(USAGES | st.none()), None)

    def end(self, attempt: Attempt, data: st.DataObject) -> None:
        """The run ends, with all that it has begun."""
        self.finish(attempt, data.draw(st.sampled_from(ENDS)), data.draw(USAGES | st.none()))

    def finish(self, attempt: Attempt, status: str, usage: Row | None) -> None:
        """The run ends so."""
        error = ERROR if status == "failed" else None
        reason = "max_completion_tokens" if status == "incomplete" else None
        self.save(attempt, status, usage, RunEnd(RunStatus(status), error, reason))

    def require_action(self, attempt: Attempt, data: st.DataObject) -> None:
        """The model has called functions."""
        calls, usage = data.draw(st.integers(1, 2)), data.draw(USAGES | st.none())
        if not any(not step.message for step in attempt.open_steps):
            self.start_tool_calls(attempt, data)
            self.holds()
        open_steps = attempt.open_steps
        ids = [f"call_{next(_call_numbers)}" for _ in range(calls)]
        executed = {"id": "call_s", "type": "file_search", "file_search": SEARCHED}
        own = data.draw(st.sampled_from([[], [executed], [executed, call("call_g", "no")]]))
        details = {"type": "tool_calls", "tool_calls": [*own, *(call(id) for id in ids)]}
        saved = self.write(
            attempt,
            self.storage.claims.save(
                attempt.claim,
                begun=[opening for opening, _ in attempt.unwritten],
                message=_message_end(open_steps, None),
                steps=[
                    StepEnd(step.id, StepStatus.completed)
                    if step.message
                    else StepEnd(step.id, StepStatus.in_progress, usage, step_details=details)
                    for step in open_steps
                ],
                run=RunEnd(RunStatus.requires_action),
            ),
        )
        if saved is None:
            return
        self.write_begun(attempt)
        assert saved.released is None
        for step in open_steps:
            if step.message:
                step.end("completed")
                self.thread.end_message(step.message, None)
            else:
                step.row |= {"step_details": details, "usage": usage}
        self.thread.await_outputs(attempt.run)
        self.returned(saved.message, *saved.steps, saved.run)

    def save(self, attempt: Attempt, status: str, usage: Row | None, run: RunEnd | None) -> None:
        """Saves all that an attempt has begun as the run's end wants it, and that end if given."""
        error, open_steps = run.last_error if run else None, attempt.open_steps
        saving = self.storage.claims.save(
            attempt.claim,
            begun=[opening for opening, _ in attempt.unwritten],
            message=_message_end(open_steps, REASONS[status]),
            steps=[
                StepEnd(
                    step.id,
                    StepStatus(STEP_ENDS[status]),
                    usage if step is open_steps[-1] else None,
                    error,
                )
                for step in open_steps
            ],
            run=run,
        )
        saved = self.write(attempt, saving, attempt.holds and _may_be(attempt.run, run))
        if saved is None:
            return
        self.write_begun(attempt)
        for step in open_steps:
            step.end(STEP_ENDS[status], usage if step is open_steps[-1] else None, error)
            self.thread.end_message(step.message, REASONS[status])
        released = None
        if run is not None:
            attempt.run.row |= {"last_error": error, "incomplete_reason": run.incomplete_reason}
            self.thread.withdraw(attempt.run)
            released = self.thread.end(attempt.run, status).released
        assert (saved.released and saved.released.id) == (released and released.id)
        self.returned(saved.message, *saved.steps, saved.run, saved.released)

    def write(
        self, attempt: Attempt, writing: Coroutine[Any, Any, T], allowed: bool | None = None
    ) -> T | None:
        """Writes if the attempt may, else it must be refused; what it may not is the default."""
        if allowed is None:
            allowed = attempt.holds and attempt.run.status == "in_progress"
        if not allowed:
            assert self.refused(ClaimLost, writing).run_id == attempt.run.id
            return None
        written = self.go(writing)
        attempt.run.row["lease_until"] = FromNow(LEASE, whole=False)
        return written

    def write_begun(self, attempt: Attempt) -> None:
        """What an attempt could not write before was written now."""
        for opening, step in attempt.unwritten:
            assert opening.message is not None
            attempt.run.steps.append(step)
            attempt.steps.append(step)
            self.thread.add_message(opening.message.id, attempt.run)
            self.thread.messages[opening.message.id]["created_at"] = opening.message.created_at
        attempt.unwritten = []

    def begin_step(self, attempt: Attempt, id: str, type: str, message: str | None = None) -> None:
        """An attempt has begun a step."""
        details: Row = {"type": type, "tool_calls": []}
        if message is not None:
            details = {"type": type, "message_creation": {"message_id": message}}
        step = new_step(id, details, message)
        attempt.run.steps.append(step)
        attempt.steps.append(step)


def _ids(withdrawn: Withdrawn) -> set[str]:
    steps = {step.id for step in withdrawn.steps}
    return steps | {message.id for message in withdrawn.messages}


def _message_end(steps: list[Step], reason: str | None) -> MessageEnd | None:
    for step in steps:
        if step.message:
            return MessageEnd(step.message, [text_part("Hello")], reason)
    return None


def _may_be(run: Run, end: RunEnd | None) -> bool:
    """Whether a worker that holds the run may save this of it."""
    if run.status == "cancelling":
        return end is not None and end.status in ("cancelled", "expired")
    return end is None or end.status != "cancelled"
