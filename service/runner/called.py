"""A call of a turn: as its step shows it, and as the model has made it."""

from dataclasses import dataclass, field
from typing import Any

from service.runner.tools.registry import Offered
from service.runner.tools.tool import Result


@dataclass(slots=True)
class Called:
    """A call of a turn."""

    index: int
    """Its place in the step."""
    shown: dict[str, Any]
    name: str
    offered: Offered | None
    """The server's tool that it calls; None if it calls a function."""
    awaited: bool
    """Whether the caller is to execute it."""
    pieces: list[str] = field(default_factory=list)
    result: Result | None = None
    """What came of it, where it called a tool of the server's."""

    @property
    def arguments(self) -> str:
        """The arguments, as far as the model has come."""
        return "".join(self.pieces)

    @property
    def executed(self) -> dict[str, Any] | None:
        """What is replayed to the model of a call that the server has executed."""
        if self.result is None:
            return None
        kept = {"name": self.name, "arguments": self.arguments, "output": self.result.output}
        return kept | ({"files": dict(self.result.files)} if self.result.files else {})
