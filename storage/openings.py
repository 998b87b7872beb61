"""What a run begins: steps and messages as rows that are made ahead of their write.

Their positions and times are settled when they are made, so that streams can show them at once. A
position is greater than every one that the thread had when the run was claimed, whatever the clocks
of other servers say.
"""

from dataclasses import dataclass
from typing import Any

from storage import ids
from storage.rows import Message, Run, RunStep
from storage.tables import MessageStatus, StepStatus


@dataclass(frozen=True, slots=True)
class Opening:
    """A step that begins, and the empty message that it writes, if it writes one."""

    step: RunStep
    message: Message | None = None

    @property
    def last_position(self) -> str:
        """The greatest of its positions."""
        last: str = self.step.position if self.message is None else self.message.position
        return last


def open_message(run: Run, now: int, *, after: str, ahead_of: RunStep | None = None) -> Opening:
    """Returns a step that writes a message, behind the position `after`.

    It stands ahead of the step of calls `ahead_of`, if given, although it begins later.
    """
    # The step comes first in the thread, and names the message that follows it.
    if ahead_of is not None:
        first, second = (ids.ahead_of(ahead_of.position, by) for by in (2, 1))
    else:
        first = ids.next_position(after)
        second = ids.next_position(first)
    message = Message(
        id=ids.make_id(ids.MESSAGE, second),
        project_id=run.project_id,
        thread_id=run.thread_id,
        position=second,
        context_position=run.context_until,
        created_at=now,
        status=MessageStatus.in_progress,
        role="assistant",
        content=[],
        attachments=[],
        metadata_={},
        assistant_id=run.assistant_id,
        run_id=run.id,
    )
    details = {"type": "message_creation", "message_creation": {"message_id": message.id}}
    return Opening(_step(run, first, now, details), message)


def open_tool_calls(run: Run, now: int, *, after: str) -> Opening:
    """Returns a step that calls tools, without calls yet, behind the position `after`."""
    # A message that the model comes to after them is to stand ahead of them.
    position = ids.next_position(after, room=2)
    return Opening(_step(run, position, now, {"type": "tool_calls", "tool_calls": []}))


def _step(run: Run, position: str, now: int, step_details: dict[str, Any]) -> RunStep:
    return RunStep(
        id=ids.make_id(ids.STEP, position),
        project_id=run.project_id,
        thread_id=run.thread_id,
        run_id=run.id,
        position=position,
        created_at=now,
        assistant_id=run.assistant_id,
        type=step_details["type"],
        status=StepStatus.in_progress,
        step_details=step_details,
        metadata_={},
    )
