"""Which sequences of events a stream may have, as semantics.md lists them: a regular grammar.

A word with a dot is an event, without its `thread.` or, for steps, its `thread.run.`; so are `done`
and `error`. Other words are rules. `?`, `*`, `+`, `|` and parentheses mean what they mean in
regular expressions.
"""

import re
from collections.abc import Sequence

RULES = {
    "message": "step.created step.in_progress message.created message.in_progress message.delta*",
    "calls": "step.created step.in_progress step.delta+",
    # What the server executes itself, the model goes on with in another turn.
    "executed": "message? calls message.completed? step.completed+",
    "turn": "run.in_progress executed* message? calls?",
    # What a dead attempt had begun is withdrawn, and the next one begins its turn anew.
    "dead": "turn message.incomplete? step.failed*",
    "beginning": "run.created run.queued | step.completed run.queued",
    "action": "turn message.completed? step.completed? run.requires_action done",
    "completed": "turn message.completed step.completed run.completed done",
    "failed": "turn message.incomplete? step.failed* run.failed done",
    "incomplete": "turn message.incomplete? step.completed* run.incomplete done",
    "cancelled": "turn? run.cancelling message.incomplete? step.cancelled* run.cancelled done",
    "expired": "turn? run.cancelling? message.incomplete? step.expired* run.expired done",
    "worked": "action | completed | failed | incomplete",
    "whole": "beginning dead* (worked | cancelled | expired)",
    # Deleting a thread cancels its runs without asking them first.
    "discarded": "turn? run.cancelling? message.incomplete? step.cancelled* run.cancelled done",
    "deleted": "whole | beginning dead* discarded",
    "unheard": "step.expired run.expired done | step.cancelled run.cancelled done",
    # What another server did is told from the rows, once the run has paused or ended there.
    "written": "message.created message.in_progress message.delta* message.ended?",
    "message.ended": "message.completed | message.incomplete",
    "step.ended": "step.completed | step.failed | step.cancelled | step.expired",
    "told": "step.created step.in_progress (written? | step.delta*) step.ended?",
    "missed": "(message.ended | step.ended)* told*",
    # Where several servers have buses of their own, none of them is told everything.
    "heard": "turn | message.incomplete | step.failed",
    "pause": "run.requires_action | run.completed | run.failed | run.incomplete",
    "end": "missed run.cancelling? (pause | run.cancelled | run.expired) done",
    "torn": "(beginning | heard)* (worked | discarded | expired | end | run.cancelling? error)",
}


def allows(rule: str, names: Sequence[str]) -> bool:
    """Tells whether the whole sequence of event names is one that the rule describes."""
    written = "".join(f"{_short(name)} " for name in names)
    return re.fullmatch(_pattern(rule), written) is not None


def _short(name: str) -> str:
    return name.removeprefix("thread.").replace("run.step.", "step.")


def _pattern(rule: str) -> str:
    parts = re.findall(r"[\w.]+|[()|?*+]", RULES[rule])
    return "".join(part if part in "()|?*+" else f"(?:{_word(part)})" for part in parts)


def _word(word: str) -> str:
    return _pattern(word) if word in RULES else re.escape(word) + " "
