"""The port to the tools that a model may call.

A tool is named by its `type`, the one that OpenAI's API has for it. Functions are the caller's: the
model calls them, and the run waits for the caller's outputs. All other tools are the server's: it
executes their calls during the run, and the model goes on with the results.
"""

from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from storage.rows import Run


@dataclass(frozen=True, slots=True)
class Offer:
    """How the model of a run gets at a tool."""

    function: dict[str, Any]
    """The tool as a function, as models know them: `{"type": "function", "function": {…}}`.

    Where a function of the caller's has its name, the tool gets another one.
    """
    ahead: bool = False
    """Whether the model is not shown the tool: the server calls it, once, ahead of the first turn.

    The arguments are then the newest text of the user, as it is.
    """


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool of the server's."""

    id: str
    run: Run
    number: int
    """Which call of the run it is, whatever the others have called, from 1.

    Texts cite the result at `index` in the `results` of its details as `【number:index†…】`.
    """
    arguments: str
    """As the model wrote them: JSON that follows the tool's definition, or anything else."""
    given: Mapping[str, Any]
    """The entry of the run's `tools` that the model has called, with its options."""
    room: int | None = None
    """How many tokens the output may take, about, so that the model can still read it.

    None where the model's context is not known.
    """
    ahead: bool = False
    """Whether the server calls it, ahead of the first turn, with the user's text as `arguments`."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a call while it is executed; it is streamed at once, and stays in the step.

    `details` are those of the call's type, in the form of OpenAI's deltas: `{"input": …}`, or
    `{"outputs": [{"index": 0, "type": "logs", "logs": …}]}`, with one of both in each. Texts add up
    in the step, lists by `index`. An output of type `image` also becomes an `image_file` part of
    the run's next message, ahead of its text.
    """

    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call; the last thing that its execution yields. It is stored with the step."""

    output: str
    """What the model is given, cut where the output of a function may be no longer."""
    details: dict[str, Any] = field(default_factory=dict)
    """What the step shows of it besides the deltas, under the call's type.

    `results`, `[{"file_id", "file_name", "score", "content": [{"type": "text", "text"}]}]`, are
    what texts may cite. Their `content` is shown to those only who ask for it by `include[]`.
    """
    files: Mapping[str, str] = field(default_factory=dict)
    """Files that the call has written: ids, by the absolute paths by which texts link to them.

    A link, `sandbox:/mnt/data/x.csv`, gets its annotation, and the message the file as an
    attachment. What no text has linked to is attached to the run's last message. A path that is
    written again gets its new file.
    """


class ToolFailed(Exception):
    """A call came to nothing. The message is what the model is given; it may try again."""


class ToolUnavailable(Exception):
    """The tool is of no use to the run, which fails with the message, as `server_error`."""


class Tool(Protocol):
    """What a model may call."""

    @property
    @abstractmethod
    def type(self) -> str:
        """The type of the tool, of its entries in a run's `tools`, and of its calls."""


class ServerTool(Tool, Protocol):
    """A tool whose calls the server executes.

    One instance serves all runs at once. It owns what it keeps between calls, and whoever made it
    closes it.
    """

    @abstractmethod
    async def offer(self, run: Run, given: Mapping[str, Any]) -> Offer | None:
        """Returns how an entry of the run's `tools` is offered; None where it is of no use to it.

        Asked once by each attempt at the run, ahead of its first turn. Raises ToolUnavailable,
        Unreachable; any other exception is a defect, with which the run fails.
        """

    @abstractmethod
    def execute(self, call: Call) -> AsyncGenerator[Delta | Result, None]:
        """Executes a call; yields deltas as they come, and the result last.

        The calls of a run come one at a time, in the model's order.

        The generator owns what it opens for the call, and is always closed. When the run is
        cancelled or expires, another worker takes it, or the server stops, the execution is broken
        off: CancelledError is raised where it waits, GeneratorExit where it has yielded. Of a run
        that ends so, the step keeps what the deltas have shown. A run that goes on elsewhere
        withdraws the step and has the model answer again. A turn whose calls have all ended and
        are stored is never repeated.

        Raises ToolFailed, and ToolUnavailable. Any other exception is a defect: it is logged, the
        model is given only that the tool has failed, and the run goes on. So is a CancelledError of
        the tool's own. Unreachable is passed on: the attempt gives the run back, as wherever else
        the database is away.
        """

    async def linked(self, run: Run, path: str) -> str | None:
        """Returns the id of the file that a text of the run links to by this path, if there is one.

        Asked only for files that no call of the run has written. Raises Unreachable; any other
        exception is a defect, which is logged, and the link stays a text.
        """
        return None

    async def forget(self, thread_id: str) -> None:
        """Drops what the tool keeps of a thread that is deleted; what runs there is broken off.

        An exception is a defect, which is logged: callers do not wait for this.
        """
        return  # Most keep nothing.
