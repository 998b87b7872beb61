"""The sequences of events of plain runs and of runs with calls, in the pieces they are made of.

tests/support/runs/grammar.py has the grammar of all streams."""

from collections.abc import Sequence

QUEUED = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
SPEAKING = [
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
]
COMPLETED = [
    "thread.message.completed",
    "thread.run.step.completed",
    "thread.run.completed",
    "done",
]
CALLING = [
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.run.step.delta",
    "thread.run.requires_action",
    "done",
]
RESUMED = ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress"]

PLAIN = [*QUEUED, *SPEAKING, *COMPLETED]
"""A run that answers with text; deltas that follow each other are shown as one."""

WITH_CALLS = [*QUEUED, *CALLING]
"""A run that calls functions."""

AFTER_OUTPUTS = [*RESUMED, *SPEAKING, *COMPLETED]
"""A run that answers with text once it has the outputs."""


def folded(names: Sequence[str]) -> list[str]:
    """Returns the names with each row of equal ones shown as one."""
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]
