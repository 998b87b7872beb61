"""Which tools there are on this server, and which of them a run has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from service.runner.tools.function import Function
from service.runner.tools.tool import ServerTool

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool of the server's as one run has it: with the entry of its `tools`."""

    tool: ServerTool
    given: Mapping[str, Any]


class Toolbox:
    """The tools of one run, by the names under which its model calls them."""

    def __init__(
        self,
        definitions: list[dict[str, Any]],
        offered: Mapping[str, Offered],
        missing: Sequence[str],
    ) -> None:
        """Holds what the model is shown, and the server's tools by name."""
        self.definitions = definitions
        self.missing = missing
        """The types of tools that the run has and this server cannot offer."""
        self._offered = offered

    def __getitem__(self, name: str) -> Offered | None:
        """Returns the server's tool of this name; None for functions, be they known or not."""
        return self._offered.get(name)

    def choice(self, tool_choice: Any) -> Any:
        """Returns a tool choice as models know it: a server's tool is a function to them."""
        if isinstance(tool_choice, Mapping):
            for name, offered in self._offered.items():
                if offered.tool.type == tool_choice["type"]:
                    return {"type": "function", "function": {"name": name}}
        return tool_choice


class Registry:
    """The tools of this server."""

    def __init__(self, tools: Iterable[ServerTool] = ()) -> None:
        """Has functions, and these."""
        self._function = Function()
        self._tools = {tool.type: tool for tool in tools}

    def toolbox(self, tools: Sequence[Mapping[str, Any]]) -> Toolbox:
        """Returns the tools of a run.

        A function keeps its name. A tool of the server's gets another one if a function has its.
        """
        definitions, offered = list[dict[str, Any]](), dict[str, Offered]()
        missing = list[str]()
        taken = {each["function"]["name"] for each in tools if each["type"] == self._function.type}
        for given in tools:
            if given["type"] == self._function.type:
                definitions.append(self._function.definition(given))
                continue
            tool = self._tools.get(given["type"])
            definition = None if tool is None else _definition(tool, given)
            if tool is None or definition is None:
                missing.append(given["type"])
                continue
            name = definition["function"]["name"]
            while name in taken:
                name += "_"
            taken.add(name)
            offered[name] = Offered(tool, given)
            named = {**definition["function"], "name": name}
            definitions.append({**definition, "function": named})
        return Toolbox(definitions, offered, missing)


def _definition(tool: ServerTool, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the definition of a tool; None where making it is a defect, which is logged."""
    try:
        return tool.definition(given)
    except Exception:
        log.exception("tool not defined", tool=tool.type)
        return None
