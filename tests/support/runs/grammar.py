"""Which sequences of events a stream may have: a regular grammar.

How to read a rule:

    step.created    with a dot: an event. `thread.` is left out, and for steps `thread.run.`
    done  error     the last event of a stream
    turn  calls     without a dot, or ending in `.ended`: another rule
    a b             a, then b
    a?  a*  a+      a once or not at all, any number of times, at least once
    a | b  ( )      a or b; grouping

A stream of one server is `whole`, or `deleted` where its thread was deleted meanwhile. A plain
answer is `beginning completed`: run.created run.queued, then run.in_progress and a message with its
deltas, then message.completed step.completed run.completed done. Where several servers share a
database, each with a bus of its own, a stream may be `interrupted`. What comes after a pause while
nobody follows is `afterwards`.
"""

import re
from collections.abc import Sequence

RULES = {
    # What one turn of a model begins.
    "message": "step.created step.in_progress message.created message.in_progress message.delta*",
    "calls": "step.created step.in_progress step.delta+",
    # What the server executes itself, the model goes on with in another turn.
    "executed": "message? calls message.completed? step.completed+",
    "turn": "run.in_progress executed* message? calls?",
    # What a dead attempt had begun is withdrawn, and the next one begins its turn anew.
    "dead": "turn message.incomplete? step.failed*",
    # A run is created, or gets its outputs.
    "beginning": "run.created run.queued | step.completed run.queued",
    # The last turn and the way in which the run pauses or ends.
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
    "afterwards": "step.expired run.expired done | step.cancelled run.cancelled done",
    # What another server did is published from the rows, once the run has paused or ended there.
    "stored": "message.created message.in_progress message.delta* message.ended?",
    "message.ended": "message.completed | message.incomplete",
    "step.ended": "step.completed | step.failed | step.cancelled | step.expired",
    "lacking": "step.created step.in_progress (stored? | step.delta*) step.ended?",
    "resync": "(message.ended | step.ended)* lacking*",
    # Where several servers have buses of their own, none of them receives everything.
    "received": "turn | message.incomplete | step.failed",
    "pause": "run.requires_action | run.completed | run.failed | run.incomplete",
    "end": "resync run.cancelling? (pause | run.cancelled | run.expired) done",
    "interrupted": (
        "(beginning | received)* (worked | discarded | expired | end | run.cancelling? error)"
    ),
}


def allows(rule: str, names: Sequence[str]) -> bool:
    """Returns whether the whole sequence of event names is one that the rule describes."""
    written = "".join(f"{_short(name)} " for name in names)
    return re.fullmatch(_pattern(rule), written) is not None


def _short(name: str) -> str:
    return name.removeprefix("thread.").replace("run.step.", "step.")


def _pattern(rule: str) -> str:
    parts = re.findall(r"[\w.]+|[()|?*+]", RULES[rule])
    return "".join(part if part in "()|?*+" else f"(?:{_word(part)})" for part in parts)


def _word(word: str) -> str:
    return _pattern(word) if word in RULES else re.escape(word) + " "
