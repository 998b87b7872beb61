"""The port to the tools that a model may call.

A tool is named by its `type`, the one that OpenAI's API has for it. Functions are the caller's: the
model calls them, and the run waits for the caller's outputs. All other tools are the server's: it
executes their calls during the run, and the model goes on with the results.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from storage.rows import Run


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool of the server's."""

    id: str
    run: Run
    arguments: str
    """As the model wrote them: JSON that follows the tool's definition, or anything else."""
    given: Mapping[str, Any]
    """The entry of the run's `tools` that the model has called, with its options."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a call while it is executed; it is streamed at once, and stays in the step.

    `details` are those of the call's type, in the form of OpenAI's deltas: `{"input": …}`, or
    `{"outputs": [{"index": 0, "type": "logs", "logs": …}]}`.
    """

    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call; the last thing that its execution yields."""

    output: str
    """What the model is given, cut where the output of a function may be no longer."""
    details: dict[str, Any] = field(default_factory=dict)
    """What the step shows of it besides the deltas, under the call's type."""


class ToolFailed(Exception):
    """A call came to nothing. The message is what the model is given; it may try again."""


class Tool(Protocol):
    """What a model may call."""

    @property
    def type(self) -> str:
        """The type of the tool, of its entries in a run's `tools`, and of its calls."""

    def definition(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what the model is shown of an entry of `tools`: a function, as models know it."""


class ServerTool(Tool, Protocol):
    """A tool whose calls the server executes.

    One instance serves all runs at once. It owns what it keeps between calls, and whoever made it
    closes it.
    """

    def execute(self, call: Call) -> AsyncGenerator[Delta | Result, None]:
        """Executes a call; yields deltas as they come, and the result last.

        The calls of a run come one at a time, in the model's order.

        The generator owns what it opens for the call, and is always closed. When the run is
        cancelled or expires, another worker takes it, or the server stops, the execution is broken
        off: CancelledError is raised where it waits, GeneratorExit where it has yielded. Of a run
        that ends so, the step keeps what the deltas have shown. A run that goes on elsewhere
        withdraws the step and has the model answer again. A turn whose calls have all ended and
        are stored is never repeated.

        Raises ToolFailed. Any other exception is a defect: it is logged, the model is given only
        that the tool has failed, and the run goes on. So is a CancelledError of the tool's own.
        Unreachable is passed on: the attempt gives the run back, as wherever else the database is
        away.
        """
