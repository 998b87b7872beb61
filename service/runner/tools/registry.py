"""Which tools there are on this server, and which of them a run has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from service.runner.tools.function import Function
from service.runner.tools.tool import Offer, ServerTool, ToolUnavailable
from service.types.tools import UNAVAILABLE
from storage.errors import Unreachable
from storage.rows import Run

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool of the server's as one run has it: with the entry of its `tools`."""

    tool: ServerTool
    given: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of one run, by the names under which its model calls them."""

    definitions: Sequence[Mapping[str, Any]] = ()
    """What the model is shown."""
    functions: frozenset[str] = frozenset()
    """The names of the caller's functions."""
    offered: Mapping[str, Offered] = field(default_factory=dict)
    """The server's tools that the model calls."""
    ahead: Mapping[str, Offered] = field(default_factory=dict)
    """The server's tools that are called ahead of the first turn."""
    served: frozenset[str] = frozenset()
    """The types of the server's tools that the run has, be they offered or, at present, not."""

    def __getitem__(self, name: str) -> Offered | None:
        """Returns the server's tool of this name; None for functions, be they known or not."""
        return self.offered.get(name) or self.ahead.get(name)

    def is_function(self, name: str) -> bool:
        """Returns whether a call of this name is one of a function, which the caller executes.

        Without tools of the server's, whatever the model calls is the caller's.
        """
        return name in self.functions or not self.served

    def has(self, type: str) -> bool:
        """Returns whether the run has the server's tool of a type."""
        return type in self.served

    def choice(self, tool_choice: Any) -> Any:
        """Returns a tool choice as models know it: a server's tool is a function to them.

        One that the run does not have cannot be chosen.
        """
        if not isinstance(tool_choice, Mapping) or tool_choice["type"] == Function.type:
            return tool_choice
        for name, offered in self.offered.items():
            if offered.tool.type == tool_choice["type"]:
                return {"type": "function", "function": {"name": name}}
        return None

    async def linked(self, run: Run, path: str) -> str | None:
        """Returns the id of the file that a text links to, if one of the tools knows it."""
        for offered in self.offered.values():
            try:
                if (file_id := await offered.tool.linked(run, path)) is not None:
                    return file_id
            except Unreachable:
                raise
            except Exception:
                log.exception("link not resolved", tool=offered.tool.type)
        return None


class Registry:
    """The tools of this server."""

    def __init__(self, tools: Iterable[ServerTool] = ()) -> None:
        """Has functions, and these."""
        self._function = Function()
        self._tools = {tool.type: tool for tool in tools}

    async def forget(self, thread_id: str) -> None:
        """Has every tool drop what it keeps of a thread that is deleted."""
        for tool in self._tools.values():
            await tool.forget(thread_id)

    async def toolbox(self, run: Run) -> Toolbox:
        """Returns the tools of a run. Raises ToolUnavailable, Unreachable.

        A function keeps its name. A tool of the server's gets another one if a function has its.
        """
        definitions = list[Mapping[str, Any]]()
        offered, ahead = dict[str, Offered](), dict[str, Offered]()
        own = [each for each in run.tools if each["type"] == self._function.type]
        functions = frozenset(each["function"]["name"] for each in own)
        for given in run.tools:
            if given["type"] == self._function.type:
                definitions.append(self._function.definition(given))
                continue
            tool = self._tools.get(given["type"])
            offer = await _offer(tool, run, given)
            if tool is None or offer is None:
                continue
            name = offer.function["function"]["name"]
            while name in functions or name in offered or name in ahead:
                name += "_"
            if offer.ahead:
                ahead[name] = Offered(tool, given)
                continue
            offered[name] = Offered(tool, given)
            named = {**offer.function["function"], "name": name}
            definitions.append({**offer.function, "function": named})
        types = frozenset(each["type"] for each in run.tools) - {self._function.type}
        return Toolbox(definitions, functions, offered, ahead, types)


async def _offer(tool: ServerTool | None, run: Run, given: Mapping[str, Any]) -> Offer | None:
    """Asks a tool for its offer. Raises ToolUnavailable, also where asking it shows a defect."""
    if tool is not None:
        try:
            return await tool.offer(run, given)
        except (Unreachable, ToolUnavailable):
            raise
        except Exception:
            log.exception("tool not offered", tool=tool.type)
    raise ToolUnavailable(UNAVAILABLE.format(given["type"]))
