"""What callers of the API do to a thread and its runs, as rules."""

from hypothesis import strategies as st

from storage import rows as stored_rows
from storage.claims import Claim
from storage.errors import (
    ActiveRun,
    LockedThread,
    NotAwaitingOutputs,
    NotCancellable,
    NotFound,
    WrongToolOutputs,
)
from storage.pages import PageRequest
from storage.tables import Run as StoredRun
from tests.support.runs.run_machine import LEASE, LIFETIME, Attempt, Machine, move
from tests.support.runs.run_model import Run
from tests.support.storage.rows import PROJECT, new_run, user

WRONG = ("nothing", "too few", "too many", "twice", "another's")


class Callers(Machine):
    """Their rules."""

    @move(8, lambda self: self.thread.gone)
    def create_thread(self, data: st.DataObject) -> None:
        self.begin()

    @move(1, lambda self: len(self.thread.runs) > 2)
    def delete_thread(self, data: st.DataObject) -> None:
        ended = self.go(self.storage.threads.delete(PROJECT, self.thread.id))
        self.ended(ended, self.thread.delete())

    @move(4, lambda self: True)
    def create_run(self, data: st.DataObject) -> None:
        queue, messages = data.draw(st.booleans()), data.draw(st.integers(0, 1))
        claim = data.draw(st.booleans())
        creating = self.storage.runs.create(
            PROJECT,
            self.thread.id,
            new_run(lifetime=LIFETIME),
            [user("Hi")] * messages,
            queue=queue,
            claim=claim,
        )
        active = self.thread.active
        if self.thread.gone:
            self.refused(NotFound, creating)
        elif active is not None and not queue:
            assert self.refused(ActiveRun, creating).run_id == active.id
        else:
            created = self.go(creating)
            page = PageRequest(limit=100)
            listed = self.go(self.storage.messages.list(PROJECT, self.thread.id, page))
            added = {each.id for each in listed.data} - self.thread.messages.keys()
            assert len(added) == messages
            for id in added:
                self.thread.add_message(id)
            run = self.thread.add_run(created.run.id, LIFETIME)
            self.runs.append(run)
            assert (created.claim is not None) == (claim and not run.waiting)
            self.taken(run, created.run, created.claim)

    def taken(self, run: Run, queued: StoredRun, claim: Claim | None) -> None:
        """A run was queued, and maybe claimed at once: it is shown as it was before that."""
        assert queued.status == "queued"
        if claim is None:
            self.returned(queued)
            return
        changed = ("status", "attempt", "lease_until", "started_at")
        before, after = stored_rows.values(queued), stored_rows.values(claim.run)
        assert before | {name: after[name] for name in changed} == after
        assert (claim.attempt, claim.reclaimed) == (queued.attempt + 1, False)
        thread = self.go(self.storage.threads.get(PROJECT, self.thread.id))
        assert claim.last_position == thread.last_position
        assert self.thread.claim(run, claim, LEASE) == set()
        self.attempts.append(Attempt(claim, run))
        self.returned(claim.run)

    @move(1, lambda self: True)
    def create_message(self, data: st.DataObject) -> None:
        queue = data.draw(st.booleans())
        creating = self.storage.messages.create(PROJECT, self.thread.id, user("Hi"), queue=queue)
        active = self.thread.active
        if self.thread.gone:
            self.refused(NotFound, creating)
        elif active is not None and not queue:
            assert self.refused(LockedThread, creating).run_id == active.id
        else:
            created = self.go(creating)
            self.thread.add_message(created.id)
            self.returned(created)

    @move(1, lambda self: self.thread.messages)
    def delete_message(self, data: st.DataObject) -> None:
        """Also one that a run is writing."""
        id = data.draw(st.sampled_from(list(self.thread.messages)))
        self.go(self.storage.messages.delete(PROJECT, self.thread.id, id))
        del self.thread.messages[id]

    @move()
    def cancel(self, data: st.DataObject) -> None:
        run = self.draw_run(data)
        cancelling = self.storage.runs.cancel(PROJECT, run.thread_id, run.id)
        if run.gone:
            self.refused(NotFound, cancelling)
        elif run.status == "requires_action":
            self.ended([self.go(cancelling)], self.thread.end(run, "cancelled"))
        elif run.status in ("queued", "in_progress"):
            ended = self.go(cancelling)
            assert (ended.steps, ended.messages, ended.released) == ([], [], None)
            run.become("cancelling")
            self.returned(ended.run)
        else:
            assert self.refused(NotCancellable, cancelling).status == run.status

    @move(6, lambda self: self.waits_for_outputs)
    def submit_tool_outputs(self, data: st.DataObject) -> None:
        assert self.thread.active is not None
        wrong = data.draw(st.none() | st.sampled_from(WRONG))
        self.submit(self.thread.active, wrong, claim=data.draw(st.booleans()))

    @move()
    def submit_tool_outputs_anywhere(self, data: st.DataObject) -> None:
        self.submit(self.draw_run(data), None, claim=data.draw(st.booleans()))

    @property
    def waits_for_outputs(self) -> bool:
        """Whether the active run waits for them."""
        return self.thread.active is not None and self.thread.active.status == "requires_action"

    def submit(self, run: Run, wrong: str | None, *, claim: bool) -> None:
        """Submits the outputs of all pending calls, or not just these."""
        step = run.open_steps[0] if run.status == "requires_action" else None
        every = [] if step is None else step.row["step_details"]["tool_calls"]
        # The server has executed, or answered, the others.
        calls = [call for call in every if call.get("function", {"output": ""})["output"] is None]
        outputs = [(call["id"], f"output of {call['id']}") for call in calls][::-1]
        match wrong:
            case "nothing":
                outputs = []
            case "too few":
                outputs.pop() if outputs else None
            case "too many":
                outputs.append(("call_x", "?"))
            case "twice":
                outputs += outputs[:1]
            case "another's":
                outputs[:1] = [("call_x", "?")]
        submitting = self.storage.runs.submit_tool_outputs(
            PROJECT, run.thread_id, run.id, outputs, claim=claim
        )
        if run.gone:
            self.refused(NotFound, submitting)
        elif step is None:
            assert self.refused(NotAwaitingOutputs, submitting).status == run.status
        elif wrong is not None:
            error = self.refused(WrongToolOutputs, submitting)
            assert error.expected == [call["id"] for call in calls]
            assert error.got == [id for id, _ in outputs]
        else:
            submitted = self.go(submitting)
            given = dict(outputs)
            step.row["step_details"] = {
                "type": "tool_calls",
                "tool_calls": [
                    call | {"function": call["function"] | {"output": given[call["id"]]}}
                    if call in calls
                    else call
                    for call in every
                ],
            }
            step.end("completed")
            self.thread.queue_again(run)
            assert (submitted.claim is not None) == (claim and not run.expired(self.now))
            self.returned(submitted.step)
            self.taken(run, submitted.run, submitted.claim)
