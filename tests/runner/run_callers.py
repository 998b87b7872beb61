"""What callers of the API do to a thread and its runs, as rules."""

from hypothesis import strategies as st

from storage.errors import (
    ActiveRun,
    LockedThread,
    NotAwaitingOutputs,
    NotCancellable,
    NotFound,
    WrongToolOutputs,
)
from storage.pages import PageRequest
from tests.runner.run_machine import LIFETIME, Machine, move
from tests.runner.run_model import Run
from tests.storage.rows import PROJECT, new_run, user

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
        creating = self.storage.runs.create(
            PROJECT,
            self.thread.id,
            new_run(lifetime=LIFETIME),
            [user("Hi")] * messages,
            queue=queue,
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
            self.runs.append(self.thread.add_run(created.id, LIFETIME))
            self.returned(created)

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
        self.submit(self.thread.active, data.draw(st.none() | st.sampled_from(WRONG)))

    @move()
    def submit_tool_outputs_anywhere(self, data: st.DataObject) -> None:
        self.submit(self.draw_run(data), None)

    @property
    def waits_for_outputs(self) -> bool:
        """Whether the active run waits for them."""
        return self.thread.active is not None and self.thread.active.status == "requires_action"

    def submit(self, run: Run, wrong: str | None) -> None:
        """Submits the outputs of all pending calls, or not just these."""
        step = run.open_steps[0] if run.status == "requires_action" else None
        calls = [] if step is None else step.row["step_details"]["tool_calls"]
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
        submitting = self.storage.runs.submit_tool_outputs(PROJECT, run.thread_id, run.id, outputs)
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
                    for call in calls
                ],
            }
            step.end("completed")
            self.thread.queue_again(run)
            self.returned(submitted.run, submitted.step)
